//! Nodes as a configuration says: built, put on a loop, connected and listening.

use std::net::SocketAddr;
#[cfg(any(feature = "tls", feature = "backend"))]
use std::path::Path;

#[cfg(feature = "gateway")]
use super::{ClientSecurity, Remote, resolver::Target};
#[cfg(feature = "backend")]
use super::{Listen, ListenTransport, ServerSecurity};
use super::{
    Loop, NodeId,
    clock::SystemEntropy,
    url::{Host, Scheme, Url},
};
use crate::{
    config::Config,
    rng::Entropy,
    status::{Fault, Status},
    wire::gateway::Family,
};
#[cfg(feature = "gateway")]
use crate::{
    gateway::{Gateway, GatewayConfig},
    node::{GatewayNode, Recognition, RecognizerNode},
    recognize,
};

/// The rules that ship with the library.
#[cfg(feature = "gateway")]
pub const HOME_RULES: &str = include_str!("../../rules/home.toml");

/// The protocol's name in TLS (DECISIONS 3).
#[cfg(feature = "tls")]
const ALPN: &str = "hail-gw/1";

/// Makes a gateway and puts it on the loop. It connects in the next step.
#[cfg(feature = "gateway")]
pub fn open_gateway(net: &mut Loop, config: &Config) -> Result<NodeId, Fault> {
    let remote = match config.non_empty("backend") {
        Some(text) => Some(remote(config, text)?),
        None => return Err(wrong("backend", "say where the back end is, such as tls://host:7700?pin=HEX")),
    };
    let recognition = open_recognition(config)?;
    let gateway = Gateway::new(gateway_config(config), net.now(), SystemEntropy.seeded());
    Ok(net.add(Box::new(GatewayNode::new(gateway, recognition)), remote))
}

/// Makes a recogniser that shares nothing, and puts it on the loop.
#[cfg(feature = "gateway")]
pub fn open_recognizer(net: &mut Loop, config: &Config) -> Result<NodeId, Fault> {
    let recognition = open_recognition(config)?
        .ok_or_else(|| wrong("rules", "a recogniser without rules recognises nothing: not `none`"))?;
    Ok(net.add(Box::new(RecognizerNode::new(recognition)), None))
}

/// Makes what recognises flows, by the option `rules`; `None` when that says so.
#[cfg(feature = "gateway")]
pub fn open_recognition(config: &Config) -> Result<Option<Recognition>, Fault> {
    let file;
    let rules = match config.text("rules") {
        "none" => return Ok(None),
        "home" => HOME_RULES,
        path => {
            file = std::fs::read_to_string(path)
                .map_err(|error| wrong("rules", &format!("cannot read {path}: {error}")))?;
            &file
        }
    };
    let limits = recognize::Config {
        max_flows: config.count("max_flows"),
        seed: SystemEntropy.next_u64(),
        ..recognize::Config::default()
    };
    Recognition::new(Some(rules), limits, config.networks("inside")).map(Some)
}

/// Makes a back end, puts it on the loop and listens. Answers with the addresses, in the order of the option `listen`.
#[cfg(feature = "backend")]
pub fn open_backend(net: &mut Loop, config: &Config) -> Result<(NodeId, Vec<SocketAddr>), Fault> {
    use crate::{
        gateway::Open,
        node::BackendNode,
        store::{Memory, Sqlite, Store},
    };
    let listens = config.list("listen").map(|text| listen(config, text)).collect::<Result<Vec<_>, _>>()?;
    let store: Box<dyn Store> = match config.non_empty("store") {
        Some(path) => Box::new(Sqlite::open(Path::new(path))?),
        None => Box::new(Memory::default()),
    };
    let open = Open { now: net.now(), unix: super::clock::unix_seconds(), rng: SystemEntropy.seeded() };
    let train = config.switch("train").then(|| SystemEntropy.next_u64());
    let node = BackendNode::open(backend_config(config), open, store, train)?;
    net.limits_mut().per_address = config.count("max_connections_per_address");
    let id = net.add(Box::new(node), None);
    let addresses: Result<Vec<SocketAddr>, Fault> =
        listens.into_iter().map(|listen| net.listen(id, listen)).collect();
    match addresses {
        Ok(addresses) => Ok((id, addresses)),
        Err(fault) => {
            net.remove(id);
            Err(fault)
        }
    }
}

#[cfg(feature = "gateway")]
fn gateway_config(config: &Config) -> GatewayConfig {
    GatewayConfig {
        family: family(config),
        heartbeat: config.duration("heartbeat_ms"),
        timeout: config.duration("timeout_ms"),
        sends: config.number("sends") as u8,
        backoff: config.duration("backoff_ms"),
        backoff_max: config.duration("backoff_max_ms"),
        barred_retry: config.duration("barred_retry_ms"),
        result_ttl: config.duration("result_ttl_ms"),
        max_results: config.count("max_results"),
        max_rule_octets: config.count("max_rule_octets"),
        max_reports: config.count("max_reports"),
        extensions: config.switch("extensions"),
    }
}

