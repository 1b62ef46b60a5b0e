//! Frames between devices and the post office: any octets are none, or are written again as they were read; and a hub and a
//! device take any frame at any time.

use std::{collections::BTreeSet, time::Duration};

use hailpost::{
    post::{
        Inbox, Seat,
        device::{self, Device, DeviceConfig, DeviceEvent, DeviceOutput},
        hub::{self, Hub, HubConfig, HubOutput, Rights, Sender},
    },
    rng::Seeded,
    store::{Memory, Store},
    time::Time,
    wire::{
        app::{Address, Kind, Message, State, To},
        post::{Delivery, Frame, Put, Sequence},
    },
};

const UNIX: u64 = 1_700_000_000;
const DEVICES: usize = 3;

struct Office {
    now: Time,
    hub: Hub,
    hub_store: Memory,
    app: Sender,
    device: Device,
    store: Memory,
    config: DeviceConfig,
    /// The inboxes of three devices of two users; the first is that of `device`.
    inboxes: Vec<Inbox>,
    seats: [u32; DEVICES],
    next_seat: u32,
    is_up: bool,
    is_slow: bool,
    sent: u64,
    lives: u64,
    /// Numbers that were put and had no end yet, those that had, and those shown in this life.
    waiting: BTreeSet<u64>,
    stored: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    shown: BTreeSet<Sequence>,
    confirmed: BTreeSet<Sequence>,
    /// What the hub delivered last, and what the device gave last.
    delivered: Sequence,
    given: u64,
    requests: usize,
}

impl Office {
    fn new(options: u8) -> Office {
        let hub_store = Memory::default();
        let small = HubConfig {
            max_messages: 5,
            max_octets: 4096,
            window: 2,
            max_pending: 4,
            max_known: 8,
            max_cached: 2,
            ..HubConfig::default()
        };
        let config = if options & 1 != 0 { small } else { HubConfig::default() };
        let open = hub::Open { now: Time::ZERO, unix: UNIX, rng: Box::new(Seeded::new(1)) };
        let mut hub = Hub::open(config, open, &hub_store).expect("an empty store opens");
        let rights = Rights { send: true, broadcast: true, query: true };
        hub.add_app("news", rights).expect("the name is good");
        hub.add_user("anna").expect("the name is good");
        hub.add_user("ben").expect("the name is good");
        let store = Memory::default();
        let config = DeviceConfig { max_messages: 6, max_octets: 8192, window: 2 };
        let device = open_device(&store, config, Time::ZERO, 0);
        let mut office = Office {
            now: Time::ZERO,
            hub,
            hub_store,
            app: Sender::App { name: "news".into(), rights, seat: Seat::here(1) },
            device,
            store,
            config,
            inboxes: Vec::new(),
            seats: [0; DEVICES],
            next_seat: 10,
            is_up: false,
            is_slow: false,
            sent: 0,
            lives: 0,
            waiting: BTreeSet::new(),
            stored: BTreeSet::new(),
            ended: BTreeSet::new(),
            shown: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            delivered: Sequence(0),
            given: 0,
            requests: 0,
        };
        office.settle();
        for (at, user) in ["anna", "ben", "ben"].into_iter().enumerate() {
            let enrolled = office.hub.add_device(user, [at as u8; 16], 0).expect("the user is there");
            office.settle();
            office.hub.authenticate(1, enrolled.session);
            office.settle();
        }
        assert_eq!(office.inboxes.len(), DEVICES);
        office
    }

    fn settle(&mut self) {
        for turns in 0.. {
            assert!(turns < 100_000, "never done");
            if let Some(output) = self.hub.poll_output(self.now) {
                match output {
                    HubOutput::Store(batch) => self.hub_store.submit(batch),
                    HubOutput::Fetch(fetch) => self.hub_store.ask(fetch),
                    HubOutput::Authenticated { credential, .. } => {
                        self.inboxes.extend(credential.map(|credential| credential.inbox));
                    }
                    HubOutput::Send { seat, frame, .. } => self.hub_said(seat, frame),
                    _ => {}
                }
            } else if let Some(output) = self.device.poll_output() {
                self.device_wants(output);
            } else if self.is_slow {
                return;
            } else if let Some(fetched) = self.hub_store.answer() {
                self.hub.fetched(self.now, fetched);
            } else if self.hub_store.is_dirty() {
                let through = self.hub_store.commit().expect("memory never fails");
                self.hub.stored(self.now, through);
            } else if self.store.is_dirty() {
                let through = self.store.commit().expect("memory never fails");
                self.device.stored(self.now, through);
            } else {
                return;
            }
        }
    }

