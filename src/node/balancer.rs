//! A balancer: devices ask it on a datagram socket, brokers report to it on inner links.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use super::{
    Event, EventKind, Field, Node,
    durable::{Committed, Durable},
};
use crate::{
    counters::counters,
    io::{Conn, Input, KeyId, Output, Peer, Service, Transport},
    post::{
        balancer::{Balancer, BalancerConfig, BalancerEvent, Listing, Load, Out},
        line::Line,
    },
    rng::Entropy,
    status::{Fault, Status},
    store::{Batch, Op, Store, Table},
    time::Time,
    wire::inner::Message,
};

/// What a balancer has to keep: its key.
const LINK: Table = Table::rows("link");
const PRIVATE: &[u8] = b"balancer";
/// How long a connection may be there without a broker that enlisted on it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections of one key, at the most: no broker takes the room of others.
const MAX_LINES_OF_ONE: usize = 16;
const TAKEN: &str = "a newer connection with this key and name is there: two brokers must not share one key";

/// How a balancer behaves.
#[derive(Clone, Debug)]
pub struct BalancerNodeConfig {
    /// Towards brokers and devices.
    pub balancer: BalancerConfig,
    /// The keys of brokers that may enlist.
    pub brokers: BTreeSet<KeyId>,
    /// Inner connections at the most.
    pub max_lines: usize,
}

impl Default for BalancerNodeConfig {
    fn default() -> BalancerNodeConfig {
        BalancerNodeConfig { balancer: BalancerConfig::default(), brokers: BTreeSet::new(), max_lines: 1024 }
    }
}

counters! {
    /// What a balancer's node counted besides the balancer.
    pub struct BalancerNodeCounters {
        lines: "inner connections taken",
        lines_full: "inner connections closed because there were too many",
        unlisted: "inner connections refused because their key is not listed",
        unusable: "brokers refused because their address cannot be used",
        broken: "inner connections closed because of what came on them",
        silent: "inner connections closed because nothing came on them",
        impatient: "inner connections closed because no broker enlisted on them",
        misdirected: "inner connections refused because they were meant for a hub",
        unexpected: "inner messages that are not for a balancer",
    }
}

/// An inner connection.
struct Inner {
    line: Line,
    key: KeyId,
    /// When it is closed, unless a broker enlists.
    due: Option<Time>,
    /// It is closed once all that waits was sent.
    closing: bool,
}

/// A balancer.
pub struct BalancerNode {
    config: BalancerNodeConfig,
    balancer: Balancer,
    store: Durable,
    /// Where datagrams go out: IPv4 and IPv6.
    sockets: [Option<Conn>; 2],
    lines: BTreeMap<Conn, Inner>,
    outputs: VecDeque<Output<Event>>,
    events: VecDeque<Event>,
    counters: BalancerNodeCounters,
}

impl BalancerNode {
    /// A balancer with the key that its store holds; one is drawn where there is none.
    ///
    /// # Errors
    /// When the store fails, [`Status::StoreCorrupt`] when the key cannot be read.
    pub fn open(
        config: BalancerNodeConfig,
        now: Time,
        mut rng: impl Entropy + Clone + Send + 'static,
        store: Box<dyn Store>,
    ) -> Result<BalancerNode, Fault> {
        let mut kept = None;
        store.load(LINK, &mut |key, value| {
            if key == PRIVATE {
                kept = Some(value.to_vec());
            }
        })?;
        let mut store = Durable::new(store);
        let private = match kept {
            Some(octets) => octets
                .try_into()
                .map_err(|_| Fault::new(Status::StoreCorrupt, "the balancer's key cannot be read"))?,
            None => {
                let mut private = [0; 32];
                rng.fill(&mut private);
                let op = Op::Put { table: LINK, key: PRIVATE.to_vec(), value: private.to_vec() };
                store.submit(Batch { ticket: 1, ops: vec![op] });
                private
            }
        };
        Ok(BalancerNode {
            balancer: Balancer::new(config.balancer, private, now, rng),
            config,
            store,
            sockets: [None; 2],
            lines: BTreeMap::new(),
            outputs: VecDeque::new(),
            events: VecDeque::new(),
            counters: BalancerNodeCounters::default(),
        })
    }

    /// The key that devices must know it by.
    pub const fn server_key(&self) -> [u8; 32] {
        self.balancer.public_key()
    }

    /// The balancer.
    pub const fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// What was counted.
    pub const fn counters(&self) -> &BalancerNodeCounters {
        &self.counters
    }

