//! The hub on a store in memory, with receivers that remember what they were handed.

mod clock;
mod everybody;
mod handing;
mod people;
mod silence;
mod taking;

use super::*;
use crate::{rng::Seeded, store::Memory};

const UNIX: u64 = 1_700_000_000;

struct Desk {
    hub: Hub,
    store: Memory,
    config: HubConfig,
    now: Time,
    /// Seconds by which the wall clock is wrong.
    skew: i64,
    /// The store takes nothing.
    stuck: bool,
    frames: Vec<(Inbox, Frame)>,
    answers: Vec<(String, u16, Option<State>)>,
    whereabouts: Vec<Vec<Whereabouts>>,
    events: Vec<HubEvent>,
    credentials: Vec<Option<Credential>>,
    revoked: Vec<Inbox>,
    listed: Vec<Listed>,
}

fn open(config: HubConfig, store: &Memory, now: Time, skew: i64) -> Hub {
    let unix = (UNIX + now.as_micros() / 1_000_000).checked_add_signed(skew).unwrap();
    Hub::open(config, Open { now, unix, rng: Box::new(Seeded::new(unix)) }, store).unwrap()
}

impl Desk {
    fn new(config: HubConfig) -> Desk {
        let store = Memory::default();
        Desk {
            hub: open(config, &store, Time::ZERO, 0),
            store,
            config,
            now: Time::ZERO,
            skew: 0,
            stuck: false,
            frames: Vec::new(),
            answers: Vec::new(),
            whereabouts: Vec::new(),
            events: Vec::new(),
            credentials: Vec::new(),
            revoked: Vec::new(),
            listed: Vec::new(),
        }
    }

    /// The process dies, and another starts on what is durable.
    fn crash(&mut self) {
        self.store = self.store.clone();
        self.hub = open(self.config, &self.store, self.now, self.skew);
        self.settle();
    }

    fn unix(&self) -> u64 {
        (UNIX + self.now.as_micros() / 1_000_000).checked_add_signed(self.skew).unwrap()
    }

    /// The wall clock is as wrong as is said.
    fn set_clock(&mut self) {
        self.hub.set_unix(self.now, self.unix());
        self.settle();
    }

    fn settle(&mut self) {
        let mut outputs = 0;
        loop {
            while let Some(output) = self.hub.poll_output(self.now) {
                outputs += 1;
                assert!(outputs < 100_000, "the hub is never done");
                match output {
                    HubOutput::Store(batch) => self.store.submit(batch),
                    HubOutput::Fetch(fetch) => self.store.ask(fetch),
                    HubOutput::Send { inbox, frame, .. } => self.frames.push((inbox, frame)),
                    HubOutput::Answered { id, answer, .. } => {
                        self.answers.push((id, answer.code, answer.state));
                    }
                    HubOutput::Whereabouts { users, .. } => self.whereabouts.push(users),
                    HubOutput::Authenticated { credential, .. } => self.credentials.push(credential),
                    HubOutput::Revoked { inbox, .. } => self.revoked.push(inbox),
                    HubOutput::Listed { listed, .. } => self.listed.push(listed),
                    HubOutput::Event(event) => self.events.push(event),
                    HubOutput::Relay { .. }
                    | HubOutput::Taken { .. }
                    | HubOutput::AskRoom { .. }
                    | HubOutput::ToldRoom { .. } => unreachable!("there is one room"),
                }
                while let Some(fetched) = self.store.answer() {
                    self.hub.fetched(self.now, fetched);
                }
            }
            if self.stuck || !self.store.is_dirty() {
                return;
            }
            let through = self.store.commit().unwrap();
            self.hub.stored(self.now, through);
        }
    }

    /// What the hub asks now; the store does not answer it yet.
    fn hold_fetches(&mut self) -> Vec<Fetch> {
        let mut fetches = Vec::new();
        while let Some(output) = self.hub.poll_output(self.now) {
            match output {
                HubOutput::Fetch(fetch) => fetches.push(fetch),
                HubOutput::Send { inbox, frame, .. } => self.frames.push((inbox, frame)),
                _ => {}
            }
        }
        fetches
    }

