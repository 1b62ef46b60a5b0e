//! A back end with scripted gateways before it.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use hailpost::{
    gateway::{Backend, BackendConfig, BackendCounters, Enrolment, Open},
    io::{Conn, Input, KeyId, Output, Peer, Service, Transport},
    node::{BackendNode, Event, EventKind, Node},
    recognize::model::TrainerConfig,
    rng::Seeded,
    store::{Memory, Store},
    time::Time,
    wire::gateway::{Body, Family, decode, seal, unseal},
};

use super::*;

pub const LISTENER: Conn = Conn(900_000);

/// The back end, its clock, and what it said to whom.
pub struct Desk {
    pub node: BackendNode,
    pub now: Time,
    pub family: Family,
    pub events: Vec<Event>,
    closed: Vec<Conn>,
    /// Whether the store commits at the end of a turn.
    pub commits: bool,
    heard: HashMap<(Conn, Option<SocketAddr>), Vec<Vec<u8>>>,
    epochs: HashMap<SocketAddr, u32>,
}

pub fn config(family: Family) -> BackendConfig {
    BackendConfig { family, agreement: 1, open_group: Some("home".into()), ..BackendConfig::default() }
}

impl Desk {
    pub fn new(config: BackendConfig) -> Desk {
        Desk::on(config, Box::new(Memory::default()), None)
    }

    pub fn on(config: BackendConfig, store: Box<dyn Store>, train: Option<u64>) -> Desk {
        let family = config.family;
        let open = Open { now: Time::ZERO, unix: 1_700_000_000, rng: Seeded::new(7) };
        let train = train.map(|seed| TrainerConfig { seed, ..TrainerConfig::default() });
        let node = BackendNode::open(config, open, store, train).unwrap();
        let mut desk = Desk {
            node,
            now: Time::ZERO,
            family,
            events: Vec::new(),
            closed: Vec::new(),
            commits: true,
            heard: HashMap::new(),
            epochs: HashMap::new(),
        };
        let address = "192.0.2.1:7700".parse().unwrap();
        let peer = Peer {
            transport: Transport::Datagram,
            local: address,
            remote: address,
            key: None,
            service: Service::Gateway,
        };
        desk.turn(Input::Accepted { conn: LISTENER, peer });
        desk
    }

    pub fn backend(&mut self) -> &mut Backend {
        self.node.backend_mut()
    }

    pub fn counters(&self) -> BackendCounters {
        *self.node.backend().counters()
    }

    /// One turn, as a driver takes it.
    pub fn turn(&mut self, input: Input<'_>) {
        self.node.handle(self.now, input);
        self.drain();
    }

    /// Outputs, the store, outputs again.
    pub fn drain(&mut self) {
        self.pull();
        // What had to go for something is deleted once that is durable.
        while self.commits && self.node.flush(self.now) {
            self.pull();
        }
    }

    fn pull(&mut self) {
        while let Some(output) = self.node.poll_output(self.now) {
            match output {
                Output::Send { conn, to, octets } => self.heard.entry((conn, to)).or_default().push(octets),
                Output::Close { conn } => self.closed.push(conn),
                Output::Event(event) => self.events.push(event),
                Output::Connect { .. } | Output::Reach { .. } | Output::Store(_) => {
                    panic!("a back end's node does not say this")
                }
            }
        }
    }