    fn hub_said(&mut self, seat: Seat, frame: Frame) {
        let octets = frame.encode();
        assert_eq!(Frame::decode(&octets).as_ref(), Some(&frame), "what the hub says reads back");
        if let Frame::Deliver(delivery) = &frame {
            self.delivered = delivery.sequence;
        }
        if self.is_up && seat.place == self.seats[0] {
            self.device.frame(self.now, frame);
        }
    }

    fn device_wants(&mut self, output: DeviceOutput) {
        match output {
            DeviceOutput::Store(batch) => self.store.submit(batch),
            DeviceOutput::Send(frame) => {
                assert_eq!(Frame::decode(&frame.encode()).as_ref(), Some(&frame), "what it says reads back");
                if let Frame::Put(put) = &frame {
                    self.given = put.number;
                }
                if self.is_up {
                    self.hub.frame(self.now, self.inboxes[0], Seat::here(self.seats[0]), frame);
                }
            }
            DeviceOutput::Event(event) => match event {
                DeviceEvent::Accepted { number, .. }
                | DeviceEvent::Refused { number, .. }
                | DeviceEvent::Expired { number } => {
                    // Told again only where the disk did not get to know that it was told.
                    let known = self.waiting.remove(&number) || self.ended.contains(&number);
                    assert!(known, "an end of what was not put");
                    self.device.told(number);
                    self.ended.insert(number);
                }
                DeviceEvent::Stored { number } => {
                    assert!(self.waiting.contains(&number), "stored after its end");
                    self.stored.insert(number);
                }
                DeviceEvent::Message(delivery) => {
                    let sequence = delivery.sequence;
                    assert!(self.shown.insert(sequence), "shown twice in a life");
                    assert!(!self.confirmed.contains(&sequence), "shown after its confirmation");
                }
                DeviceEvent::Confirmed { sequence } => drop(self.confirmed.insert(sequence)),
                _ => {}
            },
        }
    }

    fn connect(&mut self, at: usize, on: bool) {
        if self.seats[at] != 0 {
            self.hub.offline(self.now, self.inboxes[at], Seat::here(self.seats[at]));
            self.seats[at] = 0;
        }
        if on {
            self.next_seat += 1;
            self.seats[at] = self.next_seat;
            self.hub.online(self.now, self.inboxes[at], Seat::here(self.next_seat));
        }
        if at == 0 {
            self.is_up = on;
            if on { self.device.up(self.now) } else { self.device.down() }
        }
    }

