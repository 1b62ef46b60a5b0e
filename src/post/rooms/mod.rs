//! Between the hub and other rooms (OM-16, the proxy of CN103200214A [0057]): links to them, what waits for them, where their
//! users are.
//!
//! Each room connects to each other one, and hands over on its own connection what it has for the other. So there are two
//! between two rooms, and none has to give way to the other. Whose a connection is says its key: a room speaks for its own
//! users only.

mod outward;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{Inbox, ROOMS, Seat, hub::Hub, line::Line};
use crate::{
    counters::counters,
    io::{Conn, KeyId},
    rng::Entropy,
    time::Time,
    wire::{
        inner::{MAX_ACKED, Message, Relayed},
        post::{Presence, Sequence},
    },
};
use outward::{Outward, Told};

/// Set in the names of connections to other rooms.
const OURS: u32 = Conn::OURS;
/// How long a connection may be there before it says which room it is of, and how many of one room there may be meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_CONNECTIONS: usize = 4;
/// Messages and questions of a room that are not answered yet: more than a room hands over at a time.
const MAX_UNANSWERED: usize = 1024;
/// What a room can be called: it stands after a user's name, which has 64 characters with it.
const MAX_NAME: usize = 31;

/// Whether a room can be called so: a name of 1 to 31 characters without an `@`.
pub fn is_room_name(text: &str) -> bool {
    text.len() <= MAX_NAME && crate::wire::app::is_name(text) && !text.contains('@')
}

/// Another room.
#[derive(Clone, Debug)]
pub struct OtherRoom {
    /// What it is called.
    pub name: String,
    /// The keys that it may show.
    pub keys: Vec<KeyId>,
}

/// What is to be done.
#[derive(PartialEq, Eq, Debug)]
pub enum RoomsOutput {
    /// Connect to the room with this number, under this name.
    Connect(Conn, usize),
    /// Send this.
    Send(Conn, Vec<u8>),
    /// Close this.
    Close(Conn),
    /// The link to a room is there.
    Up(String),
    /// It is lost.
    Down(String),
    /// The room does not take us, and why.
    Refused(String, String),
}

counters! {
    /// What a room counted of the others.
    pub struct RoomsCounters {
        links: "links to other rooms made",
        lost: "links to other rooms lost, or not made",
        refused: "times that another room did not go on",
        sent: "messages handed to other rooms",
        unsent: "messages not to be kept that were dropped because much waits for the room",
        acked: "messages that other rooms have",
        asked: "questions about users to other rooms",
        unanswered: "questions that were not answered in time, or could not be asked",
        connections: "connections of other rooms",
        connections_full: "connections of other rooms closed because there were too many",
        joined: "connections of other rooms that said who they are",
        replaced: "connections of other rooms closed because a newer one came",
        misdirected: "connections of other rooms refused because they were meant for another, or are another's",
        broken: "connections of other rooms closed because what came on them cannot be",
        silent: "connections of other rooms closed because nothing came, or nothing was taken",
        impatient: "connections of other rooms closed because they did not say who they are",
        pushy: "connections of other rooms closed because too much on them was not answered",
        held_off: "connections of other rooms closed because something could not be taken now",
        questions: "questions of other rooms about users",
        unexpected: "messages that a room does not send, or not then",
        unknown: "frames of a type that this version does not know",
    }
}

type Counted<'a> = &'a mut RoomsCounters;

/// Another room, as people see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoomInfo {
    /// What it is called.
    pub name: String,
    /// What waits for it goes over now.
    pub is_up: bool,
    /// It hands over what it has for this one.
    pub is_here: bool,
    /// Messages that wait for it.
    pub waiting: u32,
    /// Octets of them.
    pub octets: u32,
}

struct Room {
    name: String,
    keys: Vec<KeyId>,
    inbox: Inbox,
    outward: Outward,
}

/// A connection of another room.
struct Inward {
    line: Line,
    /// Which, by its key.
    room: usize,
    place: u32,
    /// The epoch of its store, once it has said so.
    epoch: Option<u64>,
    /// When it is closed, unless it says so.
    due: Time,
    /// Messages and questions that are not answered.
    unanswered: usize,
    /// What it may forget.
    acks: Vec<u64>,
}

/// All other rooms.
pub struct Rooms {
    own: String,
    epoch: u64,
    rng: Box<dyn Entropy + Send>,
    rooms: Vec<Room>,
    inward: BTreeMap<Conn, Inward>,
    next_conn: u32,
    /// Links are told apart by numbers that rise.
    last_place: u32,
    outputs: VecDeque<RoomsOutput>,
    counters: RoomsCounters,
}