    /// Which brokers may enlist from now on. Those that may no more are let go.
    pub fn set_brokers(&mut self, brokers: BTreeSet<KeyId>) {
        self.config.brokers = brokers;
        let gone =
            |(conn, inner): (&Conn, &Inner)| (!self.config.brokers.contains(&inner.key)).then_some(*conn);
        let gone: Vec<Conn> = self.lines.iter().filter_map(gone).collect();
        gone.into_iter().for_each(|conn| self.refuse(conn, 401, "its key is not listed any more"));
    }

    fn accepted(&mut self, now: Time, conn: Conn, peer: &Peer) {
        match (peer.transport, peer.service) {
            (Transport::Datagram, _) => self.sockets[usize::from(peer.local.is_ipv6())] = Some(conn),
            (Transport::Stream, Service::Inner) if self.lines.len() < self.config.max_lines => {
                self.counters.lines += 1;
                let listed = peer.key.filter(|key| self.config.brokers.contains(key));
                let key = listed.unwrap_or(KeyId([0; 32]));
                let own = self.lines.values().filter(|inner| inner.key == key).count();
                let inner = Inner { line: Line::new(now), key, due: Some(now + PATIENCE), closing: false };
                self.lines.insert(conn, inner);
                if listed.is_none() {
                    self.counters.unlisted += 1;
                    self.refuse(conn, 401, "its key is not listed");
                } else if own >= MAX_LINES_OF_ONE {
                    self.counters.lines_full += 1;
                    self.refuse(conn, 507, "there are too many connections with this key");
                }
            }
            (Transport::Stream, _) => {
                self.counters.lines_full += 1;
                self.outputs.push_back(Output::Close { conn });
            }
        }
    }

    fn received(&mut self, now: Time, conn: Conn, mut octets: &[u8]) {
        while let Some(inner) = self.lines.get_mut(&conn).filter(|inner| !inner.closing) {
            match inner.line.next(now, &mut octets) {
                None => return,
                Some(Ok((correlation, message))) => self.told(now, conn, correlation, message),
                Some(Err(_)) => {
                    self.counters.broken += 1;
                    self.drop_line(conn);
                }
            }
        }
    }

    fn told(&mut self, now: Time, conn: Conn, correlation: u64, message: Message) {
        match message {
            Message::Enlist { name, address, link_key, most, .. } => {
                let Some(address) = usable(&address) else {
                    self.counters.unusable += 1;
                    return self.refuse(
                        conn,
                        400,
                        "its address is no IP address and port that devices can be sent to",
                    );
                };
                let Some(inner) = self.lines.get_mut(&conn) else { return };
                let listing = Listing { name, address, link_key, most };
                match self.balancer.enlist(conn.0.into(), inner.key, listing) {
                    Ok(broker) => {
                        inner.due = None;
                        inner.line.send(&Message::Enlisted { broker }, correlation);
                    }
                    Err(_) => self.refuse(conn, 507, "there are too many brokers"),
                }
            }
            Message::Load { load, sessions, draining } => {
                self.balancer.report(now, conn.0.into(), Load { load, sessions, draining });
            }
            Message::Register { .. } => {
                self.counters.misdirected += 1;
                self.refuse(conn, 421, "this is a balancer and no hub: the broker's option hub names it");
            }
            _ => self.counters.unexpected += 1,
        }
    }

    /// Says why, then closes.
    fn refuse(&mut self, conn: Conn, code: u16, text: &str) {
        self.balancer.closed(conn.0.into());
        if let Some(inner) = self.lines.get_mut(&conn) {
            inner.line.send(&Message::Refused { code, text: text.to_owned() }, 0);
            inner.closing = true;
        }
    }

    fn drop_line(&mut self, conn: Conn) {
        self.lines.remove(&conn);
        self.balancer.closed(conn.0.into());
        self.outputs.push_back(Output::Close { conn });
    }

    fn expire(&mut self, now: Time) {
        self.balancer.handle_deadline(now);
        let mut over = Vec::new();
        for (conn, inner) in &mut self.lines {
            if inner.due.is_some_and(|due| due <= now) {
                self.counters.impatient += 1;
                over.push(*conn);
            } else if inner.line.handle_deadline(now).is_err() {
                self.counters.silent += 1;
                over.push(*conn);
            }
        }
        over.into_iter().for_each(|conn| self.drop_line(conn));
    }

