//! A balancer as a configuration says: built on its store, put on a loop, listening.

use std::net::SocketAddr;

use super::{
    Loop, NodeId, OfficeAddresses,
    clock::SystemEntropy,
    configured::{self, listen, wrong},
    open_office::{Part, broker_keys, parts},
};
use crate::{
    config::Config,
    io::Service,
    node::{BalancerNode, BalancerNodeConfig},
    post::balancer::{BalancerConfig, RosterConfig},
    status::Fault,
};

/// Makes a balancer, puts it on the loop and listens.
///
/// # Errors
/// `Config` for an option that cannot be used, `Listen` when an address is taken, those of a store.
pub(super) fn open_balancer(net: &mut Loop, config: &Config) -> Result<(NodeId, OfficeAddresses), Fault> {
    let of_balancer = |option: &'static str, otherwise: &'static str| match config.is_set(option) {
        true => config.text(option),
        false => otherwise,
    };
    let mut listens = Vec::new();
    for text in parts(of_balancer("listen_devices", "hail+ask://127.0.0.1:7700")) {
        if !text.starts_with("hail+ask://") {
            let why = format!("{text}: at a balancer devices ask, which is hail+ask://");
            return Err(wrong("listen_devices", &why));
        }
        listens.push(listen(config, "listen_devices", text, &[Service::Link], &[])?);
    }
    let families = |v6: bool| listens.iter().filter(|listen| listen.address.is_ipv6() == v6).count();
    if families(false) > 1 || families(true) > 1 {
        let why = "one hail+ask:// address of IPv4 and one of IPv6 are the most there can be";
        return Err(wrong("listen_devices", why));
    }
    let devices = listens.len();
    for text in parts(of_balancer("listen_inner", "tls://127.0.0.1:7702")) {
        if !text.starts_with("tls://") {
            return Err(wrong("listen_inner", &format!("{text}: brokers come in on tls:// only")));
        }
        listens.push(listen(config, "listen_inner", text, &[Service::Inner], &[])?);
    }
    let brokers = broker_keys(config)?;
    let store = configured::store(net, config)?;
    let roster = RosterConfig { max_brokers: config.count("max_brokers"), ..RosterConfig::default() };
    let balancer = BalancerConfig { roster, ..BalancerConfig::default() };
    // Some are there twice for a moment, when they come back.
    let max_lines = 2 * config.count("max_brokers");
    let node_config = BalancerNodeConfig { balancer, brokers, max_lines };
    let node = BalancerNode::open(node_config, net.now(), SystemEntropy, store)?;
    net.limits_mut().per_address = config.count("max_connections_per_address");
    let id = net.add(Box::new(node), Vec::new());
    let addresses: Result<Vec<SocketAddr>, Fault> =
        listens.into_iter().map(|listen| net.listen(id, listen)).collect();
    match addresses {
        Ok(mut addresses) => {
            let inner = addresses.split_off(devices);
            let (part, apps) = (Part::Balancer, Vec::new());
            Ok((id, OfficeAddresses { part, devices: addresses, apps, inner, hail: None }))
        }
        Err(fault) => {
            net.remove(id);
            Err(fault)
        }
    }
}

/// Reads again which brokers may report to a balancer: who may no more is let go.
///
/// # Errors
/// `Config` when a key cannot be read; all stays as it is then.
pub fn reload_balancer(net: &mut Loop, id: NodeId, config: &Config) -> Result<(), Fault> {
    let brokers = broker_keys(config)?;
    net.with(id, |node: &mut BalancerNode, _| node.set_brokers(brokers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::open_office;

    #[test]
    fn what_a_balancer_is_given_is_checked_and_the_fault_names_the_option() {
        for (option, value) in [
            ("listen_devices", "hail://127.0.0.1:0"),
            ("listen_devices", "hail+ask://127.0.0.1:0,hail+ask://127.0.0.1:0"),
            ("listen_inner", "tcp://127.0.0.1:0"),
            ("listen_apps", "tcp://127.0.0.1:0"),
            ("hub", "tls://127.0.0.1:1"),
            ("brokers", "abc"),
        ] {
            let mut config = Config::new();
            let good =
                [("roles", "balancer"), ("listen_devices", "hail+ask://127.0.0.1:0"), ("listen_inner", "")];
            for (name, value) in good.into_iter().chain([(option, value)]) {
                config.set(name, value).unwrap();
            }
            let fault = open_office(&mut Loop::new().unwrap(), &config).unwrap_err();
            assert!(fault.detail.starts_with(&format!("{option}: ")), "{fault}");
        }
    }
}
