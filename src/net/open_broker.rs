//! A broker as a configuration says: put on a loop, listening for devices, connected to its hub.

use std::net::SocketAddr;

use super::{
    Loop, NodeId, OfficeAddresses,
    clock::SystemEntropy,
    configured::{remote, wrong},
    open_office::{Part, device_listens},
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
    let (hub, _) = remote(config, "hub", text, Service::Inner)?;
    if config.non_empty("identity_file").is_none() && config.secret("identity_pem").is_none() {
        return Err(wrong(
            "identity_file",
            "a broker needs a key, which its hub lists: hailpost keygen makes it",
        ));
    }
    let mut remotes = vec![hub];
    for text in config.list("balancer") {
        remotes.push(remote(config, "balancer", text, Service::Inner)?.0);
    }
    let balancers = remotes.len() - 1;
    let (listens, hail) = device_listens(config, config.text("listen_devices"))?;
    let public_address = public_address(config)?;
    let own = hail.map(|at| listens[at].address.ip());
    if balancers > 0 && public_address.is_none() && own.is_none_or(|ip| ip.is_unspecified()) {
        let why = "say where devices find this broker that a balancer sends, such as 192.0.2.7:7700";
        return Err(wrong("public_address", why));
    }
    let node_config = BrokerNodeConfig {
        balancers,
        public_address,
        link: ServerConfig { max_sessions: config.number("max_sessions") as u32, ..ServerConfig::default() },
        broker: BrokerConfig { name: config.text("broker_name").to_owned(), ..BrokerConfig::default() },
        ..BrokerNodeConfig::default()
    };
    let node = BrokerNode::new(node_config, net.now(), SystemEntropy);
    net.limits_mut().per_address = config.count("max_connections_per_address");
    let id = net.add(Box::new(node), remotes);
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

/// Where devices find a broker, if that is said.
pub(super) fn public_address(config: &Config) -> Result<Option<SocketAddr>, Fault> {
    let Some(text) = config.non_empty("public_address") else { return Ok(None) };
    let address: Option<SocketAddr> = text.parse().ok();
    let usable = address.filter(|address| address.port() != 0 && !address.ip().is_unspecified());
    let why = "an IP address and a port are wanted, such as 192.0.2.7:7700 or [2001:db8::7]:7700";
    usable.map(Some).ok_or_else(|| wrong("public_address", why))
}
