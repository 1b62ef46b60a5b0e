//! Who is taken for what they claim, and what a server shows of itself. Signatures are verified by the provider.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ClientHello, ParsedCertificate, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};

use super::keys::key_id_of;
use crate::io::KeyId;

/// The most octets that a client's certificates may have together. They travel in every ticket and stay in the server's
/// session cache, so a stranger must not choose their size freely.
pub const CLIENT_CERTIFICATE_LIMIT: usize = 8 * 1024;
/// The server showed another key than those that are pinned.
#[derive(Debug)]
pub(super) struct PinMismatch {
    pub shown: KeyId,
}

impl fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server's key {} is not a pinned one", self.shown)
    }
}

impl std::error::Error for PinMismatch {}

/// The client's certificates are over [`CLIENT_CERTIFICATE_LIMIT`].
#[derive(Debug)]
pub(super) struct CertificateTooLarge;

impl fmt::Display for CertificateTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the client's certificates have more than {CLIENT_CERTIFICATE_LIMIT} octets")
    }
}

impl std::error::Error for CertificateTooLarge {}

fn refusal(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// The signature half of a verifier: what proves that the peer holds the key, through the provider.
macro_rules! verifies_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, certificate, signed, &self.algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signed, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

/// Takes servers by their key.
#[derive(Debug)]
pub(super) struct Pinned {
    pub keys: Vec<KeyId>,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = key_id_of(end_entity).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        match self.keys.contains(&shown) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(refusal(PinMismatch { shown })),
        }
    }

    verifies_signatures!();
}

/// Takes any client that can prove its key, or that shows none.
#[derive(Debug)]
pub(super) struct AnyKey {
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyKey {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let octets: usize = end_entity.len() + intermediates.iter().map(|one| one.len()).sum::<usize>();
        if octets > CLIENT_CERTIFICATE_LIMIT {
            return Err(refusal(CertificateTooLarge));
        }
        key_id_of(end_entity).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        Ok(ClientCertVerified::assertion())
    }

    verifies_signatures!();
}

/// Chooses what a server shows.
#[derive(Debug)]
pub(super) struct ByName(pub Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let wanted = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let names_it = |key: &CertifiedKey| {
            let certificate = ParsedCertificate::try_from(&key.cert[0]).ok()?;
            verify_server_name(&certificate, wanted.as_ref()?).ok()
        };
        let mut usable: Vec<&Arc<CertifiedKey>> =
            self.0.iter().filter(|one| one.key.choose_scheme(hello.signature_schemes()).is_some()).collect();
        let first = usable.iter().position(|one| names_it(one).is_some()).unwrap_or(0);
        (!usable.is_empty()).then(|| usable.swap_remove(first).clone())
    }
}