    /// Lets time pass, deadline by deadline.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.node.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.turn(Input::Deadline);
        }
        self.now = end;
    }

    /// A stream comes in.
    pub fn connect(&mut self, number: u32, key: Option<KeyId>) -> Conn {
        let conn = Conn(number);
        let remote = SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 5000));
        let local = "192.0.2.1:7700".parse().unwrap();
        self.turn(Input::Accepted {
            conn,
            peer: Peer { transport: Transport::Stream, local, remote, key, service: Service::Gateway },
        });
        conn
    }

    /// Streams that it closed since this was last asked.
    pub fn hung_up(&mut self) -> Vec<Conn> {
        std::mem::take(&mut self.closed)
    }

    /// Octets on a stream, as they are.
    pub fn octets(&mut self, conn: Conn, octets: &[u8]) {
        self.turn(Input::Received { conn, from: None, octets });
    }

    /// A message on a stream.
    pub fn say(&mut self, conn: Conn, tag: u16, body: &Body<'_>) {
        self.octets(conn, &encoder(self.family).message(tag, body));
    }

    /// What was sent on a stream since this was last asked.
    pub fn raw(&mut self, conn: Conn) -> Vec<Vec<u8>> {
        self.heard.remove(&(conn, None)).unwrap_or_default()
    }

    /// The same, as ids and tags.
    pub fn heard(&mut self, conn: Conn) -> Vec<Said> {
        self.raw(conn).iter().map(|octets| said(self.family, octets)).collect()
    }

    /// Answers all requests until there is none; what was sent, answered or not.
    pub fn answer_all(&mut self, conn: Conn) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let heard = self.raw(conn);
            if heard.is_empty() {
                return all;
            }
            for octets in &heard {
                let message = decode(self.family, octets).unwrap();
                if let Some(body) = answer(&message) {
                    self.say(conn, message.header.tag, &body);
                }
            }
            all.extend(heard);
        }
    }

    /// A gateway that registered on a stream and has all it is to be told.
    pub fn member(&mut self, number: u32, key: Option<KeyId>, tag: u16) -> Conn {
        let conn = self.connect(number, key);
        self.say(conn, tag, &Body::Register);
        let said: Vec<Said> = self.answer_all(conn).iter().map(|octets| said(self.family, octets)).collect();
        assert_eq!(said[0], (REGISTER | ANSWER, tag));
        conn
    }

    pub fn enrol(&mut self, octet: u8, group: &str, trusted: bool) -> KeyId {
        let enrolment =
            Enrolment { name: format!("gateway {octet}"), group: group.into(), trusted, barred: false };
        self.backend().enrol(key(octet), enrolment).unwrap();
        self.drain();
        key(octet)
    }

    /// A datagram as it is.
    pub fn datagram(&mut self, from: SocketAddr, octets: &[u8]) {
        self.turn(Input::Received { conn: LISTENER, from: Some(from), octets });
    }

    /// What was sent to an address since this was last asked, as it is.
    pub fn datagrams(&mut self, to: SocketAddr) -> Vec<Vec<u8>> {
        self.heard.remove(&(LISTENER, Some(to))).unwrap_or_default()
    }

    /// A gateway on datagrams that registered, its address probed if that is wanted.
    pub fn datagram_member(&mut self, from: SocketAddr, tag: u16) {
        let register = encoder(self.family).message(tag, &Body::Register);
        self.datagram(from, &register);
        let mut heard = self.datagrams(from);
        let first = decode(self.family, &heard[0]).unwrap();
        if let Body::Heartbeat = first.body {
            let answer = encoder(self.family).message(first.header.tag, &Body::HeartbeatAnswer);
            self.datagram(from, &answer);
            self.datagram(from, &register);
            heard = self.datagrams(from);
        }
        let message = decode(self.family, &heard[0]).unwrap();
        let Body::RegisterAnswer(outcome) = message.body else { panic!("{message:?}") };
        if tag != 0 {
            self.epochs.insert(from, u32::from(tag) << 16 | u32::from(outcome.reason.0));
        }
        self.answer_datagrams(from, heard.split_off(1));
    }

    /// A message to the back end from a gateway that registered.
    pub fn say_from(&mut self, from: SocketAddr, tag: u16, body: &Body<'_>) {
        let mut octets = encoder(self.family).message(tag, body);
        if let Some(epoch) = self.epochs.get(&from) {
            seal(*epoch, &mut octets);
        }
        self.datagram(from, &octets);
    }

    /// What was sent to a gateway that registered on datagrams, unsealed.
    pub fn heard_from(&mut self, to: SocketAddr) -> Vec<Vec<u8>> {
        let epoch = self.epochs.get(&to).copied();
        let open = |octets: Vec<u8>| match epoch {
            Some(epoch) => unseal(epoch, &octets).expect("it is sealed").to_vec(),
            None => octets,
        };
        self.datagrams(to).into_iter().map(open).collect()
    }

    fn answer_datagrams(&mut self, from: SocketAddr, sealed: Vec<Vec<u8>>) {
        self.heard.entry((LISTENER, Some(from))).or_default().splice(0..0, sealed);
        loop {
            let heard = self.heard_from(from);
            if heard.is_empty() {
                return;
            }
            for octets in heard {
                let message = decode(self.family, &octets).unwrap();
                if let Some(body) = answer(&message) {
                    self.say_from(from, message.header.tag, &body);
                }
            }
        }
    }

    /// Takes all that was sent to anyone, and says how many octets that were.
    pub fn sent_octets(&mut self) -> usize {
        self.heard.drain().flat_map(|(_, sent)| sent).map(|octets| octets.len()).sum()
    }

    /// How many events of a kind there were since this was last asked.
    pub fn told(&mut self, kind: EventKind) -> usize {
        let before = self.events.len();
        self.events.retain(|event| event.kind() != kind);
        before - self.events.len()
    }
}
