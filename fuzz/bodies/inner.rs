//! Inner links: any values in a frame are none, or are written again as they were read; a hub and a broker, or a room, take any
//! message at any time, on connections that come and go.

use std::{collections::BTreeMap, time::Duration};

use hailpost::{
    io::{Conn, KeyId},
    link::{Closing, ServerSecrets, Session, TicketRoot, Why},
    post::{
        HERE, Inbox, Seat, SessionId,
        broker::{Broker, BrokerConfig, BrokerOutput},
        brokers::{Brokers, BrokersConfig, BrokersOutput},
        hub::{Hub, HubConfig, HubOutput, Open, Rights},
        rooms::{OtherRoom, Rooms, RoomsOutput},
    },
    rng::Seeded,
    store::{Memory, Store},
    time::Time,
    wire::{
        app::{self, Address, Kind, To},
        inner::{Deframer, Found, Message, Registered, Relayed, Secret, Sitting},
        post::Presence,
    },
};

const INBOXES: u32 = 3;

pub fn run(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    match how % 5 {
        0 => raw(rest),
        1 => values(rest),
        4 => rooms(rest),
        _ => ends(rest),
    }
}

/// A stream of anything, in pieces.
fn raw(input: &[u8]) {
    let mut deframer = Deframer::default();
    for piece in input.chunks(7) {
        let mut piece = piece;
        while let Some(frame) = deframer.next(&mut piece) {
            match frame {
                Ok(frame) => drop(Message::decode(&frame)),
                Err(_) => return,
            }
        }
        assert!(piece.is_empty());
    }
}

/// A frame whose type and values are the input's, and whose CRC is right.
fn values(input: &[u8]) {
    let Some((kind, values)) = input.split_at_checked(2) else { return };
    let mut octets = (values.len() as u32 + 16).to_be_bytes().to_vec();
    octets.extend([kind, &[0; 10], values].concat());
    octets.extend(crc(&octets).to_be_bytes());
    let Some(Ok(frame)) = Deframer::default().next(&mut &octets[..]) else { return };
    assert_eq!(frame.values().map(|(_, value)| value.len() + 4).sum::<usize>(), values.len());
    if let Ok(message) = Message::decode(&frame) {
        let written = message.encode(7);
        let again = Deframer::default().next(&mut &written[..]).expect("it is whole").expect("it is a frame");
        assert_eq!(again.correlation, 7);
        assert_eq!(Message::decode(&again), Ok(message));
    }
}

