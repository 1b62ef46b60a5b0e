//! A broker apart from its hub: devices on the link, the hub on a connection, nothing kept.

use std::{collections::VecDeque, net::SocketAddr};

use super::{
    Event, EventKind, Field, Node,
    balancers::{Balancers, Listed},
    links::{Linked, Links, OfficeCounters},
};
use crate::{
    io::{Conn, Input, Output, Peer, Service, Transport},
    link::{Server, ServerConfig, ServerSecrets, TicketRoot},
    post::{
        Inbox, SessionId,
        balancer::{Load, UplinkCounters},
        broker::{Broker, BrokerConfig, BrokerCounters, BrokerEvent, BrokerOutput},
    },
    rng::Entropy,
    time::Time,
    wire::{inner::Registered, link::Refusal},
};

/// How a broker behaves.
#[derive(Clone, Debug)]
pub struct BrokerNodeConfig {
    /// The link.
    pub link: ServerConfig,
    /// What it says to the hub.
    pub broker: BrokerConfig,
    /// Streams of devices, at the most.
    pub max_streams: usize,
    /// Octets that wait, of all sessions, because the link has no room for them.
    pub max_held: usize,
    /// Balancers that it reports to: so many of its ways, from 1 on.
    pub balancers: usize,
    /// Where devices find it that are sent by a balancer; unless set where its first datagram socket listens.
    pub public_address: Option<SocketAddr>,
}

impl Default for BrokerNodeConfig {
    fn default() -> BrokerNodeConfig {
        BrokerNodeConfig {
            link: ServerConfig::default(),
            broker: BrokerConfig::default(),
            max_streams: 65_536,
            max_held: 64 << 20,
            balancers: 0,
            public_address: None,
        }
    }
}

/// A broker. It is the office to its devices from when its hub has said how; until then nobody is answered.
pub struct BrokerNode {
    link: ServerConfig,
    rng: Box<dyn FnMut() -> Box<dyn Entropy + Send> + Send>,
    links: Links,
    /// The hub has told the office's keys.
    is_office: bool,
    is_draining: bool,
    broker: Broker,
    balancers: Balancers,
    balancer_count: usize,
    public_address: Option<SocketAddr>,
    name: String,
    most: u32,
    outputs: VecDeque<Output<Event>>,
    events: VecDeque<Event>,
}