    /// The store answers nothing that it is asked.
    fn fail_fetches(&mut self) {
        while let Some(output) = self.hub.poll_output(self.now) {
            match output {
                HubOutput::Fetch(fetch) => {
                    let rows = Err(Status::Store.into());
                    self.hub.fetched(self.now, Fetched { ticket: fetch.ticket, rows });
                }
                HubOutput::Authenticated { credential, .. } => self.credentials.push(credential),
                HubOutput::Event(event) => self.events.push(event),
                _ => {}
            }
        }
    }

    fn wait(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while let Some(due) = self.hub.deadline().filter(|due| *due <= until) {
            self.now = due;
            self.hub.handle_deadline(self.now);
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    fn user(&mut self, name: &str, devices: usize) -> Vec<Inbox> {
        self.hub.add_user(name).unwrap();
        let mut inboxes = Vec::new();
        for device in 0..devices {
            let enrolled = self.hub.add_device(name, [device as u8; 16], 0).unwrap();
            self.settle();
            self.hub.authenticate(1, enrolled.session);
            self.settle();
            let credential = self.credentials.pop().unwrap().unwrap();
            assert!(credential.secret == enrolled.secret && credential.user == name);
            inboxes.push(credential.inbox);
        }
        self.settle();
        inboxes
    }

    fn app(&mut self, name: &str) -> Sender {
        let rights = Rights { send: true, broadcast: true, query: true };
        let (secret, _) = self.hub.add_app(name, rights).unwrap();
        self.settle();
        let (_, rights) = self.hub.admit(name, &secret).unwrap();
        assert_eq!(self.hub.admit(name, "another"), None);
        Sender::App { name: name.into(), rights, seat: Seat::here(900) }
    }

    fn send(&mut self, sender: &Sender, message: Message) -> (u16, Option<State>) {
        self.hub.take(self.now, sender, message);
        self.settle();
        let (_, code, state) = self.answers.pop().unwrap();
        (code, state)
    }

    fn online(&mut self, inbox: Inbox) {
        self.hub.online(self.now, inbox, Seat::here(inbox.0 + 1000));
        self.settle();
    }

    fn offline(&mut self, inbox: Inbox) {
        self.hub.offline(self.now, inbox, Seat::here(inbox.0 + 1000));
        self.settle();
    }

    /// What was handed to this inbox since the last look.
    fn handed(&mut self, inbox: Inbox) -> Vec<Delivery> {
        let (mine, others) = std::mem::take(&mut self.frames).into_iter().partition(|(to, _)| *to == inbox);
        self.frames = others;
        let frames: Vec<(Inbox, Frame)> = mine;
        frames
            .into_iter()
            .filter_map(|(_, frame)| match frame {
                Frame::Deliver(delivery) => Some(delivery),
                _ => None,
            })
            .collect()
    }

    fn bodies(&mut self, inbox: Inbox) -> Vec<String> {
        self.handed(inbox).into_iter().map(|one| String::from_utf8(one.body).unwrap()).collect()
    }

    fn confirm(&mut self, inbox: Inbox, deliveries: &[Delivery]) {
        let sequences: Vec<Sequence> = deliveries.iter().map(|one| one.sequence).collect();
        self.hub.confirm(self.now, inbox, &sequences);
        self.settle();
    }

    fn rows(&self, table: Table) -> usize {
        let mut count = 0;
        self.store.load(table, &mut |_, _| count += 1).unwrap();
        count
    }

    /// What waits for receivers, and rows of messages. Another hub finds the same on the disk.
    fn kept(&self) -> (usize, usize) {
        let waiting = self.hub.waiting_count();
        if !self.store.is_dirty() {
            assert_eq!(open(self.config, &self.store, self.now, self.skew).waiting_count(), waiting);
        }
        (waiting, self.rows(rows::MESSAGE))
    }
}

fn to(users: &[&str]) -> To {
    To::Named(users.iter().map(|name| Address::User((*name).into())).collect())
}

fn message(id: &str, to: To, body: &str) -> Message {
    let kind = match &to {
        To::Named(named) if named.len() == 1 => Kind::One,
        _ => Kind::Directed,
    };
    Message {
        id: id.into(),
        from: None,
        to,
        kind,
        store: true,
        ttl: 3600,
        period: None,
        content_type: "text/plain".into(),
        body: body.as_bytes().to_vec(),
    }
}

const STORED: (u16, Option<State>) = (200, Some(State::Stored));
const QUEUED: (u16, Option<State>) = (200, Some(State::Queued));