/// CRC-32 of IEEE 802.3, a bit at a time.
fn crc(octets: &[u8]) -> u32 {
    !octets.iter().fold(u32::MAX, |crc, octet| {
        (0..8).fold(crc ^ u32::from(*octet), |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

struct House {
    now: Time,
    hub: Hub,
    store: Memory,
    brokers: Brokers,
    broker: Broker,
    /// Connections at the hub: of which broker.
    conns: BTreeMap<Conn, usize>,
    next_conn: u32,
    /// The connection that the broker asked for, and the one that it has.
    wanted: Option<Conn>,
    has: Option<Conn>,
    /// What was said on the connection to the broker, and of what it told.
    octets: usize,
}

fn ends(input: &[u8]) {
    let mut house = House::new();
    for step in input.chunks(4) {
        let [what, a, b, c] = [0, 1, 2, 3].map(|at| step.get(at).copied().unwrap_or(0));
        house.step(what, a, b, c);
        house.settle();
        for inbox in 0..INBOXES + 2 {
            let inbox = Inbox(inbox);
            assert!(house.hub.seat(inbox).is_none_or(|_| house.hub.is_inbox(inbox)));
        }
        let sitting: usize = house.hub.sitting_counts().values().sum();
        assert_eq!(sitting, house.hub.online_count());
    }
    // Brokers that say nothing any more have nobody in the end.
    for _ in 0..3 {
        house.now += Duration::from_secs(20);
        house.brokers.handle_deadline(house.now, &mut house.hub);
        house.broker.handle_deadline(house.now);
        house.settle();
    }
    assert!(house.hub.sitting_counts().keys().all(|broker| *broker == HERE));
    assert_eq!(house.brokers.list(&house.hub).iter().filter(|broker| broker.is_up).count(), 0);
}

impl House {
    fn new() -> House {
        let store = Memory::default();
        let open = Open { now: Time::ZERO, unix: 1_700_000_000, rng: Box::new(Seeded::new(1)) };
        let hub = Hub::open(HubConfig::default(), open, &store).expect("memory never fails");
        let keys = vec![KeyId([0; 32]), KeyId([1; 32])];
        let config = BrokersConfig {
            keys,
            max_connections: 3,
            max_lookups: 2,
            announce: true,
            ..BrokersConfig::default()
        };
        let config_of_broker = BrokerConfig { max_lookups: 2, ..BrokerConfig::default() };
        let mut house = House {
            now: Time::ZERO,
            hub,
            store,
            brokers: Brokers::new(config),
            broker: Broker::new(config_of_broker, Time::ZERO, Seeded::new(2)),
            conns: BTreeMap::new(),
            next_conn: 0,
            wanted: None,
            has: None,
            octets: 0,
        };
        house.hub.add_user("anna").expect("the name is good");
        house.settle();
        for device in 0..INBOXES {
            house.hub.add_device("anna", [device as u8; 16], 0).expect("the name is good");
            house.settle();
        }
        house
    }

    fn step(&mut self, what: u8, a: u8, b: u8, c: u8) {
        let message = message(a, b, c);
        match what % 16 {
            0 => {
                self.next_conn += 1;
                let (conn, key) = (Conn(self.next_conn), usize::from(a % 3));
                self.conns.insert(conn, key);
                self.brokers.accepted(self.now, conn, Some(KeyId([key as u8; 32])));
            }
            1 => {
                if let Some(conn) = self.conn(a) {
                    self.conns.remove(&conn);
                    self.brokers.closed(self.now, conn);
                }
            }
            2..7 => {
                if let Some(conn) = self.conn(what) {
                    self.told(conn, &message.encode(c.into()));
                }
            }
            7 => {
                if let Some(conn) = self.conn(a) {
                    let mut octets = message.encode(0);
                    let at = usize::from(c) % octets.len();
                    octets[at] ^= b;
                    self.told(conn, &octets);
                }
            }
            8 => {
                if let Some(conn) = self.wanted.take() {
                    self.broker.connected(self.now, conn);
                    self.has = Some(conn);
                }
            }
            9 => {
                if let Some(conn) = self.has.take().or(self.wanted.take()) {
                    self.broker.closed(self.now, conn, None);
                }
            }
            10 | 11 => {
                if let Some(conn) = self.has {
                    self.broker.received(self.now, conn, &message.encode(c.into()));
                }
            }
            12 => self.broker.up(
                self.now,
                Session((u32::from(b) << 24) | u32::from(c % 4 + 1)),
                Inbox(a.into()),
                b > 9,
            ),
            13 => {
                let session = Session((u32::from(b) << 24) | u32::from(c % 4 + 1));
                self.broker.said(session, Inbox(a.into()), vec![c % 11; usize::from(a)]);
                self.broker.gone(session, Inbox(a.into()), Why::Closed(Closing::Done));
            }
            14 => self.broker.lookup(self.now, a.into(), SessionId([b; 16])),
            _ => {
                self.now += Duration::from_millis(u64::from(a) * 100);
                self.broker.handle_deadline(self.now);
                self.brokers.handle_deadline(self.now, &mut self.hub);
            }
        }
    }

    fn conn(&self, which: u8) -> Option<Conn> {
        self.conns.keys().nth(usize::from(which) % self.conns.len().max(1)).copied()
    }

    fn told(&mut self, conn: Conn, octets: &[u8]) {
        let tickets = TicketRoot { day: 1, key: [0; 32] };
        let secrets = || ServerSecrets { private: [1; 32], next_private: None, reset: [2; 32], tickets };
        self.brokers.received(self.now, conn, octets, &mut self.hub, &secrets);
    }

    fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < 100_000, "it is never done");
            if let Some(output) = self.hub.poll_output(self.now) {
                match output {
                    HubOutput::Store(batch) => self.store.submit(batch),
                    HubOutput::Fetch(fetch) => self.store.ask(fetch),
                    HubOutput::Send { seat: seat @ Seat { broker: 1.., .. }, inbox, frame } => {
                        self.brokers.frame(self.now, seat, inbox, &frame, &mut self.hub);
                    }
                    HubOutput::Authenticated { ticket, credential } => {
                        assert!(self.brokers.authenticated(ticket, credential.as_ref()));
                    }
                    HubOutput::Revoked { inbox, epoch, .. } => self.brokers.revoked(inbox, epoch),
                    _ => {}
                }
            } else if let Some(fetched) = self.store.answer() {
                self.hub.fetched(self.now, fetched);
            } else if self.store.is_dirty() {
                let through = self.store.commit().expect("memory never fails");
                self.hub.stored(self.now, through);
            } else if let Some(output) = self.brokers.poll_output(self.now) {
                if let BrokersOutput::Close(conn) = output {
                    self.conns.remove(&conn);
                }
            } else if let Some(output) = self.broker.poll_output(self.now) {
                match output {
                    BrokerOutput::Connect(conn) => self.wanted = Some(conn),
                    BrokerOutput::Close(conn) => {
                        self.has = self.has.filter(|known| *known != conn);
                        self.wanted = self.wanted.filter(|known| *known != conn);
                    }
                    BrokerOutput::Send(_, octets) => self.octets += octets.len(),
                    _ => {}
                }
            } else {
                return;
            }
        }
    }
}

/// A message that somebody could say.
fn message(a: u8, b: u8, c: u8) -> Message {
    let (inbox, seat) = (u32::from(b % 6), u32::from(c % 4) + 1);
    let sitting = Sitting { inbox, seat, since: 1_700_000_000 + u32::from(c) };
    match a % 18 {
        0 => Message::Beat { taken: u64::from(b) * u64::from(c) },
        1 => Message::Refused { code: b.into(), text: "no".into() },
        2 | 3 => Message::Register { name: "left".into(), epoch: (b % 2).into(), most: c.into() },
        4 => Message::Registered(Box::new(Registered {
            broker: 1,
            private: [b % 2; 32],
            next_private: None,
            reset: [2; 32],
            ticket_day: c.into(),
            ticket_key: [3; 32],
            unix: 1_700_000_000,
        })),
        5 => Message::TicketRoot { day: b.into(), key: Secret([c; 32]) },
        6 => Message::Revoked(vec![(inbox, c.into()); usize::from(b)]),
        7 => Message::Lookup { session_id: [b; 16] },
        8 => Message::Found((b > 9).then_some(Found { secret: [b; 32], inbox, expiry: c.into(), epoch: 0 })),
        9 | 10 => Message::Online { sitting, resumed: b > 99 },
        11 => Message::Offline { inbox, seat, why: b.into() },
        12 => Message::Digest { sitting: vec![sitting; usize::from(b % 3)], last: c > 99 },
        13 => Message::Evict { inbox, seat, why: b.into() },
        14 => Message::Up { inbox, seat, octets: vec![c % 11; usize::from(b)] },
        15 => Message::Down { inbox, seat, octets: vec![c % 11; usize::from(b)] },
        16 => Message::Failed { inbox, seat },
        _ => Message::Load { load: b.min(100), sessions: c.into(), draining: false },
    }
}

/// A room, and what two others say to it.
struct Room {
    now: Time,
    hub: Hub,
    store: Memory,
    rooms: Rooms,
    /// Connections that it has, those that it made among them, and those that it wants.
    conns: Vec<Conn>,
    wanted: Vec<Conn>,
    next_conn: u32,
    asked: usize,
    told: usize,
}

fn rooms(input: &[u8]) {
    let mut room = Room::new();
    for step in input.chunks(4) {
        let [what, a, b, c] = [0, 1, 2, 3].map(|at| step.get(at).copied().unwrap_or(0));
        room.step(what, a, b, c);
        room.settle();
        assert_eq!(room.hub.online_count(), 0, "a room is nobody");
        assert!(room.conns.iter().all(|conn| room.rooms.has(*conn)));
    }
    // Rooms that say nothing any more are not there in the end, and whoever asked was told.
    for _ in 0..3 {
        room.now += Duration::from_secs(20);
        room.rooms.handle_deadline(room.now, &mut room.hub);
        room.settle();
    }
    assert!(room.rooms.list(&room.hub).iter().all(|other| !other.is_up && !other.is_here));
    assert_eq!((room.asked, room.hub.pending()), (room.told, 0));
}

impl Room {
    fn new() -> Room {
        let store = Memory::default();
        let open = Open { now: Time::ZERO, unix: 1_700_000_000, rng: Box::new(Seeded::new(1)) };
        let config = HubConfig { max_room_messages: 8, max_broadcasts: 2, ..HubConfig::default() };
        let mut hub = Hub::open(config, open, &store).expect("memory never fails");
        let other = |(at, name): (u8, &str)| OtherRoom { name: name.to_owned(), keys: vec![KeyId([at; 32])] };
        let others = [(0, "north"), (1, "east")].map(other).to_vec();
        let rooms = Rooms::new("south", others, Time::ZERO, Box::new(Seeded::new(2)), &mut hub);
        let (now, conns, wanted) = (Time::ZERO, Vec::new(), Vec::new());
        let mut room = Room { now, hub, store, rooms, conns, wanted, next_conn: 0, asked: 0, told: 0 };
        room.hub.add_user("anna").expect("the name is good");
        room.settle();
        room.hub.add_device("anna", [1; 16], 0).expect("the name is good");
        room.settle();
        room
    }

    fn step(&mut self, what: u8, a: u8, b: u8, c: u8) {
        let conn = self.conns.get(usize::from(what / 16) % self.conns.len().max(1)).copied();
        match what % 16 {
            0 => {
                self.next_conn += 1;
                let conn = Conn(self.next_conn);
                self.conns.push(conn);
                self.rooms.accepted(self.now, conn, Some(KeyId([a % 3; 32])));
            }
            1 => {
                if let Some(conn) = conn {
                    self.conns.retain(|other| *other != conn);
                    self.rooms.closed(self.now, conn, &mut self.hub);
                }
            }
            2 => {
                if let Some(conn) = self.wanted.pop() {
                    self.rooms.connected(self.now, conn);
                    self.conns.push(conn);
                }
            }
            3 => {
                if let Some(conn) = self.wanted.pop() {
                    self.rooms.closed(self.now, conn, &mut self.hub);
                }
            }
            4 => {
                self.now += Duration::from_millis(u64::from(a) * 100);
                self.rooms.handle_deadline(self.now, &mut self.hub);
            }
            5 => {
                let rights = Rights { query: true, ..Rights::default() };
                let users = ["anna", "anna@north", "carl@east", "ben@west"].map(str::to_owned).to_vec();
                self.asked += 1;
                self.hub.query(Seat::here(9), rights, "q".into(), users);
            }
            6 | 7 => {
                let to = ["user:anna", "user:anna@north", "app:x@east"][usize::from(a) % 3].parse();
                let to: Address = to.expect("it is one");
                let rights = Rights { send: true, broadcast: true, query: true };
                let sender =
                    hailpost::post::hub::Sender::App { name: "x".into(), rights, seat: Seat::here(9) };
                let is_all = b.is_multiple_of(4);
                let message = app::Message {
                    id: c.to_string(),
                    kind: if is_all { Kind::Broadcast } else { Kind::One },
                    store: b.is_multiple_of(2),
                    period: (is_all && b > 99).then_some((1_700_000_000, 1_700_000_100)),
                    ..app::Message::new(if is_all { To::All } else { To::Named(vec![to]) }, vec![7; b.into()])
                };
                self.hub.take(self.now, &sender, message);
            }
            8 => {
                if let Some(conn) = conn {
                    let mut octets = said_by_room(a, b, c).encode(0);
                    let at = usize::from(c) % octets.len();
                    octets[at] ^= b;
                    self.rooms.received(self.now, conn, &octets, &mut self.hub);
                }
            }
            _ => {
                if let Some(conn) = conn {
                    let octets = said_by_room(a, b, c).encode(c.into());
                    self.rooms.received(self.now, conn, &octets, &mut self.hub);
                }
            }
        }
    }

    fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < 100_000, "it is never done");
            if let Some(output) = self.hub.poll_output(self.now) {
                match output {
                    HubOutput::Store(batch) => self.store.submit(batch),
                    HubOutput::Fetch(fetch) => self.store.ask(fetch),
                    HubOutput::Relay { seat, relayed } => self.rooms.relay(seat, relayed),
                    HubOutput::Taken { seat, sequence, code } => self.rooms.taken(seat, sequence, code),
                    HubOutput::AskRoom { room, seat, ticket, users } => {
                        self.rooms.ask(self.now, (room, seat), ticket, users, &mut self.hub);
                    }
                    HubOutput::ToldRoom { seat, correlation, users } => {
                        self.rooms.presence(seat, correlation, users);
                    }
                    HubOutput::Whereabouts { users, .. } => {
                        assert_eq!(users.len(), 4);
                        self.told += 1;
                    }
                    _ => {}
                }
            } else if let Some(fetched) = self.store.answer() {
                self.hub.fetched(self.now, fetched);
            } else if self.store.is_dirty() {
                let through = self.store.commit().expect("memory never fails");
                self.hub.stored(self.now, through);
            } else if let Some(output) = self.rooms.poll_output(self.now) {
                match output {
                    RoomsOutput::Connect(conn, _) => self.wanted.push(conn),
                    RoomsOutput::Close(conn) => {
                        self.conns.retain(|other| *other != conn);
                        self.wanted.retain(|other| *other != conn);
                    }
                    _ => {}
                }
            } else {
                return;
            }
        }
    }
}