impl Rooms {
    /// A room of this name and others, to which it connects at once. With no name there is none.
    pub fn new(
        own: &str,
        others: Vec<OtherRoom>,
        now: Time,
        rng: Box<dyn Entropy + Send>,
        hub: &mut Hub,
    ) -> Rooms {
        let mut rooms = Rooms {
            own: own.to_owned(),
            epoch: 0,
            rng,
            rooms: Vec::new(),
            inward: BTreeMap::new(),
            next_conn: 0,
            last_place: 0,
            outputs: VecDeque::new(),
            counters: RoomsCounters::default(),
        };
        if !own.is_empty() {
            let names: Vec<String> = others.iter().map(|other| other.name.clone()).collect();
            let (epoch, inboxes) = hub.join(own, &names);
            rooms.epoch = epoch;
            let room = |(other, inbox): (OtherRoom, Inbox)| {
                let OtherRoom { name, keys } = other;
                Room { name, keys, inbox, outward: Outward::new(now) }
            };
            rooms.rooms = others.into_iter().zip(inboxes).map(room).collect();
            rooms.connect(now);
        }
        rooms
    }

    /// What was counted.
    pub const fn counters(&self) -> &RoomsCounters {
        &self.counters
    }

    /// The others.
    pub fn list(&self, hub: &Hub) -> Vec<RoomInfo> {
        let info = |(at, room): (usize, &Room)| {
            let (waiting, octets) = hub.waiting_for(room.inbox);
            RoomInfo {
                name: room.name.clone(),
                is_up: room.outward.is_joined(),
                is_here: self.inward.values().any(|inward| inward.room == at && inward.epoch.is_some()),
                waiting,
                octets,
            }
        };
        self.rooms.iter().enumerate().map(info).collect()
    }

    /// Whether this is the key of another room.
    pub fn is_listed(&self, key: Option<KeyId>) -> bool {
        key.is_some_and(|key| self.rooms.iter().any(|room| room.keys.contains(&key)))
    }

    /// Whether a connection is one of these.
    pub fn has(&self, conn: Conn) -> bool {
        self.inward.contains_key(&conn) || self.at(conn).is_some()
    }

    /// A connection came, of who has proven this key.
    pub fn accepted(&mut self, now: Time, conn: Conn, key: Option<KeyId>) {
        let room = self.rooms.iter().position(|room| key.is_some_and(|key| room.keys.contains(&key)));
        let Some(room) = room else { return self.outputs.push_back(RoomsOutput::Close(conn)) };
        if self.inward.values().filter(|inward| inward.room == room).count() >= MAX_CONNECTIONS {
            self.counters.connections_full += 1;
            return self.refuse(conn, 507, "there are too many connections");
        }
        self.counters.connections += 1;
        let (line, due, place) = (Line::new(now), now + PATIENCE, self.next_place());
        let inward = Inward { line, room, place, epoch: None, due, unanswered: 0, acks: Vec::new() };
        self.inward.insert(conn, inward);
    }

    /// A connection that was asked for is there.
    pub fn connected(&mut self, now: Time, conn: Conn) {
        let Some(at) = self.at(conn) else { return };
        let place = self.next_place();
        let room = &mut self.rooms[at];
        let join = Message::Join { room: self.own.clone(), other: room.name.clone(), epoch: self.epoch };
        room.outward.connected(now, place, &join);
    }

    /// Octets came.
    pub fn received(&mut self, now: Time, conn: Conn, mut octets: &[u8], hub: &mut Hub) {
        if let Some(at) = self.at(conn) {
            return self.told(now, conn, at, octets, hub);
        }
        while let Some(inward) = self.inward.get_mut(&conn) {
            match inward.line.next(now, &mut octets) {
                None => return,
                Some(Ok((correlation, message))) => self.message(now, conn, correlation, message, hub),
                Some(Err(_)) => {
                    self.counters.broken += 1;
                    self.close(conn);
                }
            }
        }
    }

    /// A connection is gone, or could not be made.
    pub fn closed(&mut self, now: Time, conn: Conn, hub: &mut Hub) {
        match self.at(conn) {
            Some(at) => self.lost(now, at, hub),
            None => self.forget(conn),
        }
    }

    /// The hub hands a message to a room.
    pub fn relay(&mut self, seat: Seat, relayed: Box<Relayed>) {
        let room = self.rooms.iter_mut().find(|room| room.outward.place == seat.place);
        match room.is_some_and(|room| room.outward.relay(relayed)) {
            true => self.counters.sent += 1,
            false => self.counters.unsent += 1,
        }
    }