    /// What inner connections have to say, and those that have said all.
    fn write(&mut self, now: Time) {
        let mut said = Vec::new();
        for (conn, inner) in &mut self.lines {
            while let Some(octets) = inner.line.poll(now) {
                self.outputs.push_back(Output::Send { conn: *conn, to: None, octets });
            }
            if inner.closing {
                said.push(*conn);
            }
        }
        said.into_iter().for_each(|conn| self.drop_line(conn));
    }

    fn happened(&mut self, event: BalancerEvent) {
        self.events.push_back(match event {
            BalancerEvent::In { name, .. } => Event::new(EventKind::BrokerUp).with_text(Field::Name, name),
            BalancerEvent::Out { name, why } => {
                let text = match why {
                    Out::Silent => "its reports do not come any more",
                    Out::Draining => "it drains",
                    Out::Closed => "its connection is gone",
                };
                Event::new(EventKind::BrokerDown).with_text(Field::Name, name).with_text(Field::Text, text)
            }
            BalancerEvent::Displaced { line } => {
                return self.refuse(Conn(line as u32), 409, TAKEN);
            }
        });
    }
}

impl Node for BalancerNode {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Accepted { conn, peer } => self.accepted(now, conn, &peer),
            Input::Received { conn, from: Some(from), octets } => {
                let answer = self.balancer.datagram(now, from, octets);
                self.outputs.extend(answer.map(|octets| Output::Send { conn, to: Some(from), octets }));
            }
            Input::Received { conn, octets, .. } => self.received(now, conn, octets),
            Input::Closed { conn, .. } => {
                if self.lines.remove(&conn).is_some() {
                    self.balancer.closed(conn.0.into());
                }
            }
            Input::Deadline => self.expire(now),
            // A balancer connects to nobody, and its store is its own.
            Input::Connected { .. } | Input::Stored { .. } | Input::NetworkChanged | Input::Clock { .. } => {}
        }
    }

    fn poll_output(&mut self, now: Time) -> Option<Output<Event>> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if let Some(event) = self.events.pop_front() {
                return Some(Output::Event(event));
            }
            match self.balancer.poll_event() {
                Some(event) => self.happened(event),
                None => {
                    self.write(now);
                    if self.outputs.is_empty() {
                        return None;
                    }
                }
            }
        }
    }

    fn flush(&mut self, now: Time) -> bool {
        !matches!(self.store.commit(now, &mut self.events), Committed::Nothing)
    }

    fn deadline(&self) -> Option<Time> {
        let lines = self.lines.values();
        let lines = lines.map(|inner| inner.due.unwrap_or(Time::MAX).min(inner.line.deadline())).min();
        [self.balancer.deadline(), self.store.deadline(), lines].into_iter().flatten().min()
    }
}

