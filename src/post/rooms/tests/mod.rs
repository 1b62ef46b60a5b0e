//! Rooms with hubs on stores in memory, and links that come and go.

mod links;
mod messages;
mod questions;

use super::*;
use crate::{
    post::hub::{HubConfig, HubEvent, HubOutput, Open, Rights, Sender},
    rng::Seeded,
    store::{Memory, Store},
    wire::{
        app::{Address, Kind, Message as Letter, State, To},
        inner::Deframer,
        post::{Delivery, Frame},
    },
};

const UNIX: u64 = 1_700_000_000;
const STORED: (u16, Option<State>) = (200, Some(State::Stored));
const QUEUED: (u16, Option<State>) = (200, Some(State::Queued));

fn key(room: usize) -> KeyId {
    KeyId([room as u8 + 1; 32])
}

struct Office {
    name: &'static str,
    config: HubConfig,
    hub: Hub,
    rooms: Rooms,
    store: Memory,
    /// The store takes nothing.
    stuck: bool,
    answers: Vec<(u16, Option<State>)>,
    frames: Vec<(Inbox, Frame)>,
    whereabouts: Vec<Vec<Presence>>,
    warnings: Vec<String>,
    faults: usize,
}

fn open(
    at: usize,
    names: &[&'static str],
    config: HubConfig,
    store: &Memory,
    now: Time,
    life: u64,
) -> (Hub, Rooms) {
    let unix = UNIX + now.as_micros() / 1_000_000;
    let seeded = |salt: u64| Box::new(Seeded::new(at as u64 * 100 + life * 1000 + salt));
    let mut hub = Hub::open(config, Open { now, unix, rng: seeded(1) }, store).unwrap();
    let others = (0..names.len()).filter(|other| *other != at);
    let others = others.map(|other| OtherRoom { name: names[other].to_owned(), keys: vec![key(other)] });
    let rooms = Rooms::new(names[at], others.collect(), now, seeded(2), &mut hub);
    (hub, rooms)
}

/// Rooms that know each other.
struct Town {
    names: Vec<&'static str>,
    offices: Vec<Office>,
    now: Time,
    /// Connections: who made each and by which name, and who took it.
    conns: BTreeMap<u32, ((usize, Conn), usize)>,
    next_conn: u32,
    /// These two do not reach each other.
    cut: Option<(usize, usize)>,
    life: u64,
}

impl Town {
    fn new(names: &[&'static str], config: HubConfig) -> Town {
        let offices = (0..names.len())
            .map(|at| {
                let store = Memory::default();
                let (hub, rooms) = open(at, names, config, &store, Time::ZERO, 0);
                Office {
                    name: names[at],
                    config,
                    hub,
                    rooms,
                    store,
                    stuck: false,
                    answers: Vec::new(),
                    frames: Vec::new(),
                    whereabouts: Vec::new(),
                    warnings: Vec::new(),
                    faults: 0,
                }
            })
            .collect();
        let (names, now, conns) = (names.to_vec(), Time::ZERO, BTreeMap::new());
        let mut town = Town { names, offices, now, conns, next_conn: 0, cut: None, life: 0 };
        town.settle();
        town
    }

    fn pair() -> Town {
        Town::new(&["south", "north"], HubConfig::default())
    }

    /// What an office has at hand is done. Whether there was something.
    fn turn(&mut self, at: usize) -> bool {
        let mut went = false;
        loop {
            let office = &mut self.offices[at];
            if let Some(output) = office.hub.poll_output(self.now) {
                office.hubbed(self.now, output);
            } else if let Some(output) = office.rooms.poll_output(self.now) {
                self.roomed(at, output);
            } else if let Some(fetched) = office.store.answer() {
                office.hub.fetched(self.now, fetched);
            } else if office.store.is_dirty() && !office.stuck {
                let through = office.store.commit().unwrap();
                office.hub.stored(self.now, through);
            } else {
                return went;
            }
            went = true;
        }
    }

    fn roomed(&mut self, at: usize, output: RoomsOutput) {
        match output {
            RoomsOutput::Connect(conn, way) => {
                let to = (0..self.offices.len()).filter(|other| *other != at).nth(way).unwrap();
                let is_cut =
                    self.cut.is_some_and(|(one, other)| [(one, other), (other, one)].contains(&(at, to)));
                if is_cut {
                    let Office { rooms, hub, .. } = &mut self.offices[at];
                    return rooms.closed(self.now, conn, hub);
                }
                self.next_conn += 1;
                self.conns.insert(self.next_conn, ((at, conn), to));
                self.offices[to].rooms.accepted(self.now, Conn(self.next_conn), Some(key(at)));
                self.offices[at].rooms.connected(self.now, conn);
            }
            RoomsOutput::Send(conn, octets) => {
                let Some((_, (to, conn))) = self.other_end(at, conn) else { return };
                let Office { rooms, hub, .. } = &mut self.offices[to];
                rooms.received(self.now, conn, &octets, hub);
            }
            RoomsOutput::Close(conn) => {
                let Some((number, (to, conn))) = self.other_end(at, conn) else { return };
                self.conns.remove(&number);
                let Office { rooms, hub, .. } = &mut self.offices[to];
                rooms.closed(self.now, conn, hub);
            }
            RoomsOutput::Refused(_, why) => self.offices[at].warnings.push(why),
            RoomsOutput::Up(_) | RoomsOutput::Down(_) => {}
        }
    }

    fn other_end(&self, at: usize, conn: Conn) -> Option<(u32, (usize, Conn))> {
        self.conns.iter().find_map(|(number, (from, to))| {
            let taken = (*to, Conn(*number));
            if *from == (at, conn) {
                Some((*number, taken))
            } else {
                (taken == (at, conn)).then_some((*number, *from))
            }
        })
    }

    fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < 10_000, "they are never done");
            if (0..self.offices.len()).filter(|at| self.turn(*at)).count() == 0 {
                return;
            }
        }
    }

    fn wait(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        loop {
            let due = self.offices.iter().flat_map(|one| [one.rooms.deadline(), one.hub.deadline()]);
            let due = due.flatten().min().filter(|due| *due <= end);
            self.now = due.unwrap_or(end).max(self.now);
            for Office { rooms, hub, .. } in &mut self.offices {
                rooms.handle_deadline(self.now, hub);
                hub.handle_deadline(self.now);
            }
            self.settle();
            if due.is_none() {
                return;
            }
        }
    }

    /// All connections of an office break.
    fn break_links(&mut self, at: usize) {
        let broken: Vec<u32> = self
            .conns
            .iter()
            .filter(|(_, ((from, _), to))| *from == at || *to == at)
            .map(|(number, _)| *number)
            .collect();
        for number in broken {
            let ((from, conn), to) = self.conns.remove(&number).unwrap();
            for (end, conn) in [(from, conn), (to, Conn(number))] {
                let Office { rooms, hub, .. } = &mut self.offices[end];
                rooms.closed(self.now, conn, hub);
            }
        }
    }

    /// The process dies, and another starts on what is durable.
    fn crash(&mut self, at: usize) {
        self.life += 1;
        self.break_links(at);
        let office = &mut self.offices[at];
        office.store = office.store.clone();
        let (hub, rooms) = open(at, &self.names, office.config, &office.store, self.now, self.life);
        (office.hub, office.rooms) = (hub, rooms);
        self.settle();
    }

    fn user(&mut self, at: usize, name: &str) -> Inbox {
        let office = &mut self.offices[at];
        office.hub.add_user(name).unwrap();
        office.hub.add_device(name, [1; 16], 0).unwrap();
        self.settle();
        let mut inbox = None;
        let find = &mut |key: &[u8], value: &[u8]| {
            if crate::post::rows::read_owner(value) == Some(name) {
                inbox = crate::post::rows::read_u32(key).map(Inbox);
            }
        };
        self.offices[at].store.load(crate::post::rows::INBOX, find).unwrap();
        inbox.unwrap()
    }

    fn app(&mut self, at: usize, name: &str) -> Sender {
        let rights = Rights { send: true, broadcast: true, query: true };
        self.offices[at].hub.add_app(name, rights).unwrap();
        self.settle();
        Sender::App { name: name.into(), rights, seat: Seat::here(900) }
    }

    fn send(&mut self, at: usize, sender: &Sender, letter: Letter) -> (u16, Option<State>) {
        self.offices[at].hub.take(self.now, sender, letter);
        self.settle();
        self.offices[at].answers.pop().unwrap()
    }

    fn online(&mut self, at: usize, inbox: Inbox) {
        self.offices[at].hub.online(self.now, inbox, Seat::here(inbox.0 + 1000));
        self.settle();
    }

    /// What was handed to this inbox since the last look.
    fn handed(&mut self, at: usize, inbox: Inbox) -> Vec<Delivery> {
        let frames = std::mem::take(&mut self.offices[at].frames);
        let mine = frames.into_iter().filter_map(|(to, frame)| match frame {
            Frame::Deliver(delivery) if to == inbox => Some(delivery),
            _ => None,
        });
        mine.collect()
    }

    fn bodies(&mut self, at: usize, inbox: Inbox) -> Vec<String> {
        self.handed(at, inbox).into_iter().map(|one| String::from_utf8(one.body).unwrap()).collect()
    }

    fn waiting(&self) -> Vec<usize> {
        self.offices.iter().map(|office| office.hub.waiting_count()).collect()
    }

    fn query(&mut self, at: usize, users: &[&str]) -> Vec<Presence> {
        let rights = Rights { query: true, ..Rights::default() };
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        self.offices[at].hub.query(Seat::here(900), rights, "q".into(), users);
        self.settle();
        self.offices[at].whereabouts.pop().unwrap_or_default()
    }
}

