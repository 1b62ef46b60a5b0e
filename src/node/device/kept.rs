//! What a device keeps of the link over its lives.

use std::net::{IpAddr, Ipv6Addr};

use super::{DeviceNode, Event, finder::Broker};
use crate::{
    link::{ClientConfig, Resumption, Silences},
    status::{Fault, Status},
    store::{Op, Store, Table},
    time::Time,
    wire::link::TICKET,
};

/// What a device has to keep of the link, by name, session id and the server key that the device was given: what was kept for
/// another enrolment is nothing to this one.
pub(super) const LINK: Table = Table::rows("link");
pub(super) const TICKET_ROW: &[u8] = b"ticket";
pub(super) const SERVER_KEY: &[u8] = b"server_key";
pub(super) const NEXT_KEY: &[u8] = b"next_key";
/// The last broker that a balancer gave: resumes go there directly.
pub(super) const BROKER: &[u8] = b"broker";
/// What was found out of the network that the device was on.
pub(super) const SILENCES: &[u8] = b"silences";

/// What an earlier life kept besides what goes into the link's configuration.
#[derive(Default)]
pub(super) struct Kept {
    /// The last broker.
    pub broker: Option<Broker>,
    /// The network, by the address that the device had there, that the configuration's silences are of.
    pub network: Option<IpAddr>,
}

/// Takes what an earlier life kept.
pub(super) fn recall(
    store: &dyn Store,
    enrolment: &[u8; 48],
    config: &mut ClientConfig,
) -> Result<Kept, Fault> {
    let (mut damaged, mut kept) = (false, Kept::default());
    store.load(LINK, &mut |key, value| match key.strip_suffix(enrolment).unwrap_or_default() {
        TICKET_ROW => match value.split_at_checked(TICKET) {
            Some((ticket, secret)) if secret.len() == 32 => {
                let ticket = ticket.try_into().expect("it was cut there");
                let secret = secret.try_into().expect("it was counted");
                config.resumption = Some(Resumption { ticket, secret });
            }
            _ => damaged = true,
        },
        SERVER_KEY => match value.try_into() {
            Ok(key) => config.server_key = key,
            Err(_) => damaged = true,
        },
        NEXT_KEY => match value.try_into() {
            Ok(key) => config.next_key = Some(key),
            Err(_) => damaged = true,
        },
        BROKER => {
            kept.broker = Broker::recall(value);
            damaged |= kept.broker.is_none();
        }
        SILENCES => match read_silences(value) {
            Some((silences, network)) => (config.silences, kept.network) = (silences, Some(network)),
            None => damaged = true,
        },
        _ => {}
    })?;
    match damaged {
        true => Err(Fault::new(Status::StoreCorrupt, "what was kept of the link cannot be read")),
        false => Ok(kept),
    }
}

pub(super) fn row_key(name: &[u8], enrolment: &[u8; 48]) -> Vec<u8> {
    [name, enrolment].concat()
}

fn silences_row(silences: Silences, network: IpAddr) -> Vec<u8> {
    let network = match network {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    [&silences.lasted.to_be_bytes()[..], &silences.failed.to_be_bytes(), &network.octets()].concat()
}

fn read_silences(row: &[u8]) -> Option<(Silences, IpAddr)> {
    let (&[a, b, c, d], network) = row.split_first_chunk()?;
    let network: [u8; 16] = network.try_into().ok()?;
    let silences = Silences { lasted: u16::from_be_bytes([a, b]), failed: u16::from_be_bytes([c, d]) };
    Some((silences, Ipv6Addr::from(network).to_canonical()))
}

impl DeviceNode {
    pub(super) fn row(&self, name: &[u8], value: Vec<u8>) -> Op {
        Op::Put { table: LINK, key: row_key(name, &self.enrolment), value }
    }

    pub(super) fn remember(&mut self, ops: Vec<Op>) -> Option<Event> {
        self.device.also_store(ops);
        None
    }

    /// The link has learnt something of the network.
    pub(super) fn learnt(&mut self, silences: Silences) {
        self.silences = silences;
        if let Some(network) = self.network {
            self.remember(vec![self.row(SILENCES, silences_row(silences, network))]);
        }
    }

    /// The device is on the network where it has this address: what is known of another is forgotten.
    pub(super) fn is_on(&mut self, now: Time, network: IpAddr) {
        if self.network.replace(network) != Some(network) {
            self.forget_network();
        }
        self.client.set_silences(now, self.silences);
    }

    /// What is known of the network is of no more use.
    pub(super) fn forget_network(&mut self) {
        if std::mem::take(&mut self.silences) != Silences::default() {
            let key = row_key(SILENCES, &self.enrolment);
            self.remember(vec![Op::Delete { table: LINK, key }]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_network_is_read_as_it_was_kept() {
        let silences = Silences { lasted: 300, failed: 450 };
        for network in ["192.0.2.7", "2001:db8::7"] {
            let network = network.parse().unwrap();
            assert_eq!(read_silences(&silences_row(silences, network)), Some((silences, network)));
        }
        assert_eq!(read_silences(&[0; 19]), None);
    }
}
