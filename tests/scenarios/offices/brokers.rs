//! Brokers apart from the hub and a balancer, in the world of an office, and what can be wrong with them.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use hailpost::{
    io::{Conn, Input, KeyId, Output, Service, Transport},
    link::ServerConfig,
    node::{BalancerNode, BalancerNodeConfig, BrokerNode, BrokerNodeConfig, Event, Node},
    post::broker::BrokerConfig,
    store::Memory,
    time::Time,
    wire::inner::{Deframer, Message},
};

use super::{Roles, defects::Defect, house::PORT, plan::DEVICES};
use crate::sim::{HostId, World};

/// Where the hub and the balancer listen for brokers.
pub const INNER: u16 = 7702;
/// Set in the names of a broker's connections to balancers.
const TO_BALANCER: u32 = 1 << 30;

/// The key of a broker.
pub const fn key(broker: usize) -> KeyId {
    KeyId([broker as u8 + 1; 32])
}

/// Where a broker is.
pub fn ip(broker: usize) -> IpAddr {
    [10, 0, 3, broker as u8 + 1].into()
}

/// Adds a broker of a hub, which is down.
pub fn add_broker(
    world: &mut World,
    hub: HostId,
    balancer: Option<HostId>,
    defect: Option<Defect>,
    at: usize,
) -> HostId {
    let host = world.add(&name(at), ip(at), move |boot| {
        let broker = BrokerConfig { name: name(at), ..BrokerConfig::default() };
        let balancers = usize::from(balancer.is_some());
        // With a balancer no more than all devices need, so that who is gone without a word takes somebody's place.
        let max_sessions = if balancer.is_some() { DEVICES as u32 } else { 100 };
        let link = ServerConfig { max_sessions, ..ServerConfig::default() };
        let config = BrokerNodeConfig { link, broker, balancers, ..BrokerNodeConfig::default() };
        let node = BrokerNode::new(config, boot.now, boot.rng);
        match defect.filter(|defect| defect.is_of_brokers()) {
            Some(defect) => Box::new(Tampered::new(node, defect)),
            None => Box::new(node),
        }
    });
    world.listen_for(host, Transport::Datagram, PORT, Service::Link);
    world.route(host, hub, Transport::Stream, INNER, Some(key(at)));
    if let Some(balancer) = balancer {
        world.route_way(host, 1, balancer, Transport::Stream, INNER, Some(key(at)));
    }
    host
}

fn name(at: usize) -> String {
    format!("broker {at}")
}

/// Adds a balancer, which is up; answers with its key too.
pub fn add_balancer(world: &mut World, defect: Option<Defect>) -> (HostId, [u8; 32]) {
    let memory = Memory::default();
    let host = world.add("balancer", [10, 0, 0, 2].into(), move |boot| {
        let keys = (0..Roles::Balanced.brokers()).map(key).collect();
        let config = BalancerNodeConfig { brokers: keys, ..BalancerNodeConfig::default() };
        let node = BalancerNode::open(config, boot.now, boot.rng, Box::new(memory.clone()));
        let node = node.expect("memory never fails");
        match defect {
            Some(Defect::BalancerGivesTheSilent) => Box::new(Credulous::new(node)),
            _ => Box::new(node),
        }
    });
    world.listen_for(host, Transport::Datagram, PORT, Service::Link);
    world.listen_for(host, Transport::Stream, INNER, Service::Inner);
    world.boot(host);
    let plain = world.node_as::<BalancerNode>(host);
    let node = plain.or_else(|| world.node_as::<Credulous>(host).map(|credulous| &credulous.inner));
    (host, node.expect("it is up").server_key())
}

/// The broker of a host that is up.
pub fn node(world: &World, host: HostId) -> Option<&BrokerNode> {
    let plain = world.node_as::<BrokerNode>(host);
    plain.or_else(|| world.node_as::<Tampered>(host).map(|tampered| &tampered.inner))
}

