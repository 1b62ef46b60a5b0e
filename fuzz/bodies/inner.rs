//! Inner links: any values in a frame are none, or are written again as they were read; a hub and a broker take any message at any
//! time, on connections that come and go.

use std::{collections::BTreeMap, time::Duration};

use hailpost::{
    io::{Conn, KeyId},
    link::{Closing, ServerSecrets, Session, TicketRoot, Why},
    post::{
        HERE, Inbox, Seat, SessionId,
        broker::{Broker, BrokerConfig, BrokerOutput},
        brokers::{Brokers, BrokersConfig, BrokersOutput},
        hub::{Hub, HubConfig, HubOutput, Open},
    },
    rng::Seeded,
    store::{Memory, Store},
    time::Time,
    wire::inner::{Deframer, Found, Message, Registered, Secret, Sitting},
};

const INBOXES: u32 = 3;

pub fn run(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    match how % 4 {
        0 => raw(rest),
        1 => values(rest),
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