    fn step(&mut self, what: u8, how: u8, rest: &mut &[u8]) {
        let at = usize::from(how) % DEVICES;
        let name = ["anna", "ben", "nobody"][usize::from(how) / 4 % 3];
        let to = Address::User(name.into());
        match what % 16 {
            0 => self.connect(at, true),
            1 => self.connect(at, false),
            2 => {
                self.sent += u64::from(how & 64 == 0);
                let message = Message {
                    id: self.sent.to_string(),
                    from: None,
                    to: if how & 128 != 0 { To::All } else { To::Named(vec![to]) },
                    kind: if how & 128 != 0 { Kind::Broadcast } else { Kind::One },
                    store: how & 1 == 0,
                    ttl: 1 + u32::from(how) * 8,
                    period: (how & 129 == 129).then_some((UNIX - 5, UNIX + 500)),
                    content_type: "text/plain".into(),
                    body: vec![how; usize::from(how) * 8],
                };
                self.hub.take(self.now, &self.app.clone(), message);
            }
            3 => {
                let (ttl, body) = (1 + u32::from(how) * 8, vec![0; usize::from(how) * 8]);
                let named = if how & 1 == 0 { vec![to] } else { vec![to, Address::App("news".into())] };
                let put = self.device.put(self.now, To::Named(named), how & 2 == 0, ttl, "text/plain", body);
                if let Ok(number) = put {
                    // What a dead process had not stored is nowhere, and its number free.
                    let is_new = !self.stored.contains(&number) && !self.ended.contains(&number);
                    assert!(is_new, "a number again");
                    self.waiting.insert(number);
                }
            }
            4 => {
                let first = self.shown.difference(&self.confirmed).nth(at).copied();
                if let Some(sequence) = first {
                    let _ = self.device.confirm(sequence);
                }
            }
            5 => self.requests += usize::from(self.device.subscribe("news", how & 1 == 0).is_ok()),
            6 => self.requests += usize::from(self.device.query(vec![name.into(), "ben".into()]).is_ok()),
            7 => self.requests += usize::from(self.device.keep(how & 1 == 0).is_ok()),
            // Any octets as a frame, to either.
            8 | 9 => {
                let octets = take(rest, how.into());
                let Some(frame) = Frame::decode(octets) else { return };
                self.any(what % 16 == 8, at, frame);
            }
            // What is nearly in earnest.
            10 | 11 => {
                let number = self.given.wrapping_add((how / 16).into()).wrapping_sub(2);
                let sequence = Sequence(self.delivered.0.wrapping_add((how / 16).into()).wrapping_sub(2));
                let (content_type, body) = (String::new(), vec![how]);
                let frame = match how % 6 {
                    0 => Frame::PutAnswer { number, code: 200, state: State::Queued },
                    1 => Frame::PutAnswer { number, code: 429, state: State::Dropped },
                    2 => Frame::PutAnswer { number, code: 404, state: State::Dropped },
                    3 => Frame::Confirm(vec![sequence, Sequence(sequence.0.wrapping_add(1)), sequence]),
                    4 => {
                        let (from, sent) = (to, UNIX);
                        let redelivered = how & 64 != 0;
                        Frame::Deliver(Delivery { sequence, redelivered, from, sent, content_type, body })
                    }
                    _ => {
                        let (to, kind) = (To::Named(vec![to]), Kind::One);
                        Frame::Put(Put { number, to, kind, store: true, ttl: 60, content_type, body })
                    }
                };
                self.any(what % 16 == 10, at, frame);
            }
            12 => {
                self.now += Duration::from_secs(u64::from(how) * 4);
                self.due();
            }
            13 => self.is_slow ^= true,
            14 => self.hub.writable(self.inboxes[at]),
            _ => {
                // The device's process dies: what was not committed is gone.
                self.lives += 1;
                self.connect(0, false);
                self.store = self.store.clone();
                self.device = open_device(&self.store, self.config, self.now, self.lives);
                self.shown.clear();
            }
        }
        self.settle();
        assert!(self.device.waiting() <= self.config.max_messages, "the outbox has a bound");
    }

    fn any(&mut self, to_hub: bool, at: usize, frame: Frame) {
        if to_hub {
            self.hub.frame(self.now, self.inboxes[at], Seat::here(self.seats[at].max(1)), frame);
        } else {
            self.device.frame(self.now, frame);
        }
    }

    fn due(&mut self) {
        if self.hub.deadline().is_some_and(|due| due <= self.now) {
            self.hub.handle_deadline(self.now);
        }
        for turns in 0.. {
            assert!(turns < 3, "the device is never done");
            if self.device.deadline(self.now).is_none_or(|due| due > self.now) {
                break;
            }
            self.device.handle_deadline(self.now);
        }
        self.settle();
    }
}

fn open_device(store: &Memory, config: DeviceConfig, now: Time, seed: u64) -> Device {
    let unix = UNIX + now.as_micros() / 1_000_000;
    let open = device::Open { now, unix, rng: Box::new(Seeded::new(50 + seed)) };
    Device::open(config, open, store).expect("memory never fails")
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(count.min(rest.len()));
    *rest = left;
    taken
}

/// Runs one input.
pub fn run(octets: &[u8]) {
    let Some((options, mut rest)) = octets.split_first() else { return };
    if options & 2 != 0 {
        if let Some(frame) = Frame::decode(rest) {
            assert_eq!(frame.encode(), rest, "a frame is written in one way only");
        }
        return;
    }
    let mut office = Office::new(*options);
    let mut steps = 0;
    while let [what, how, tail @ ..] = rest {
        rest = tail;
        office.step(*what, *how, &mut rest);
        steps += 1;
        if steps >= 400 {
            break;
        }
    }
    office.is_slow = false;
    office.settle();
}
