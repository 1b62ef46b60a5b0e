//! What each side of a TLS connection shows, asks for and trusts.
//!
//! No function here makes a configuration that accepts a server unseen: a client trusts keys or authorities.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    server::ServerSessionMemoryCache,
    sign::SingleCertAndKey,
};

use super::{
    keys::{Identity, certificates_of},
    provider::provider,
    verify::{AnyKey, ByName, Pinned},
};
use crate::{
    io::{KeyId, Service},
    status::{Fault, Status},
};

/// Sessions that a server keeps for clients that cannot take tickets (TLS 1.2 only); the oldest goes first.
pub const SESSION_CACHE: usize = 256;

/// Which servers a client trusts.
#[derive(Clone, Debug)]
pub enum ServerTrust {
    /// Those that prove to hold one of these keys. Names, dates and issuers are ignored: the key is the identity.
    Pin(Vec<KeyId>),
    /// Those whose certificate is signed by an authority of this PEM text, is valid now and names the host that was
    /// asked for. Certificates in the text that cannot be read are passed over, as long as one can.
    Authorities(String),
}

/// The configuration of a listening side. Each connection shows the first of `identities` whose certificate names the
/// host that the client asked for, else the first whose kind of key it can verify. A client is asked for a certificate:
/// without one it stays unidentified, with one it must prove to hold the key, and that is all that is judged here.
///
/// A client that offers protocols and none of `alpn` is refused; one that offers none is not. Sessions resume by sealed
/// tickets, whose keys live in this configuration for at most twelve hours; there is no early data.
///
/// # Errors
/// `Config` without an identity or with an ALPN name that is not 1 to 255 octets; `Io` when the system gives no randomness.
pub fn server_config(identities: &[&Identity], alpn: &[&str]) -> Result<Arc<ServerConfig>, Fault> {
    server_config_for(rustls::ALL_VERSIONS, identities, alpn)
}

/// The configuration of a connecting side, which proves to be `identity` when the server asks.
///
/// A server that does not select one of `alpn` is refused; an empty list asks for none.
///
/// # Errors
/// `Config` when nothing is trusted, a PEM text has no certificate that can be used, or with an ALPN name that is not 1
/// to 255 octets.
pub fn client_config(
    identity: Option<&Identity>,
    trust: ServerTrust,
    alpn: &[&str],
) -> Result<Arc<ClientConfig>, Fault> {
    client_config_for(rustls::ALL_VERSIONS, identity, trust, alpn)
}

/// The same configuration for other protocols: identity, tickets and cache are shared.
pub fn offering(server: &Arc<ServerConfig>, services: &[Service]) -> Arc<ServerConfig> {
    let mut server = ServerConfig::clone(server);
    server.alpn_protocols = services.iter().map(|service| service.alpn().as_bytes().to_vec()).collect();
    Arc::new(server)
}

pub(super) fn server_config_for(
    versions: &[&'static SupportedProtocolVersion],
    identities: &[&Identity],
    alpn: &[&str],
) -> Result<Arc<ServerConfig>, Fault> {
    if identities.is_empty() {
        return Err(config(
            "a TLS server needs a private key and certificate: make one with `hailpost keygen`",
        ));
    }
    let provider = Arc::new(provider());
    let clients = AnyKey { algorithms: provider.signature_verification_algorithms };
    let shown = identities.iter().map(|identity| identity.certified().clone()).collect();
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("ring has cipher suites for both versions")
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(Arc::new(ByName(shown)));
    server.alpn_protocols = alpn_list(alpn)?;
    server.ticketer = ring::Ticketer::new()
        .map_err(|_| Fault::new(Status::Io, "the system gave no randomness for the keys of TLS tickets"))?;
    server.session_storage = ServerSessionMemoryCache::new(SESSION_CACHE);
    // One ticket is enough: it carries the client's certificate, and a client of ours has one connection.
    server.send_tls13_tickets = 1;
    // Without it a TLS 1.2 session could be spliced onto another and keep its proven key (RFC 7627 §1).
    server.require_ems = true;
    Ok(Arc::new(server))
}

pub(super) fn client_config_for(
    versions: &[&'static SupportedProtocolVersion],
    identity: Option<&Identity>,
    trust: ServerTrust,
    alpn: &[&str],
) -> Result<Arc<ClientConfig>, Fault> {
    let provider = Arc::new(provider());
    let servers = server_verifier(trust, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("ring has cipher suites for both versions")
        // rustls calls every verifier but its own dangerous; ours verify signatures through the provider.
        .dangerous()
        .with_custom_certificate_verifier(servers);
    let mut client = match identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified().clone())))
        }
        None => builder.with_no_client_auth(),
    };
    client.alpn_protocols = alpn_list(alpn)?;
    // One server is all that such a configuration talks to; rustls counts eight tickets a server.
    client.resumption = Resumption::in_memory_sessions(8);
    client.require_ems = true;
    Ok(Arc::new(client))
}