/// A message that another room could say.
fn said_by_room(a: u8, b: u8, c: u8) -> Message {
    let room = ["north", "east", "west"][usize::from(b) % 3].to_owned();
    let whereabouts = |user: &str| Presence { user: user.to_owned(), online: b > 99, since: c.into() };
    match a % 9 {
        0 | 1 => Message::Join { room, other: "south".into(), epoch: (c % 2).into() },
        2 => Message::Joined,
        3 | 4 => Message::Replicate(Box::new(Relayed {
            sequence: (c % 16).into(),
            sent: 1_700_000_000,
            left: u32::from(c) * 10,
            kept: !b.is_multiple_of(4),
            period: (b % 4 == 1).then_some((1_700_000_000, 1_700_000_001 + u32::from(c))),
            from: Address::User("x".repeat(usize::from(b % 64) + 1)),
            to: match b % 4 {
                0 | 1 => Vec::new(),
                _ => vec![Address::User("anna".into()), Address::App("x@east".into())],
            },
            content_type: String::new(),
            body: vec![c; b.into()],
        })),
        5 => Message::Ack((0..u64::from(b)).collect()),
        6 => Message::Query(vec!["anna".into(), "nobody".into(), "carl@east".into()]),
        7 => Message::Presence(vec![whereabouts("anna"), whereabouts("carl"), whereabouts("anna@south")]),
        _ => Message::Refused { code: b.into(), text: "no".into() },
    }
}