impl Office {
    fn store_rows(&self) -> usize {
        let mut count = 0;
        self.store.load(crate::post::rows::MESSAGE, &mut |_, _| count += 1).unwrap();
        count
    }

    fn hubbed(&mut self, now: Time, output: HubOutput) {
        match output {
            HubOutput::Store(batch) => self.store.submit(batch),
            HubOutput::Fetch(fetch) => self.store.ask(fetch),
            HubOutput::Send { inbox, frame, .. } => self.frames.push((inbox, frame)),
            HubOutput::Answered { answer, .. } => self.answers.push((answer.code, answer.state)),
            HubOutput::Whereabouts { users, .. } => self.whereabouts.push(users),
            HubOutput::Relay { seat, relayed } => self.rooms.relay(seat, relayed),
            HubOutput::Taken { seat, sequence, code } => self.rooms.taken(seat, sequence, code),
            HubOutput::AskRoom { room, seat, ticket, users } => {
                self.rooms.ask(now, (room, seat), ticket, users, &mut self.hub);
            }
            HubOutput::ToldRoom { seat, correlation, users } => self.rooms.presence(seat, correlation, users),
            HubOutput::Event(HubEvent::Done { result: Err(_), .. }) => self.faults += 1,
            _ => {}
        }
    }
}

fn letter(id: u32, to: &[&str]) -> Letter {
    let named: Vec<Address> = to.iter().map(|one| one.parse().unwrap()).collect();
    let kind = if named.len() == 1 { Kind::One } else { Kind::Directed };
    let body = format!("body {id}").into_bytes();
    Letter { id: id.to_string(), kind, store: true, ttl: 3600, ..Letter::new(To::Named(named), body) }
}

fn everybody(id: u32, period: Option<(u64, u64)>) -> Letter {
    Letter { to: To::All, kind: Kind::Broadcast, period, ..letter(id, &["user:x"]) }
}