/// An address that devices can be sent to.
fn usable(text: &str) -> Option<SocketAddr> {
    let address: SocketAddr = text.parse().ok()?;
    let ip = address.ip();
    (address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        link::{Asker, AskerEvent, AskerOutput},
        rng::Seeded,
        store::Memory,
        wire::balance::Question,
    };

    struct Desk {
        node: BalancerNode,
        now: Time,
        sent: Vec<(Conn, Option<SocketAddr>, Vec<u8>)>,
        closed: Vec<Conn>,
        events: Vec<Event>,
        seed: u64,
    }

    const UDP: Conn = Conn(1);

    fn peer(transport: Transport, key: Option<u8>) -> Peer {
        let local = "192.0.2.1:7700".parse().unwrap();
        let remote = "192.0.2.7:5000".parse().unwrap();
        let service = if transport == Transport::Stream { Service::Inner } else { Service::Link };
        Peer { transport, local, remote, key: key.map(|key| KeyId([key; 32])), service }
    }

    impl Desk {
        fn new(max_brokers: usize, max_lines: usize) -> Desk {
            let mut config = BalancerNodeConfig { max_lines, ..BalancerNodeConfig::default() };
            config.balancer.roster.max_brokers = max_brokers;
            config.brokers = (1..9).map(|key| KeyId([key; 32])).collect();
            let node =
                BalancerNode::open(config, Time::ZERO, Seeded::new(1), Box::new(Memory::default())).unwrap();
            let mut desk = Desk {
                node,
                now: Time::ZERO,
                sent: Vec::new(),
                closed: Vec::new(),
                events: Vec::new(),
                seed: 0,
            };
            desk.take(Input::Accepted { conn: UDP, peer: peer(Transport::Datagram, None) });
            desk
        }

        fn take(&mut self, input: Input<'_>) {
            self.node.handle(self.now, input);
            while let Some(output) = self.node.poll_output(self.now) {
                match output {
                    Output::Send { conn, to, octets } => self.sent.push((conn, to, octets)),
                    Output::Close { conn } => self.closed.push(conn),
                    Output::Event(event) => self.events.push(event),
                    other => panic!("{other:?}"),
                }
            }
            self.node.flush(self.now);
        }

        fn connect(&mut self, conn: u32, key: u8) {
            self.take(Input::Accepted { conn: Conn(conn), peer: peer(Transport::Stream, Some(key)) });
        }

        fn say(&mut self, conn: u32, message: &Message) {
            self.take(Input::Received { conn: Conn(conn), from: None, octets: &message.encode(7) });
        }

        fn enlist(&mut self, conn: u32, number: u8, address: &str) {
            let (name, address) = (format!("b{number}"), address.to_owned());
            let message = Message::Enlist { name, epoch: 1, address, link_key: [number; 32], most: 100 };
            self.say(conn, &message);
        }

        /// What was said on a connection, but for beats.
        fn heard(&mut self, conn: u32) -> Vec<Message> {
            let mut line = Line::new(self.now);
            let (own, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.sent).into_iter().partition(|(to, ..)| *to == Conn(conn));
            self.sent = rest;
            let octets: Vec<u8> = own.into_iter().flat_map(|(.., octets)| octets).collect();
            let mut octets = &octets[..];
            std::iter::from_fn(|| line.next(self.now, &mut octets)).map(|come| come.unwrap().1).collect()
        }

        fn ask(&mut self) -> AskerEvent {
            self.seed += 1;
            let mut asker = Asker::new(self.node.server_key(), Seeded::new(self.seed));
            asker.ask(self.now, Question::default());
            let Some(AskerOutput::Send(octets)) = asker.poll_output() else { panic!() };
            let from = Some("198.51.100.1:5000".parse().unwrap());
            self.take(Input::Received { conn: UDP, from, octets: &octets });
            let (conn, to, octets) = self.sent.pop().unwrap();
            assert_eq!((conn, to), (UDP, from));
            asker.handle(self.now, &octets);
            match asker.poll_output() {
                Some(AskerOutput::Event(event)) => event,
                other => panic!("{other:?}"),
            }
        }

        fn names(&mut self, kind: EventKind) -> Vec<String> {
            let of = |event: &Event| event.kind() == kind;
            let names = self.events.iter().filter(|event| of(event));
            let names = names.map(|event| event.text(Field::Name).unwrap().to_owned()).collect();
            self.events.retain(|event| !of(event));
            names
        }
    }

    const GOOD: Message = Message::Load { load: 5, sessions: 1, draining: false };

    #[test]
    fn a_broker_enlists_reports_and_is_given_until_its_connection_is_gone() {
        let mut desk = Desk::new(4, 16);
        assert!(matches!(desk.ask(), AskerEvent::None(_)));
        desk.connect(10, 1);
        desk.enlist(10, 1, "192.0.2.9:7700");
        assert_eq!(desk.heard(10), [Message::Enlisted { broker: 1 }]);
        assert!(matches!(desk.ask(), AskerEvent::None(_)), "not before its first report");
        desk.say(10, &GOOD);
        assert_eq!(desk.names(EventKind::BrokerUp), ["b1"]);
        let address = "192.0.2.9:7700".parse().unwrap();
        assert_eq!(desk.ask(), AskerEvent::Given { address, key: [1; 32] });
        desk.take(Input::Closed { conn: Conn(10), fault: None });
        assert_eq!(desk.names(EventKind::BrokerDown), ["b1"]);
        assert!(matches!(desk.ask(), AskerEvent::None(_)));
    }

    #[test]
    fn a_broker_whose_reports_stop_is_out_and_one_whose_beats_stop_is_let_go() {
        let mut desk = Desk::new(4, 16);
        for conn in [10, 11] {
            desk.connect(conn, conn as u8 - 9);
            desk.enlist(conn, conn as u8 - 9, "192.0.2.9:7700");
            desk.say(conn, &GOOD);
        }
        assert_eq!(desk.names(EventKind::BrokerUp), ["b1", "b2"]);
        let mut taken = 0;
        for second in 1..=40 {
            desk.now = Time::ZERO + Duration::from_secs(second);
            if second % 5 == 0 {
                // The first one's beats come, its reports do not.
                desk.say(10, &Message::Beat { taken });
            }
            desk.take(Input::Deadline);
            if second == 14 {
                assert_eq!(desk.names(EventKind::BrokerDown), [""; 0]);
            }
            if second == 15 {
                assert_eq!(
                    (desk.names(EventKind::BrokerDown), desk.closed.clone()),
                    (vec!["b2".into()], vec![Conn(11)])
                );
            }
            taken = 0;
        }
        assert_eq!(desk.names(EventKind::BrokerDown), ["b1"]);
        assert_eq!((desk.closed.clone(), desk.node.counters.silent), (vec![Conn(11)], 1));
        desk.say(10, &GOOD);
        assert_eq!(desk.names(EventKind::BrokerUp), ["b1"]);
    }

    #[test]
    fn who_may_not_or_cannot_be_a_broker_is_told_why_and_let_go() {
        let mut desk = Desk::new(1, 3);
        let code = |heard: Vec<Message>| match &heard[..] {
            [Message::Refused { code, .. }] => *code,
            other => panic!("{other:?}"),
        };
        desk.connect(10, 99);
        assert_eq!(code(desk.heard(10)), 401);
        desk.take(Input::Accepted { conn: Conn(11), peer: peer(Transport::Stream, None) });
        assert_eq!(code(desk.heard(11)), 401);
        for (conn, address) in [(12, "broker.example:7700"), (13, "0.0.0.0:7700"), (14, "192.0.2.1:0")] {
            desk.connect(conn, 1);
            desk.enlist(conn, 1, address);
            assert_eq!(code(desk.heard(conn)), 400);
        }
        desk.connect(15, 1);
        desk.enlist(15, 1, "192.0.2.9:7700");
        desk.connect(16, 2);
        desk.enlist(16, 2, "192.0.2.8:7700");
        assert_eq!(code(desk.heard(16)), 507);
        desk.connect(17, 1);
        desk.enlist(17, 1, "192.0.2.9:7700");
        assert_eq!(desk.heard(15)[1..], [Message::Refused { code: 409, text: TAKEN.into() }]);
        assert_eq!(desk.closed, [10, 11, 12, 13, 14, 16, 15].map(Conn));
        desk.node.set_brokers(BTreeSet::new());
        desk.take(Input::Deadline);
        assert_eq!(code(desk.heard(17).split_off(1)), 401);
        assert_eq!(desk.node.counters.unlisted + desk.node.counters.unusable, 5);
    }

    #[test]
    fn connections_are_bounded_in_number_and_time_and_by_what_comes() {
        let mut desk = Desk::new(4, 2);
        desk.connect(10, 1);
        desk.connect(11, 2);
        desk.connect(12, 3);
        assert_eq!((desk.closed.clone(), desk.node.counters.lines_full), (vec![Conn(12)], 1));
        desk.take(Input::Received { conn: Conn(10), from: None, octets: &[0xff; 64] });
        assert_eq!((desk.closed.last(), desk.node.counters.broken), (Some(&Conn(10)), 1));
        desk.now = Time::ZERO + PATIENCE;
        desk.take(Input::Deadline);
        assert_eq!((desk.closed.last(), desk.node.counters.impatient), (Some(&Conn(11)), 1));
        desk.connect(13, 3);
        desk.say(13, &Message::Found(None));
        assert_eq!(desk.node.counters.unexpected, 1);
    }

    #[test]
    fn one_key_s_connections_take_no_other_s_room_and_who_means_a_hub_is_told() {
        let mut desk = Desk::new(100, 100);
        for conn in 0..40 {
            desk.connect(10 + conn, 1);
            let message = Message::Enlist {
                name: format!("b{conn}"),
                epoch: 1,
                address: "192.0.2.9:7700".into(),
                link_key: [1; 32],
                most: 1,
            };
            desk.say(10 + conn, &message);
        }
        assert_eq!((desk.node.counters.lines_full, desk.node.balancer.brokers().0), (24, 16));
        desk.connect(60, 2);
        desk.say(60, &Message::Register { name: "b".into(), epoch: 1, most: 1 });
        assert!(
            matches!(&desk.heard(60)[..], [Message::Refused { code: 421, text }] if text.contains("hub"))
        );
        assert_eq!((desk.closed.last(), desk.node.counters.misdirected), (Some(&Conn(60)), 1));
    }

    #[test]
    fn its_key_outlives_it() {
        let dir = tempfile::tempdir().unwrap();
        let key = |seed| {
            let store = crate::store::Sqlite::open(&dir.path().join("balancer.db")).unwrap();
            let config = BalancerNodeConfig::default();
            let mut node =
                BalancerNode::open(config, Time::ZERO, Seeded::new(seed), Box::new(store)).unwrap();
            node.flush(Time::ZERO);
            node.server_key()
        };
        assert_eq!(key(1), key(2));
    }
}
