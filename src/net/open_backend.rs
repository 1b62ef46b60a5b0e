//! A back end as a configuration says: built on its store, put on a loop, listening.

use std::net::SocketAddr;

use super::{
    Listen, Loop, NodeId,
    clock::{SystemEntropy, unix_seconds},
    configured::{self, one_hail_a_family, wrong},
    open_gateway::family,
};
use crate::{
    config::Config,
    gateway::{BackendConfig, Open},
    io::Service,
    node::BackendNode,
    recognize::model::TrainerConfig,
    rng::Entropy,
    status::Fault,
};

/// Makes a back end, puts it on the loop and listens. Answers with the addresses, in the order of the option `listen`.
pub fn open_backend(net: &mut Loop, config: &Config) -> Result<(NodeId, Vec<SocketAddr>), Fault> {
    let listens = config.list("listen").map(|text| listen(config, text)).collect::<Result<Vec<_>, _>>()?;
    one_hail_a_family("listen", &listens)?;
    let store = configured::store(net, config)?;
    let (now, unix) = (net.now(), unix_seconds());
    let open = Open { now, unix, rng: SystemEntropy.seeded() };
    let train = config.switch("train").then(|| TrainerConfig {
        seed: SystemEntropy.next_u64(),
        pause: config.duration("train_pause_ms"),
        ..TrainerConfig::default()
    });
    let node = BackendNode::open(backend_config(config), open, store, train)?;
    // Gateways may be enrolled for hail:// before it listens there.
    let node = node.with_link((now, unix), SystemEntropy)?;
    net.limits_mut().per_address = config.count("max_connections_per_address");
    let id = net.add(Box::new(node), Vec::new());
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

/// Options that [`reload_backend`] puts in force.
pub const RELOADED: [&str; 16] = [
    "heartbeat_ms",
    "timeout_ms",
    "sends",
    "patience_ms",
    "agreement",
    "result_ttl_ms",
    "result_renew_ms",
    "max_results",
    "max_results_per_gateway",
    "max_gateways",
    "max_pending",
    "open_group",
    "probe_addresses",
    "max_connections_per_address",
    "identity_file",
    "identity_pem",
];

/// Puts in force what a configuration says now, of the options [`RELOADED`]; key and certificate are read again.
///
/// # Errors
/// When the identity cannot be read or used. Then nothing has changed.
pub fn reload_backend(net: &mut Loop, id: NodeId, config: &Config) -> Result<(), Fault> {
    #[cfg(feature = "tls")]
    if let Some(identity) = configured::identity(config)? {
        let tls = super::tls::server_config(&[&identity], &[Service::Gateway.alpn()])?;
        net.secure(id, &tls)?;
    }
    net.limits_mut().per_address = config.count("max_connections_per_address");
    net.with(id, |node: &mut BackendNode, _| node.reconfigure(backend_config(config)))
}

fn backend_config(config: &Config) -> BackendConfig {
    BackendConfig {
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
        max_feature_apps_per_gateway: config.count("max_feature_apps_per_gateway"),
        max_features: config.count("max_features"),
        max_gateways: config.count("max_gateways"),
        max_pending: config.count("max_pending"),
        open_group: config.non_empty("open_group").map(str::to_owned),
        probe_addresses: config.switch("probe_addresses"),
    }
}

fn listen(config: &Config, text: &str) -> Result<Listen, Fault> {
    if text.starts_with("hail+ask://") {
        return Err(wrong("listen", "hail+ask:// is a balancer's: gateways come in on hail://"));
    }
    let service = if text.starts_with("hail://") { Service::Link } else { Service::Gateway };
    let bare = config.networks("allow_networks");
    configured::listen(config, "listen", text, &[service], &bare)
}