#[cfg(feature = "backend")]
fn backend_config(config: &Config) -> crate::gateway::BackendConfig {
    crate::gateway::BackendConfig {
        family: family(config),
        heartbeat: config.duration("heartbeat_ms"),
        timeout: config.duration("timeout_ms"),
        sends: config.number("sends") as u8,
        patience: config.duration("patience_ms"),
        agreement: config.count("agreement"),
        result_ttl: config.duration("result_ttl_ms"),
        result_renew: config.duration("result_renew_ms"),
        max_results: config.count("max_results"),
        max_results_per_gateway: config.count("max_results_per_gateway"),
        max_features_per_gateway: config.number("max_features_per_gateway") as u16,
        max_gateways: config.count("max_gateways"),
        max_pending: config.count("max_pending"),
        open_group: config.non_empty("open_group").map(str::to_owned),
        probe_addresses: config.switch("probe_addresses"),
    }
}

fn family(config: &Config) -> Family {
    if config.number("family") == 4 { Family::V4 } else { Family::V6 }
}

#[cfg(feature = "gateway")]
fn remote(config: &Config, text: &str) -> Result<Remote, Fault> {
    let url: Url = text.parse().map_err(|fault: Fault| wrong("backend", &fault.detail))?;
    url.check_peer().map_err(|fault| wrong("backend", &fault.detail))?;
    let target = match &url.host {
        Host::Name(name) => Target::parse(name, url.port),
        Host::Address(address) => Target::parse(&SocketAddr::new(*address, url.port).to_string(), url.port),
    }
    .map_err(|error| wrong("backend", &error.to_string()))?;
    match url.scheme {
        Scheme::Tcp => Ok(Remote::Stream { target, security: ClientSecurity::Plain }),
        Scheme::Udp => Ok(Remote::Datagram { target }),
        Scheme::Tls => Ok(Remote::Stream { target, security: client_security(config, &url)? }),
        Scheme::Hail => Err(wrong("backend", "hail:// is not for gateways in this version: use tls://")),
    }
}

#[cfg(feature = "backend")]
fn listen(config: &Config, text: &str) -> Result<Listen, Fault> {
    let url: Url = text.parse().map_err(|fault: Fault| wrong("listen", &fault.detail))?;
    let address = match (&url.host, url.socket_address()) {
        (_, Some(address)) => address,
        (Host::Name(name), _) if name == "localhost" => SocketAddr::from(([127, 0, 0, 1], url.port)),
        (host, _) => return Err(wrong("listen", &format!("{host} is not an address of this machine"))),
    };
    let bare = Some(config.networks("allow_networks"));
    let (transport, networks) = match url.scheme {
        Scheme::Tcp => (ListenTransport::Stream(ServerSecurity::Plain), bare),
        Scheme::Udp => (ListenTransport::Datagram, bare),
        Scheme::Tls => (ListenTransport::Stream(server_security(config)?), None),
        Scheme::Hail => {
            return Err(wrong("listen", "hail:// is not for gateways in this version: use tls://"));
        }
    };
    Ok(Listen { address, transport, networks })
}

#[cfg(all(feature = "tls", feature = "gateway"))]
fn client_security(config: &Config, url: &Url) -> Result<ClientSecurity, Fault> {
    use super::tls::{ServerTrust, client_config};
    let trust = match (url.pins.is_empty(), config.non_empty("ca_file")) {
        (false, _) => ServerTrust::Pin(url.pins.clone()),
        (true, Some(path)) => {
            let pem = std::fs::read_to_string(path)
                .map_err(|error| wrong("ca_file", &format!("cannot read {path}: {error}")))?;
            ServerTrust::Authorities(pem)
        }
        (true, None) => {
            return Err(wrong("backend", "add ?pin=HEX (hailpost keygen prints it), or set ca_file"));
        }
    };
    let identity = identity(config)?;
    let tls = client_config(identity.as_ref(), trust, &[ALPN])?;
    Ok(ClientSecurity::Tls { config: tls, server_name: url.host.to_string() })
}

#[cfg(all(feature = "tls", feature = "backend"))]
fn server_security(config: &Config) -> Result<ServerSecurity, Fault> {
    let identity = identity(config)?.ok_or_else(|| {
        wrong("identity_file", "a tls:// listener needs a key and certificate: hailpost keygen makes them")
    })?;
    Ok(ServerSecurity::Tls(super::tls::server_config(&[&identity], &[ALPN])?))
}

#[cfg(feature = "tls")]
fn identity(config: &Config) -> Result<Option<super::tls::Identity>, Fault> {
    use super::tls::Identity;
    if let Some(pem) = config.secret("identity_pem") {
        let pem = std::str::from_utf8(pem).map_err(|_| wrong("identity_pem", "it is not text"))?;
        return Identity::from_pem(pem, pem).map(Some).map_err(|fault| wrong("identity_pem", &fault.detail));
    }
    let path = config.non_empty("identity_file").map(Path::new);
    path.map(|path| Identity::load(path, path))
        .transpose()
        .map_err(|fault| wrong("identity_file", &fault.detail))
}

#[cfg(all(not(feature = "tls"), feature = "gateway"))]
fn client_security(_: &Config, _: &Url) -> Result<ClientSecurity, Fault> {
    Err(Fault::new(Status::Unsupported, "backend: this build has no TLS: link one with the tls feature"))
}

#[cfg(all(not(feature = "tls"), feature = "backend"))]
fn server_security(_: &Config) -> Result<ServerSecurity, Fault> {
    Err(Fault::new(Status::Unsupported, "listen: this build has no TLS: link one with the tls feature"))
}

fn wrong(option: &str, why: &str) -> Fault {
    Fault::new(Status::Config, format!("{option}: {why}"))
}