fn server_verifier(
    trust: ServerTrust,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Fault> {
    match trust {
        ServerTrust::Pin(keys) if keys.is_empty() => {
            Err(config("no server key is pinned: give the 64 digits that the server's keygen printed"))
        }
        ServerTrust::Pin(keys) => {
            Ok(Arc::new(Pinned { keys, algorithms: provider.signature_verification_algorithms }))
        }
        ServerTrust::Authorities(text) => {
            let mut roots = RootCertStore::empty();
            let (usable, unusable) = roots.add_parsable_certificates(certificates_of(&text)?);
            if usable == 0 {
                return Err(config(match unusable {
                    0 => "the authorities' PEM text has no certificate (BEGIN CERTIFICATE)",
                    _ => "the authorities' PEM text has no certificate that can be read",
                }));
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            Ok(verifier.build().expect("there are roots and no revocation lists"))
        }
    }
}

fn alpn_list(names: &[&str]) -> Result<Vec<Vec<u8>>, Fault> {
    match names.iter().all(|name| (1..=255).contains(&name.len())) {
        true => Ok(names.iter().map(|name| name.as_bytes().to_vec()).collect()),
        false => Err(config("an ALPN name has 1 to 255 octets")),
    }
}

fn config(detail: &str) -> Fault {
    Fault::new(Status::Config, detail)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::{
        pki_types::CertificateDer,
        sign::CertifiedKey,
        version::{TLS12, TLS13},
    };

    use super::{
        super::{testing::*, verify::CLIENT_CERTIFICATE_LIMIT},
        *,
    };

    fn identity() -> Identity {
        Identity::generate("test").unwrap()
    }

    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new(name: &str) -> Authority {
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
        }

        fn trust(&self) -> ServerTrust {
            ServerTrust::Authorities(pem_of(self.0.der()))
        }

        fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            change(&mut params);
            let certificate = params.signed_by(&key, &self.0).unwrap();
            let key = pem::encode(&pem::Pem::new("PRIVATE KEY", key.serialized_der()));
            Identity::from_pem(&pem_of(certificate.der()), &key).unwrap()
        }
    }

    fn pem_of(certificate: &CertificateDer<'_>) -> String {
        pem::encode(&pem::Pem::new("CERTIFICATE", certificate.to_vec()))
    }

    fn shake(
        version: &'static SupportedProtocolVersion,
        server: &Identity,
        client: Option<&Identity>,
        trust: ServerTrust,
    ) -> Pair {
        let server = server_config_for(&[version], &[server], &[ALPN]).unwrap();
        let client = client_config_for(&[version], client, trust, &[ALPN]).unwrap();
        let mut pair = Pair::new(&client, "backend.example", &server);
        pair.run();
        pair
    }

    fn refused(pair: &Pair) -> Fault {
        assert!(!pair.server.done(), "the server must not be served a refused handshake");
        pair.client.fault.clone().expect("the client refuses")
    }

    #[test]
    fn both_versions_with_and_without_a_client_key() {
        let (server, client) = (identity(), identity());
        for version in VERSIONS {
            for shown in [None, Some(&client)] {
                let pair = shake(version, &server, shown, ServerTrust::Pin(vec![server.key_id()]));
                assert!(pair.client.done() && pair.server.done(), "{:?}", pair.faults());
                assert_eq!(pair.client.tls.peer_key(), Some(server.key_id()));
                assert_eq!(pair.server.tls.peer_key(), shown.map(Identity::key_id));
                assert_eq!((pair.client.tls.alpn(), pair.server.tls.alpn()), (Some(ALPN), Some(ALPN)));
                assert_eq!(pair.server.tls.version(), Some(version.version));
            }
        }
    }

    #[test]
    fn a_pin_is_one_of_several_and_a_wrong_one_is_told() {
        let (server, other) = (identity(), identity());
        for version in VERSIONS {
            let pins = ServerTrust::Pin(vec![other.key_id(), server.key_id()]);
            assert!(shake(version, &server, None, pins).server.done());
            let pair = shake(version, &server, None, ServerTrust::Pin(vec![other.key_id()]));
            let fault = refused(&pair);
            assert_eq!(fault.status, Status::Identity);
            assert!(fault.detail.contains(&server.key_id().to_string()), "{fault}");
            assert_eq!(pair.client.counters.bad_identity, 1);
            assert_eq!(pair.client.tls.peer_key(), None);
            let told = pair.server.fault.as_ref().unwrap();
            assert_eq!(told.status, Status::Tls);
            assert!(told.detail.contains("does not trust"), "{told}");
            assert_eq!(pair.server.counters.refused_by_peer, 1);
        }
    }

    /// Shows another's certificate, whose key it does not have.
    fn impostor(victim: &Identity) -> Arc<CertifiedKey> {
        Arc::new(CertifiedKey::new(victim.certified().cert.clone(), identity().certified().key.clone()))
    }

    #[test]
    fn a_certificate_without_its_key_proves_nothing() {
        let (server, client) = (identity(), identity());
        for version in VERSIONS {
            let honest = client_config_for(
                &[version],
                Some(&client),
                ServerTrust::Pin(vec![server.key_id()]),
                &[ALPN],
            )
            .unwrap();
            let mut forged = (*server_config_for(&[version], &[&server], &[ALPN]).unwrap()).clone();
            forged.cert_resolver = Arc::new(ByName(vec![impostor(&server)]));
            let mut pair = Pair::new(&honest, "backend.example", &Arc::new(forged));
            pair.run();
            assert_eq!(refused(&pair).status, Status::Identity);

            let server = server_config_for(&[version], &[&server], &[ALPN]).unwrap();
            let mut forged = (*honest).clone();
            forged.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(impostor(&client)));
            forged.resumption = Resumption::disabled();
            let mut pair = Pair::new(&Arc::new(forged), "backend.example", &server);
            pair.run();
            assert_eq!(pair.server.fault.as_ref().unwrap().status, Status::Identity);
            assert_eq!(pair.server.tls.peer_key(), None);
        }
    }

    #[test]
    fn authorities() {
        let (authority, stranger, namesake) =
            (Authority::new("ours"), Authority::new("another"), Authority::new("ours"));
        let good = authority.sign("backend.example", |_| {});
        let old = authority.sign("backend.example", |params| {
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        });
        let early = authority.sign("backend.example", |params| {
            params.not_before = rcgen::date_time_ymd(4000, 1, 1);
        });
        let elsewhere = authority.sign("other.example", |_| {});
        let client_only = authority.sign("backend.example", |params| {
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        });
        let both = ServerTrust::Authorities(pem_of(stranger.0.der()) + &pem_of(authority.0.der()));
        for version in VERSIONS {
            assert!(shake(version, &good, None, authority.trust()).server.done());
            assert!(shake(version, &good, None, both.clone()).server.done());
            for (server, trust, why) in [
                (&good, stranger.trust(), "authorit"),
                (&good, namesake.trust(), "authorit"),
                (&identity(), authority.trust(), "authorit"),
                (&old, authority.trust(), "expired"),
                (&early, authority.trust(), "clock"),
                (&elsewhere, authority.trust(), "host name"),
                (&client_only, authority.trust(), "server"),
            ] {
                let pair = shake(version, server, None, trust);
                let fault = refused(&pair);
                assert_eq!(fault.status, Status::Identity);
                assert!(fault.detail.contains(why), "{why}: {fault}");
                assert!(!fault.detail.contains(".example"), "no peer's name: {fault}");
                assert_eq!(pair.client.counters.bad_identity, 1);
            }
            // What is pinned needs no name, date or issuer.
            assert!(shake(version, &old, None, ServerTrust::Pin(vec![old.key_id()])).server.done());
        }
    }

    #[test]
    fn a_self_signed_certificate_can_be_its_own_authority() {
        let server = Identity::generate("backend.example").unwrap();
        let trust = ServerTrust::Authorities(server.certificate_pem());
        assert!(shake(&TLS13, &server, None, trust).server.done());
        let server = Identity::generate("other.example").unwrap();
        let trust = ServerTrust::Authorities(server.certificate_pem());
        assert_eq!(refused(&shake(&TLS13, &server, None, trust)).status, Status::Identity);
    }

    #[test]
    fn authorities_that_cannot_be_used() {
        let unreadable = pem::encode(&pem::Pem::new("CERTIFICATE", b"none".to_vec()));
        let usable = pem_of(Authority::new("ours").0.der());
        for text in [
            String::new(),
            identity().to_pem().split("-----BEGIN C").next().unwrap().into(),
            unreadable.clone(),
        ] {
            let fault = client_config(None, ServerTrust::Authorities(text), &[ALPN]).unwrap_err();
            assert_eq!(fault.status, Status::Config);
            assert!(fault.detail.contains("no certificate"), "{fault}");
        }
        client_config(None, ServerTrust::Authorities(unreadable + &usable), &[ALPN]).unwrap();
    }

    #[test]
    fn what_cannot_be_configured() {
        let status = |result: Result<Arc<ClientConfig>, Fault>| result.unwrap_err().status;
        assert_eq!(status(client_config(None, ServerTrust::Pin(vec![]), &[ALPN])), Status::Config);
        let pin = ServerTrust::Pin(vec![KeyId([0; 32])]);
        for name in ["", &"x".repeat(256)] {
            assert_eq!(status(client_config(None, pin.clone(), &[name])), Status::Config);
            assert_eq!(server_config(&[&identity()], &[ALPN, name]).unwrap_err().status, Status::Config);
        }
        assert_eq!(server_config(&[], &[ALPN]).unwrap_err().status, Status::Config);
    }

    #[test]
    fn alpn_must_agree() {
        let server_key = identity();
        for version in VERSIONS {
            for (ours, theirs, agree) in [
                (&["hail-gw/1"][..], &["hail-gw/1"][..], true),
                (&["hail-app/1", "hail-gw/1"], &["hail-gw/1"], true),
                (&[], &[], true),
                (&["hail-gw/1"], &["hail-app/1"], false),
                (&["hail-gw/1"], &[], false),
                (&[], &["hail-gw/1"], true),
            ] {
                let pin = ServerTrust::Pin(vec![server_key.key_id()]);
                let client = client_config_for(&[version], None, pin, ours).unwrap();
                let server = server_config_for(&[version], &[&server_key], theirs).unwrap();
                let mut pair = Pair::new(&client, "backend.example", &server);
                pair.run();
                assert_eq!(pair.client.done() && pair.server.done(), agree, "{ours:?} {theirs:?}");
                if !agree {
                    // Whoever asked for a protocol refuses, and says so; nothing is let through.
                    let refusals = pair.client.counters.bad_alpn + pair.server.counters.bad_alpn;
                    assert!(refusals >= 1, "{ours:?} {theirs:?} {:?}", pair.faults());
                    for side in
                        [&pair.client, &pair.server].into_iter().filter(|side| side.counters.bad_alpn == 1)
                    {
                        assert_eq!(side.fault.as_ref().unwrap().status, Status::Tls);
                        assert!(side.fault.as_ref().unwrap().detail.contains("ALPN"));
                        assert!(!side.done());
                    }
                }
            }
        }
    }

    #[test]
    fn versions_that_do_not_meet() {
        let server_key = identity();
        let server = server_config_for(&[&TLS13], &[&server_key], &[ALPN]).unwrap();
        let pin = ServerTrust::Pin(vec![server_key.key_id()]);
        let client = client_config_for(&[&TLS12], None, pin, &[ALPN]).unwrap();
        let mut pair = Pair::new(&client, "backend.example", &server);
        pair.run();
        for side in [&pair.client, &pair.server] {
            let fault = side.fault.as_ref().unwrap();
            assert_eq!(fault.status, Status::Tls);
            assert!(fault.detail.contains("version"), "{fault}");
        }
        assert_eq!(pair.server.counters.bad_protocol, 1);
    }

    #[test]
    fn the_newest_version_is_taken() {
        let server_key = identity();
        let server = server_config(&[&server_key], &[ALPN]).unwrap();
        let client = client_config(None, ServerTrust::Pin(vec![server_key.key_id()]), &[ALPN]).unwrap();
        let mut pair = Pair::new(&client, "127.0.0.1", &server);
        pair.run();
        assert_eq!(pair.server.tls.version(), Some(TLS13.version));
    }

    #[test]
    fn the_named_identity_is_shown() {
        let (one, two) =
            (Identity::generate("one.example").unwrap(), Identity::generate("two.example").unwrap());
        let server = server_config(&[&one, &two], &[ALPN]).unwrap();
        for (name, expected) in
            [("one.example", &one), ("two.example", &two), ("three.example", &one), ("::1", &one)]
        {
            let pins = ServerTrust::Pin(vec![one.key_id(), two.key_id()]);
            let client = client_config(None, pins, &[ALPN]).unwrap();
            let mut pair = Pair::new(&client, name, &server);
            pair.run();
            assert_eq!(pair.client.tls.peer_key(), Some(expected.key_id()), "{name}");
        }
    }

    #[test]
    fn a_resumed_session_keeps_both_keys() {
        let (server_key, client_key) = (identity(), identity());
        for version in VERSIONS {
            let server = server_config_for(&[version], &[&server_key], &[ALPN]).unwrap();
            let pin = ServerTrust::Pin(vec![server_key.key_id()]);
            let client = client_config_for(&[version], Some(&client_key), pin, &[ALPN]).unwrap();
            for resumed in [0, 1, 1] {
                let mut pair = Pair::new(&client, "backend.example", &server);
                pair.run();
                assert!(pair.client.done() && pair.server.done(), "{:?}", pair.faults());
                assert_eq!((pair.client.counters.resumed, pair.server.counters.resumed), (resumed, resumed));
                assert_eq!(pair.client.tls.peer_key(), Some(server_key.key_id()));
                assert_eq!(pair.server.tls.peer_key(), Some(client_key.key_id()));
            }
            // A server that restarted cannot open the ticket: a whole handshake, not a failure.
            let restarted = server_config_for(&[version], &[&server_key], &[ALPN]).unwrap();
            let mut pair = Pair::new(&client, "backend.example", &restarted);
            pair.run();
            assert!(pair.client.done() && pair.server.done());
            assert_eq!(pair.server.counters.resumed, 0);
        }
    }

    #[test]
    fn a_large_client_certificate_is_refused() {
        let server = identity();
        let sized = |octets: usize| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![]).unwrap();
            let filler =
                rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![0; octets]);
            params.custom_extensions.push(filler);
            let certificate = params.self_signed(&key).unwrap();
            let size = certificate.der().len();
            let key = pem::encode(&pem::Pem::new("PRIVATE KEY", key.serialized_der()));
            (size, Identity::from_pem(&pem_of(certificate.der()), &key).unwrap())
        };
        for version in VERSIONS {
            let trust = ServerTrust::Pin(vec![server.key_id()]);
            let (size, client) = sized(CLIENT_CERTIFICATE_LIMIT - 600);
            assert!(size <= CLIENT_CERTIFICATE_LIMIT);
            let ours = server_config_for(&[version], &[&server], &[ALPN]).unwrap();
            let restarted = server_config_for(&[version], &[&server], &[ALPN]).unwrap();
            let theirs = client_config_for(&[version], Some(&client), trust.clone(), &[ALPN]).unwrap();
            // Also when it travels in a ticket, and in both when the ticket is of no use any more.
            for (config, resumed) in [(&ours, 0), (&ours, 1), (&restarted, 0)] {
                let mut pair = Pair::new(&theirs, "backend.example", config);
                pair.run();
                assert!(pair.server.done(), "{:?}", pair.faults());
                assert_eq!(pair.server.tls.peer_key(), Some(client.key_id()));
                assert_eq!(pair.server.counters.resumed, resumed);
            }
            let (size, client) = sized(CLIENT_CERTIFICATE_LIMIT);
            assert!(size > CLIENT_CERTIFICATE_LIMIT);
            let pair = shake(version, &server, Some(&client), trust);
            assert_eq!(pair.server.fault.as_ref().unwrap().status, Status::Tls);
            assert_eq!(pair.server.counters.oversize, 1);
        }
    }

    #[test]
    fn nothing_global_is_installed() {
        both_versions_with_and_without_a_client_key();
        assert!(CryptoProvider::get_default().is_none());
    }
}