    /// The hub asks a room where its users are.
    pub fn ask(&mut self, now: Time, to: (Inbox, Seat), ticket: u64, users: Vec<String>, hub: &mut Hub) {
        self.counters.asked += 1;
        let room = self.rooms.iter_mut().find(|room| room.outward.place == to.1.place);
        if !room.is_some_and(|room| room.outward.ask(now, ticket, users)) {
            self.counters.unanswered += 1;
            hub.found_away(ticket, to.0, Vec::new());
        }
    }

    /// What became of a message that a room handed over.
    pub fn taken(&mut self, seat: Seat, sequence: u64, code: u16) {
        let inward = self.inward.iter_mut().find(|(_, inward)| inward.place == seat.place);
        let Some((conn, inward)) = inward.map(|(conn, inward)| (*conn, inward)) else { return };
        inward.unanswered = inward.unanswered.saturating_sub(1);
        if matches!(code, 429 | 507) {
            // It comes again, and all behind it, so that none overtakes another.
            self.counters.held_off += 1;
            return self.close(conn);
        }
        inward.acks.push(sequence);
    }

    /// Where users are whom a room asked for.
    pub fn presence(&mut self, seat: Seat, correlation: u64, users: Vec<Presence>) {
        if let Some(inward) = self.inward.values_mut().find(|inward| inward.place == seat.place) {
            inward.unanswered = inward.unanswered.saturating_sub(1);
            inward.line.send(&Message::Presence(users), correlation);
        }
    }

    /// When [`Rooms::handle_deadline`] is wanted.
    pub fn deadline(&self) -> Option<Time> {
        let due = |inward: &Inward| match inward.epoch {
            Some(_) => inward.line.deadline(),
            None => inward.line.deadline().min(inward.due),
        };
        let outward = self.rooms.iter().filter_map(|room| room.outward.deadline());
        outward.chain(self.inward.values().map(due)).min()
    }

    /// The deadline may have come.
    pub fn handle_deadline(&mut self, now: Time, hub: &mut Hub) {
        self.connect(now);
        for at in 0..self.rooms.len() {
            let room = &mut self.rooms[at];
            for ticket in room.outward.expire(now) {
                self.counters.unanswered += 1;
                hub.found_away(ticket, room.inbox, Vec::new());
            }
            if room.outward.is_over(now) {
                self.give_up(now, at, hub);
            }
        }
        let silent =
            |(conn, inward): (&Conn, &mut Inward)| inward.line.handle_deadline(now).err().map(|_| *conn);
        let silent: Vec<Conn> = self.inward.iter_mut().filter_map(silent).collect();
        let impatient = |(_, inward): &(&Conn, &Inward)| inward.epoch.is_none() && inward.due <= now;
        let impatient: Vec<Conn> = self.inward.iter().filter(impatient).map(|(conn, _)| *conn).collect();
        self.counters.silent += silent.len() as u64;
        self.counters.impatient += impatient.len() as u64;
        silent.into_iter().chain(impatient).for_each(|conn| self.close(conn));
    }

