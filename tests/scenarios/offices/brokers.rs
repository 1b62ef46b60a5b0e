//! Brokers apart from the hub, in the world of an office, and what can be wrong with them.

use std::collections::VecDeque;

use hailpost::{
    io::{Conn, Input, KeyId, Output, Service, Transport},
    link::ServerConfig,
    node::{BrokerNode, BrokerNodeConfig, Event, Node},
    post::broker::BrokerConfig,
    time::Time,
    wire::inner::{Deframer, Message},
};

use super::{defects::Defect, run::PORT};
use crate::sim::{HostId, World};

/// Brokers apart from the hub.
pub const BROKERS: usize = 2;
/// Where the hub listens for them.
pub const INNER: u16 = 7702;

/// The key of a broker.
pub const fn key(broker: usize) -> KeyId {
    KeyId([broker as u8 + 1; 32])
}

/// Adds the brokers of a hub, which are down.
pub fn add(world: &mut World, hub: HostId, defect: Option<Defect>) -> Vec<HostId> {
    (0..BROKERS).map(|at| add_one(world, hub, defect, at)).collect()
}

fn add_one(world: &mut World, hub: HostId, defect: Option<Defect>, at: usize) -> HostId {
    let host = world.add(&format!("broker {at}"), [10, 0, 3, at as u8 + 1].into(), move |boot| {
        let broker = BrokerConfig { name: format!("broker {at}"), ..BrokerConfig::default() };
        let config =
            BrokerNodeConfig { link: ServerConfig::default(), broker, ..BrokerNodeConfig::default() };
        let node = BrokerNode::new(config, boot.now, boot.rng);
        match defect.filter(|defect| defect.is_of_brokers()) {
            Some(defect) => Box::new(Tampered::new(node, defect)),
            None => Box::new(node),
        }
    });
    world.listen_for(host, Transport::Datagram, PORT, Service::Link);
    world.route(host, hub, Transport::Stream, INNER, Some(key(at)));
    host
}

/// The broker of a host that is up.
pub fn node(world: &World, host: HostId) -> Option<&BrokerNode> {
    let plain = world.node_as::<BrokerNode>(host);
    plain.or_else(|| world.node_as::<Tampered>(host).map(|tampered| &tampered.inner))
}

/// A broker whose words to its hub are changed on the way.
struct Tampered {
    inner: BrokerNode,
    defect: Defect,
    deframer: Deframer,
    outputs: VecDeque<Output<Event>>,
    /// When the hub took it last.
    registered: Option<Time>,
}

impl Tampered {
    fn new(inner: BrokerNode, defect: Defect) -> Tampered {
        let (deframer, outputs) = (Deframer::default(), VecDeque::new());
        Tampered { inner, defect, deframer, outputs, registered: None }
    }

    /// What becomes of a message to the hub.
    fn tamper(&mut self, now: Time, message: Message) -> Option<Message> {
        let lately = self.registered.is_some_and(|at| now.since(at).as_secs() < 3);
        match (self.defect, message) {
            (Defect::BrokerLosesWhatIsSaid, Message::Up { .. }) if lately => None,
            (Defect::HubKeepsADeadEpoch, Message::Register { name, most, .. }) => {
                Some(Message::Register { name, epoch: 7, most })
            }
            (Defect::HubKeepsADeadEpoch, Message::Digest { sitting, .. }) => {
                Some(Message::Digest { sitting, last: false })
            }
            (Defect::BrokerTellsNobodyIsThere, Message::Digest { last, .. }) => {
                Some(Message::Digest { sitting: Vec::new(), last })
            }
            (_, message) => Some(message),
        }
    }
}

impl Node for Tampered {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Connected { .. } => {
                self.deframer = Deframer::default();
                self.registered = None;
            }
            Input::Received { conn, .. } if conn.0 & Conn::OURS != 0 && self.inner.is_registered() => {
                self.registered = self.registered.or(Some(now));
            }
            _ => {}
        }
        self.inner.handle(now, input);
    }

    fn poll_output(&mut self, now: Time) -> Option<Output<Event>> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            match self.inner.poll_output(now)? {
                Output::Send { conn, to: None, octets } if conn.0 & Conn::OURS != 0 => {
                    let mut octets = &octets[..];
                    while let Some(frame) = self.deframer.next(&mut octets) {
                        let frame = frame.expect("a broker sends frames");
                        let message = Message::decode(&frame).expect("and messages in them");
                        if let Some(message) = self.tamper(now, message) {
                            let octets = message.encode(frame.correlation);
                            self.outputs.push_back(Output::Send { conn, to: None, octets });
                        }
                    }
                }
                other => return Some(other),
            }
        }
    }

    fn flush(&mut self, now: Time) -> bool {
        self.inner.flush(now)
    }

    fn deadline(&self) -> Option<Time> {
        self.inner.deadline()
    }
}
