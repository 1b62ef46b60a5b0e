//! A balancer as a configuration says: built on its store, put on a loop, listening.

use std::{collections::BTreeSet, net::SocketAddr, path::Path};

use super::{
    Loop, NodeId,
    clock::SystemEntropy,
    configured::{listen, wrong},
};
use crate::{
    config::Config,
    io::{KeyId, Service},
    node::{BalancerNode, BalancerNodeConfig},
    post::balancer::{BalancerConfig, RosterConfig},
    status::Fault,
    store::{Memory, Sqlite, Store},
};

/// Where a balancer listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BalancerAddresses {
    /// In the order of the option `listen_asks`.
    pub asks: Vec<SocketAddr>,
    /// In the order of the option `listen_brokers`.
    pub brokers: Vec<SocketAddr>,
}

/// Makes a balancer, puts it on the loop and listens.
pub fn open_balancer(net: &mut Loop, config: &Config) -> Result<(NodeId, BalancerAddresses), Fault> {
    let mut listens = Vec::new();
    for text in config.list("listen_asks") {
        if !text.starts_with("hail+ask://") {
            return Err(wrong("listen_asks", &format!("{text}: devices ask at hail+ask://")));
        }
        listens.push(listen(config, "listen_asks", text, &[Service::Link], &[])?);
    }
    let families = |v6: bool| listens.iter().filter(|listen| listen.address.is_ipv6() == v6).count();
    if families(false) > 1 || families(true) > 1 {
        let why = "one hail+ask:// address of IPv4 and one of IPv6 are the most there can be";
        return Err(wrong("listen_asks", why));
    }
    let asks = listens.len();
    for text in config.list("listen_brokers") {
        if !text.starts_with("tls://") {
            return Err(wrong("listen_brokers", &format!("{text}: brokers report over tls://")));
        }
        listens.push(listen(config, "listen_brokers", text, &[Service::Inner], &[])?);
    }
    let brokers = brokers(config)?;
    let store: Box<dyn Store> = match config.non_empty("store") {
        Some(path) => Box::new(Sqlite::open(Path::new(path))?),
        None => Box::new(Memory::default()),
    };
    let roster = RosterConfig { max_brokers: config.count("max_brokers"), ..RosterConfig::default() };
    let balancer = BalancerConfig { roster, ..BalancerConfig::default() };
    let config_of_node = BalancerNodeConfig {
        balancer,
        brokers,
        // Some may be there twice for a moment, when they come back.
        max_lines: 2 * config.count("max_brokers"),
    };
    let node = BalancerNode::open(config_of_node, net.now(), SystemEntropy, store)?;
    net.limits_mut().per_address = config.count("max_connections_per_address");
    let id = net.add(Box::new(node), Vec::new());
    let addresses: Result<Vec<SocketAddr>, Fault> =
        listens.into_iter().map(|listen| net.listen(id, listen)).collect();
    match addresses {
        Ok(mut addresses) => {
            let brokers = addresses.split_off(asks);
            Ok((id, BalancerAddresses { asks: addresses, brokers }))
        }
        Err(fault) => {
            net.remove(id);
            Err(fault)
        }
    }
}

/// The keys of an option's brokers.
pub(super) fn brokers(config: &Config) -> Result<BTreeSet<KeyId>, Fault> {
    let key = |text: &str| {
        text.parse::<KeyId>().map_err(|_| {
            wrong("brokers", "a key is the 64 hexadecimal digits that the broker's keygen printed")
        })
    };
    config.list("brokers").map(key).collect()
}

/// Reads again which brokers may report: who may no more is let go.
///
/// # Errors
/// [`crate::status::Status::Config`] when a key cannot be read; all stays as it is then.
pub fn reload_balancer(net: &mut Loop, id: NodeId, config: &Config) -> Result<(), Fault> {
    let brokers = brokers(config)?;
    net.with(id, |node: &mut BalancerNode, _| node.set_brokers(brokers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_balancer_is_given_is_checked_and_the_fault_names_the_option() {
        for (option, value) in [
            ("listen_asks", "hail://127.0.0.1:0"),
            ("listen_asks", "hail+ask://127.0.0.1:0,hail+ask://127.0.0.1:0"),
            ("listen_brokers", "tcp://127.0.0.1:0"),
            ("brokers", "abc"),
        ] {
            let mut config = Config::new();
            for (name, value) in
                [("listen_asks", "hail+ask://127.0.0.1:0"), ("listen_brokers", ""), (option, value)]
            {
                config.set(name, value).unwrap();
            }
            let fault = open_balancer(&mut Loop::new().unwrap(), &config).unwrap_err();
            assert!(fault.detail.starts_with(&format!("{option}: ")), "{fault}");
        }
    }
}
