//! Endpoints as a configuration says: URLs to where nodes connect and listen, with identity and trust.

use std::net::SocketAddr;
#[cfg(any(feature = "backend", feature = "post"))]
use std::path::Path;

use super::{
    ClientSecurity, Remote,
    resolver::Target,
    url::{Host, Scheme, Url},
};
#[cfg(any(feature = "backend", feature = "post"))]
use super::{Listen, ListenTransport, Loop, ServerSecurity};
#[cfg(any(feature = "backend", feature = "post"))]
use crate::store::{Deferred, Memory, Sqlite, Store, StoreThread};
use crate::{
    config::Config,
    io::Service,
    status::{Fault, Status},
};

/// A wrong value of an option.
pub(super) fn wrong(option: &str, why: &str) -> Fault {
    Fault::new(Status::Config, format!("{option}: {why}"))
}

/// Where an option's URL leads, and the URL itself.
pub(super) fn remote(
    config: &Config,
    option: &str,
    text: &str,
    service: Service,
) -> Result<(Remote, Url), Fault> {
    let url: Url = text.parse().map_err(|fault: Fault| wrong(option, &fault.detail))?;
    url.check_peer().map_err(|fault| wrong(option, &fault.detail))?;
    let target = match &url.host {
        Host::Name(name) => Target::parse(name, url.port),
        Host::Address(address) => Target::parse(&SocketAddr::new(*address, url.port).to_string(), url.port),
    }
    .map_err(|error| wrong(option, &error.to_string()))?;
    let remote = match url.scheme {
        Scheme::Tcp => Remote::Stream { target, security: ClientSecurity::Plain, service },
        Scheme::Udp | Scheme::Hail | Scheme::Ask => Remote::Datagram { target, service },
        Scheme::Tls => {
            Remote::Stream { target, security: client_security(config, option, &url, service)?, service }
        }
    };
    Ok((remote, url))
}

/// Where rows are kept, by the option `store`. A file is worked at on a thread of its own: nobody waits for the disk.
#[cfg(any(feature = "backend", feature = "post"))]
pub(super) fn store(net: &Loop, config: &Config) -> Result<Box<dyn Store>, Fault> {
    let Some(path) = config.non_empty("store") else { return Ok(Box::new(Memory::default())) };
    let (engine, waker) = (Sqlite::open(Path::new(path))?, net.waker());
    let wake = move || {
        // That the loop is gone is nothing to the thread.
        let _ = waker.wake();
    };
    Ok(Box::new(Deferred::new(StoreThread::start(engine, wake)?)))
}

#[cfg(feature = "tls")]
fn client_security(
    config: &Config,
    option: &str,
    url: &Url,
    service: Service,
) -> Result<ClientSecurity, Fault> {
    use super::tls::{ServerTrust, client_config};
    let trust = match (url.pins.is_empty(), config.non_empty("ca_file")) {
        (false, _) => ServerTrust::Pin(url.pins.clone()),
        (true, Some(path)) => {
            let pem = std::fs::read_to_string(path)
                .map_err(|error| wrong("ca_file", &format!("cannot read {path}: {error}")))?;
            ServerTrust::Authorities(pem)
        }
        (true, None) => {
            return Err(wrong(option, "add ?pin=HEX (hailpost keygen prints it), or set ca_file"));
        }
    };
    let identity = identity(config)?;
    let tls = client_config(identity.as_ref(), trust, &[service.alpn()])?;
    Ok(ClientSecurity::Tls { config: tls, server_name: url.host.to_string() })
}

#[cfg(not(feature = "tls"))]
fn client_security(_: &Config, option: &str, _: &Url, _: Service) -> Result<ClientSecurity, Fault> {
    let detail = format!("{option}: this build has no TLS: link one with the tls feature");
    Err(Fault::new(Status::Unsupported, detail))
}

/// Key and certificate of this end, if it was given some.
#[cfg(feature = "tls")]
pub(super) fn identity(config: &Config) -> Result<Option<super::tls::Identity>, Fault> {
    use super::tls::Identity;
    if let Some(pem) = config.secret("identity_pem") {
        let pem = std::str::from_utf8(pem).map_err(|_| wrong("identity_pem", "it is not text"))?;
        return Identity::from_pem(pem, pem).map(Some).map_err(|fault| wrong("identity_pem", &fault.detail));
    }
    let path = config.non_empty("identity_file").map(std::path::Path::new);
    path.map(|path| Identity::load(path, path))
        .transpose()
        .map_err(|fault| wrong("identity_file", &fault.detail))
}

/// Where an option's URL has us listen. Bare streams and datagrams are for `bare`.
#[cfg(any(feature = "backend", feature = "post"))]
pub(super) fn listen(
    config: &Config,
    option: &str,
    text: &str,
    services: &[Service],
    bare: &[crate::config::Network],
) -> Result<Listen, Fault> {
    let url: Url = text.parse().map_err(|fault: Fault| wrong(option, &fault.detail))?;
    let address = match (&url.host, url.socket_address()) {
        (_, Some(address)) => address,
        (Host::Name(name), _) if name == "localhost" => SocketAddr::from(([127, 0, 0, 1], url.port)),
        (host, _) => return Err(wrong(option, &format!("{host} is not an address of this machine"))),
    };
    let (transport, networks) = match url.scheme {
        Scheme::Tcp => (ListenTransport::Stream(ServerSecurity::Plain), Some(bare.to_vec())),
        Scheme::Udp => (ListenTransport::Datagram, Some(bare.to_vec())),
        Scheme::Tls => (ListenTransport::Stream(server_security(config, services)?), None),
        Scheme::Hail | Scheme::Ask => (ListenTransport::Datagram, None),
    };
    Ok(Listen { address, transport, networks, services: services.to_vec() })
}

/// A link's end answers where it was asked, so it has one socket of each family.
#[cfg(any(feature = "backend", feature = "post"))]
pub(super) fn one_hail_a_family(option: &str, listens: &[Listen]) -> Result<(), Fault> {
    let of_family = |v6: bool| {
        let is_hail = |listen: &&Listen| listen.is_datagram() && listen.services == [Service::Link];
        listens.iter().filter(is_hail).filter(|listen| listen.address.is_ipv6() == v6).count()
    };
    match of_family(false) > 1 || of_family(true) > 1 {
        true => Err(wrong(option, "one hail:// address of IPv4 and one of IPv6 are the most there can be")),
        false => Ok(()),
    }
}

#[cfg(all(feature = "tls", any(feature = "backend", feature = "post")))]
fn server_security(config: &Config, services: &[Service]) -> Result<ServerSecurity, Fault> {
    let identity = identity(config)?.ok_or_else(|| {
        wrong("identity_file", "a tls:// listener needs a key and certificate: hailpost keygen makes them")
    })?;
    let alpn: Vec<&str> = services.iter().map(|service| service.alpn()).collect();
    Ok(ServerSecurity::Tls(super::tls::server_config(&[&identity], &alpn)?))
}

#[cfg(all(not(feature = "tls"), any(feature = "backend", feature = "post")))]
fn server_security(_: &Config, _: &[Service]) -> Result<ServerSecurity, Fault> {
    let detail = "a tls:// listener: this build has no TLS: link one with the tls feature";
    Err(Fault::new(Status::Unsupported, detail))
}