/// Lets a broker drain, if it is up.
pub fn drain(world: &mut World, host: HostId) {
    world.with(host, |node, _| {
        let any: &mut dyn std::any::Any = node;
        match any.downcast_mut::<Tampered>() {
            Some(tampered) => tampered.inner.drain(true),
            None => any.downcast_mut::<BrokerNode>().expect("a broker is a broker").drain(true),
        }
    });
}

/// A broker whose words to its hub or its balancer are changed on the way.
struct Tampered {
    inner: BrokerNode,
    defect: Defect,
    /// Of the connection to the hub, and to the balancer.
    deframers: [Deframer; 2],
    outputs: VecDeque<Output<Event>>,
    /// When the hub took it last.
    registered: Option<Time>,
}

impl Tampered {
    fn new(inner: BrokerNode, defect: Defect) -> Tampered {
        let (deframers, outputs) = (Default::default(), VecDeque::new());
        Tampered { inner, defect, deframers, outputs, registered: None }
    }

    /// What becomes of a message to the hub or the balancer.
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
            (Defect::BrokerHidesThatItDrains, Message::Load { load, sessions, .. }) => {
                Some(Message::Load { load, sessions, draining: false })
            }
            (_, message) => Some(message),
        }
    }
}

impl Node for Tampered {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Connected { conn, .. } if conn.0 & TO_BALANCER != 0 => {
                self.deframers[1] = Deframer::default();
            }
            Input::Connected { .. } => {
                self.deframers[0] = Deframer::default();
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
                    let to = usize::from(conn.0 & TO_BALANCER != 0);
                    let mut octets = &octets[..];
                    while let Some(frame) = self.deframers[to].next(&mut octets) {
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

/// A balancer that takes who says nothing any more for who said something just now.
struct Credulous {
    inner: BalancerNode,
    /// What brokers reported last, and when something came from them.
    reports: BTreeMap<Conn, Report>,
}

#[derive(Default)]
struct Report {
    deframer: Deframer,
    last: Option<Vec<u8>>,
    heard: Time,
}

impl Credulous {
    /// From one report to the next.
    const EVERY: Duration = Duration::from_secs(12);

    fn new(inner: BalancerNode) -> Credulous {
        Credulous { inner, reports: BTreeMap::new() }
    }
}

impl Node for Credulous {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Received { conn, from: None, mut octets } => {
                let report = self.reports.entry(conn).or_default();
                report.heard = now;
                while let Some(frame) = report.deframer.next(&mut octets) {
                    let frame = frame.expect("a broker sends frames");
                    let message = Message::decode(&frame).expect("and messages in them");
                    let octets = message.encode(frame.correlation);
                    if matches!(message, Message::Load { .. }) {
                        report.last = Some(octets.clone());
                    }
                    self.inner.handle(now, Input::Received { conn, from: None, octets: &octets });
                }
            }
            Input::Closed { .. } => {}
            Input::Deadline => {
                for (conn, report) in &mut self.reports {
                    if report.heard + Credulous::EVERY <= now {
                        report.heard = now;
                        let last = report.last.iter();
                        last.for_each(|octets| {
                            self.inner.handle(now, Input::Received { conn: *conn, from: None, octets });
                        });
                    }
                }
                self.inner.handle(now, Input::Deadline);
            }
            input => self.inner.handle(now, input),
        }
    }

    fn poll_output(&mut self, now: Time) -> Option<Output<Event>> {
        let output = self.inner.poll_output(now)?;
        if let Output::Close { conn } = output {
            self.reports.remove(&conn);
        }
        Some(output)
    }

    fn flush(&mut self, now: Time) -> bool {
        self.inner.flush(now)
    }

    fn deadline(&self) -> Option<Time> {
        let reports = self.reports.values().map(|report| report.heard + Credulous::EVERY).min();
        [self.inner.deadline(), reports].into_iter().flatten().min()
    }
}