    /// The next thing to be done, until there is none.
    pub fn poll_output(&mut self, now: Time) -> Option<RoomsOutput> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        for room in &mut self.rooms {
            if let Some((conn, octets)) = room.outward.poll(now) {
                return Some(RoomsOutput::Send(conn, octets));
            }
        }
        self.inward.iter_mut().find_map(|(conn, inward)| {
            // One word for all that became durable together.
            let acks = std::mem::take(&mut inward.acks);
            acks.chunks(MAX_ACKED).for_each(|part| inward.line.send(&Message::Ack(part.to_vec()), 0));
            Some(RoomsOutput::Send(*conn, inward.line.poll(now)?))
        })
    }

    /// What came on a link to a room.
    fn told(&mut self, now: Time, conn: Conn, at: usize, mut octets: &[u8], hub: &mut Hub) {
        while self.at(conn) == Some(at) {
            let room = &mut self.rooms[at];
            let Some(told) = room.outward.next(now, &mut octets, &mut self.counters) else { return };
            match told {
                Told::Joined => {
                    self.counters.links += 1;
                    let seat = Seat { broker: ROOMS, place: room.outward.place };
                    hub.room_up(now, room.inbox, seat);
                    self.outputs.push_back(RoomsOutput::Up(room.name.clone()));
                }
                Told::Ack(sequences) => {
                    self.counters.acked += sequences.len() as u64;
                    let sequences: Vec<Sequence> = sequences.into_iter().map(Sequence).collect();
                    hub.confirm(now, room.inbox, &sequences);
                }
                Told::Found(ticket, users) => hub.found_away(ticket, room.inbox, users),
                Told::Refused(why) => {
                    self.counters.refused += 1;
                    self.outputs.push_back(RoomsOutput::Refused(room.name.clone(), why));
                    self.give_up(now, at, hub);
                }
                Told::Broken => self.give_up(now, at, hub),
            }
        }
    }

    fn message(&mut self, now: Time, conn: Conn, correlation: u64, message: Message, hub: &mut Hub) {
        let Some(inward) = self.inward.get_mut(&conn) else { return };
        let Some(epoch) = inward.epoch else { return self.join(now, conn, message) };
        let (seat, inbox) = (Seat { broker: ROOMS, place: inward.place }, self.rooms[inward.room].inbox);
        let is_answered = match &message {
            Message::Replicate(relayed) => relayed.kept,
            Message::Query(_) => true,
            _ => {
                self.counters.unexpected += 1;
                return;
            }
        };
        if is_answered && inward.unanswered >= MAX_UNANSWERED {
            self.counters.pushy += 1;
            return self.close(conn);
        }
        inward.unanswered += usize::from(is_answered);
        match message {
            Message::Replicate(relayed) => hub.take_relayed(now, inbox, epoch, seat, *relayed),
            Message::Query(users) => {
                self.counters.questions += 1;
                hub.query_of_room(seat, correlation, users);
            }
            _ => {}
        }
    }

    /// A connection says which room it is of, and which it means.
    fn join(&mut self, now: Time, conn: Conn, message: Message) {
        let Some(inward) = self.inward.get_mut(&conn) else { return };
        let at = inward.room;
        let Message::Join { room, other, epoch } = message else {
            self.counters.misdirected += 1;
            self.forget(conn);
            return self.refuse(conn, 421, "this key is another room's: no broker may have it");
        };
        if room != self.rooms[at].name || other != self.own {
            self.counters.misdirected += 1;
            let why = match other == self.own {
                true => format!("the key is that of the room {}", self.rooms[at].name),
                false => format!("this is the room {}", self.own),
            };
            self.forget(conn);
            return self.refuse(conn, 421, &why);
        }
        inward.epoch = Some(epoch);
        inward.line.send(&Message::Joined, 0);
        self.counters.joined += 1;
        let older =
            |(other, inward): (&Conn, &Inward)| (inward.room == at && *other != conn).then_some(*other);
        let older: Vec<Conn> = self.inward.iter().filter_map(older).collect();
        for older in older {
            self.counters.replaced += 1;
            self.forget(older);
            self.refuse(older, 409, "a newer connection of this room is there");
        }
        self.rooms[at].outward.hurry(now);
        self.connect(now);
    }

    fn connect(&mut self, now: Time) {
        for (at, room) in self.rooms.iter_mut().enumerate().filter(|(_, room)| room.outward.is_due(now)) {
            let conn = Conn(OURS | self.next_conn);
            self.next_conn = (self.next_conn + 1) & !OURS;
            room.outward.connect(conn);
            self.outputs.push_back(RoomsOutput::Connect(conn, at));
        }
    }

    fn give_up(&mut self, now: Time, at: usize, hub: &mut Hub) {
        let conn = self.rooms[at].outward.conn();
        self.outputs.extend(conn.map(RoomsOutput::Close));
        self.lost(now, at, hub);
    }

    fn lost(&mut self, now: Time, at: usize, hub: &mut Hub) {
        let room = &mut self.rooms[at];
        self.counters.lost += 1;
        if room.outward.is_joined() {
            hub.offline(now, room.inbox, Seat { broker: ROOMS, place: room.outward.place });
            self.outputs.push_back(RoomsOutput::Down(room.name.clone()));
        }
        for ticket in room.outward.lost(now, &mut *self.rng, &mut self.counters) {
            self.counters.unanswered += 1;
            hub.found_away(ticket, room.inbox, Vec::new());
        }
    }

    /// The room that a link goes to.
    fn at(&self, conn: Conn) -> Option<usize> {
        self.rooms.iter().position(|room| room.outward.conn() == Some(conn))
    }

    const fn next_place(&mut self) -> u32 {
        self.last_place += 1;
        self.last_place
    }

    fn forget(&mut self, conn: Conn) {
        if let Some(inward) = self.inward.remove(&conn) {
            self.counters.unknown += inward.line.unknown();
        }
    }

    fn close(&mut self, conn: Conn) {
        self.forget(conn);
        self.outputs.push_back(RoomsOutput::Close(conn));
    }

    fn refuse(&mut self, conn: Conn, code: u16, why: &str) {
        let octets = Message::Refused { code, text: why.to_owned() }.encode(0);
        self.outputs.push_back(RoomsOutput::Send(conn, octets));
        self.outputs.push_back(RoomsOutput::Close(conn));
    }
}