impl BrokerNode {
    /// A broker that connects to its hub, the first of its remotes, at once.
    pub fn new(
        config: BrokerNodeConfig,
        now: Time,
        rng: impl Entropy + Clone + Send + 'static,
    ) -> BrokerNode {
        let mut own = rng.clone();
        // Of nobody's office, and never shown: the hub's take its place before a datagram is read.
        let mut private = [0; 32];
        own.fill(&mut private);
        let tickets = TicketRoot { day: 0, key: private };
        let secrets = ServerSecrets { private, next_private: None, reset: private, tickets };
        let server = Server::new(config.link.clone(), secrets, now, 0, own.clone());
        let max_sessions = config.link.max_sessions.min(config.broker.max_sessions);
        BrokerNode {
            balancers: Balancers::default(),
            balancer_count: config.balancers,
            public_address: config.public_address,
            name: config.broker.name.clone(),
            most: max_sessions,
            links: Links::new(server, config.max_streams, config.max_held),
            broker: Broker::new(BrokerConfig { max_sessions, ..config.broker }, now, own),
            link: config.link,
            rng: Box::new(move || Box::new(rng.clone())),
            is_office: false,
            is_draining: false,
            outputs: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The key that devices must know it by, once the hub has told: the office's.
    pub fn server_key(&self) -> Option<[u8; 32]> {
        self.links.server.public_keys()[0].filter(|_| self.is_office)
    }

    /// Whether the hub is there.
    pub const fn is_registered(&self) -> bool {
        self.broker.is_registered()
    }

    /// The link's end.
    pub fn server(&self) -> &Server {
        &self.links.server
    }

    /// What was counted of devices.
    pub const fn counters(&self) -> &OfficeCounters {
        &self.links.counters
    }

    /// What was counted of the hub.
    pub const fn broker_counters(&self) -> &BrokerCounters {
        self.broker.counters()
    }

    /// Balancers that have this broker.
    pub fn enlisted(&self) -> usize {
        self.balancers.enlisted()
    }

    /// What was counted of balancers.
    pub fn balancer_counters(&self) -> UplinkCounters {
        self.balancers.counters()
    }

    /// What balancers are told. Without its hub a broker can let nobody in, so that devices are sent elsewhere.
    fn load(&self) -> Load {
        let sessions = self.links.server.len() as u32;
        let places = u64::from(sessions) * 100 / u64::from(self.most.max(1));
        let load = (places.min(100) as u8).max(self.links.backlog());
        Load { load, sessions, draining: self.is_draining || !self.broker.is_registered() }
    }

    /// Whether devices are told to log in elsewhere, and new ones are refused.
    pub fn drain(&mut self, draining: bool) {
        self.is_draining = draining;
        self.links.server.drain(draining);
    }

    /// Does what the link's end wants.
    fn linked(&mut self, now: Time, linked: Linked) -> Option<Output<Event>> {
        match linked {
            Linked::Output(output) => return Some(output),
            Linked::Lookup { ticket, session_id } => {
                self.broker.lookup(now, ticket, SessionId(session_id));
            }
            Linked::Up { session, principal, resumed } => {
                self.broker.up(now, session, inbox(principal), resumed);
            }
            Linked::Message { session, principal, octets } => {
                self.broker.said(session, inbox(principal), octets);
            }
            Linked::Gone { session, principal, why } => self.broker.gone(session, inbox(principal), why),
            // The hub's own turns too, and is what is kept.
            Linked::TicketRoot(_) => {}
        }
        None
    }

    /// Does what the uplink wants.
    fn brokered(&mut self, now: Time, output: BrokerOutput) {
        match output {
            BrokerOutput::Connect(conn) => self.outputs.push_back(Output::Connect { conn, way: 0 }),
            BrokerOutput::Send(conn, octets) => {
                self.outputs.push_back(Output::Send { conn, to: None, octets });
            }
            BrokerOutput::Close(conn) => self.outputs.push_back(Output::Close { conn }),
            BrokerOutput::Identity(registered, is_new) => self.be(now, &registered, is_new),
            BrokerOutput::TicketRoot(root) => {
                let unix = self.links.server.unix(now);
                self.links.server.set_tickets(root, unix);
            }
            BrokerOutput::Revoke(inbox, epoch) => self.links.server.revoke(now, inbox.0.into(), epoch),
            BrokerOutput::Found(ticket, credential) => {
                self.links.server.authenticated(now, ticket, credential.ok_or(Refusal::Unknown));
            }
            BrokerOutput::Down(session, inbox, octets) => {
                self.links.send(now, session, inbox.0.into(), octets);
            }
            BrokerOutput::Evict(session, inbox, why) => {
                if self.links.server.principal(session) == Some(inbox.0.into()) {
                    self.links.close(now, session, why);
                }
            }
            BrokerOutput::Event(event) => self.events.push_back(match event {
                BrokerEvent::Registered => Event::new(EventKind::Registered),
                BrokerEvent::Down(fault) => Event::new(EventKind::Down).with_fault(fault),
                BrokerEvent::Refused(code, text) => Event::new(EventKind::Refused)
                    .with_u64(Field::Reason, code.into())
                    .with_text(Field::Text, text),
            }),
        }
    }

    /// Is the office that the hub says. Sessions of another one are over; they are told so when they say something.
    fn be(&mut self, now: Time, registered: &Registered, is_new: bool) {
        let tickets = TicketRoot { day: registered.ticket_day, key: registered.ticket_key };
        if !is_new {
            self.links.server.set_unix(now, registered.unix);
            return self.links.server.set_tickets(tickets, registered.unix);
        }
        let secrets = ServerSecrets {
            private: registered.private,
            next_private: registered.next_private,
            reset: registered.reset,
            tickets,
        };
        let rng = (self.rng)();
        let mut server = Server::new(self.link.clone(), secrets, now, registered.unix, rng);
        server.drain(self.is_draining);
        self.links.replace(server);
        self.is_office = true;
        if let (Some(address), Some(link_key)) = (self.public_address, self.server_key()) {
            let listed = Listed { name: self.name.clone(), address, link_key, most: self.most };
            self.balancers.begin(now, &listed, self.balancer_count, &mut self.rng);
        }
    }
}

impl Node for BrokerNode {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        if self.balancers.handle(now, &input) {
            return;
        }
        match input {
            Input::Accepted { conn, peer: peer @ Peer { transport: Transport::Datagram, .. } }
            | Input::Accepted { conn, peer: peer @ Peer { service: Service::Link, .. } } => {
                if peer.transport == Transport::Datagram {
                    self.public_address = self.public_address.or(Some(peer.local));
                }
                self.links.accepted(now, conn, &peer);
            }
            Input::Accepted { conn, .. } => self.outputs.push_back(Output::Close { conn }),
            Input::Connected { conn, .. } => self.broker.connected(now, conn),
            Input::Received { from: Some(from), octets, .. } => {
                if self.is_office {
                    self.links.datagram(now, from, octets);
                }
            }
            Input::Received { conn, octets, .. } if conn.0 & Conn::OURS != 0 => {
                self.broker.received(now, conn, octets);
            }
            Input::Received { conn, octets, .. } => {
                if self.is_office {
                    self.links.received(now, conn, octets);
                }
            }
            Input::Closed { conn, fault } => {
                if conn.0 & Conn::OURS != 0 {
                    self.broker.closed(now, conn, fault);
                } else {
                    self.links.closed(conn);
                }
            }
            Input::Deadline => {
                self.links.expire(now);
                self.balancers.expire(now);
                self.broker.handle_deadline(now);
            }
            Input::NetworkChanged => self.broker.network_changed(now),
            // A broker keeps nothing, and the time is what its hub says.
            Input::Stored { .. } | Input::Clock { .. } => {}
        }
    }

    fn poll_output(&mut self, now: Time) -> Option<Output<Event>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Output::Event(event));
            }
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if let Some(linked) = self.links.poll(now) {
                match self.linked(now, linked) {
                    Some(output) => return Some(output),
                    None => continue,
                }
            }
            if let Some(output) = self.broker.poll_output(now) {
                self.brokered(now, output);
                continue;
            }
            let load = self.load();
            self.balancers.set_load(now, load);
            return self.balancers.poll_output(now);
        }
    }

    fn flush(&mut self, _now: Time) -> bool {
        false
    }

    fn deadline(&self) -> Option<Time> {
        [self.links.deadline(), self.broker.deadline(), self.balancers.deadline()].into_iter().flatten().min()
    }
}

/// A device's queue names it on the link.
fn inbox(principal: u64) -> Inbox {
    Inbox(principal as u32)
}
