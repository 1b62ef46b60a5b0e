//! A broker as a configuration says: put on a loop, listening for devices, connected to its hub.

use super::{
    Loop, NodeId, OfficeAddresses,
    clock::SystemEntropy,
    configured::{remote, wrong},
    open_office::{Part, device_listens},
    url::Scheme,
};
use crate::{
    config::Config,
    io::Service,
    link::ServerConfig,
    node::{BrokerNode, BrokerNodeConfig},
    post::broker::BrokerConfig,
    status::Fault,
};

/// Makes a broker, puts it on the loop and listens. It connects to its hub in the next step, and is the office to devices once
/// the hub has said so.
///
/// # Errors
/// `Config` for an option that cannot be used, `Listen` when an address is taken.
pub fn open_broker(net: &mut Loop, config: &Config) -> Result<(NodeId, OfficeAddresses), Fault> {
    let Some(text) = config.non_empty("hub") else {
        return Err(wrong("hub", "say where the hub is, such as tls://hub.example:7702?pin=HEX"));
    };
    for option in ["listen_apps", "listen_inner", "brokers"] {
        if config.is_set(option) && config.non_empty(option).is_some() {
            return Err(wrong(option, "a broker has none: this is for the hub"));
        }
    }
    let (hub, url) = remote(config, "hub", text, Service::Inner)?;
    if url.scheme != Scheme::Tls {
        return Err(wrong("hub", "a broker connects over tls:// only: both ends prove a key"));
    }
    if config.non_empty("identity_file").is_none() && config.secret("identity_pem").is_none() {
        return Err(wrong(
            "identity_file",
            "a broker needs a key, which its hub lists: hailpost keygen makes it",
        ));
    }
    let (listens, hail) = device_listens(config, config.text("listen_devices"))?;
    let node_config = BrokerNodeConfig {
        link: ServerConfig { max_sessions: config.number("max_sessions") as u32, ..ServerConfig::default() },
        broker: BrokerConfig { name: config.text("broker_name").to_owned(), ..BrokerConfig::default() },
        ..BrokerNodeConfig::default()
    };
    let node = BrokerNode::new(node_config, net.now(), SystemEntropy);
    net.limits_mut().per_address = config.count("max_connections_per_address");
    let id = net.add(Box::new(node), vec![hub]);
    let mut devices = Vec::new();
    for listen in listens {
        match net.listen(id, listen) {
            Ok(address) => devices.push(address),
            Err(fault) => {
                net.remove(id);
                return Err(fault);
            }
        }
    }
    let hail = hail.map(|at| devices[at]);
    Ok((id, OfficeAddresses { part: Part::Broker, devices, apps: Vec::new(), inner: Vec::new(), hail }))
}
