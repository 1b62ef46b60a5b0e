//! Brokers apart from the hub, at the hub: their connections, who sits at them, and what becomes of that when one is lost
//! (docs/inner-links.md).
//!
//! Presence is soft state under a broker's epoch: a broker that comes back with another one has nobody any more, one that
//! comes back with the same tells in a digest who is there. What is handed to who sits there is handed again then.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    HERE, Inbox, ROOMS, Seat, SessionId,
    hub::{Credential, Hub},
    line::Line,
};
use crate::{
    counters::counters,
    io::{Conn, KeyId},
    link::{Closing, ServerSecrets, TicketRoot},
    time::Time,
    wire::{
        inner::{Found, MAX_REVOKED, Message, Registered, Secret, Sitting},
        post::Frame,
    },
};

/// Set in the tickets of brokers' lookups, which the link's own end does not give.
const LOOKUP: u64 = 1 << 63;
/// How long a lookup waits: devices have given up by then. Some are never answered, when nobody can say whose a session id is.
const LOOKUP_LIFE: Duration = Duration::from_secs(10);
/// How long a connection may be there without a broker that registered on it, and how many such one key may have: no broker
/// takes the room of others.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_UNREGISTERED: usize = 4;

/// How the hub's side of brokers behaves.
#[derive(Clone, Debug)]
pub struct BrokersConfig {
    /// The keys of the brokers that may come.
    pub keys: Vec<KeyId>,
    /// How long those who sit at a broker stay there after its connection was lost.
    pub grace: Duration,
    /// Connections, at the most.
    pub max_connections: usize,
    /// Lookups of one broker that wait for the store.
    pub max_lookups: usize,
    /// Whether the application is told of each device that comes and goes.
    pub announce: bool,
}

impl Default for BrokersConfig {
    fn default() -> BrokersConfig {
        BrokersConfig {
            keys: Vec::new(),
            grace: Duration::from_secs(5),
            max_connections: 256,
            max_lookups: 8192,
            announce: false,
        }
    }
}

/// What is to be done.
#[derive(PartialEq, Eq, Debug)]
pub enum BrokersOutput {
    /// Send this.
    Send(Conn, Vec<u8>),
    /// Close this.
    Close(Conn),
    /// Somebody came to a broker who sits at the hub's own link: that session is to go.
    EvictHere(Inbox, Seat),
    /// Somebody came to a broker, by a ticket or not.
    Online(Inbox, bool),
    /// Somebody is gone from a broker, for a reason of `docs/inner-links.md`.
    Offline(Inbox, u16),
    /// A broker is there.
    Up(String),
    /// A broker is lost, and so are those who sit at it unless it comes back at once.
    Down(String),
}

counters! {
    /// What the hub counted of its brokers.
    pub struct BrokersCounters {
        connections: "connections of brokers",
        connections_full: "connections of brokers closed because there were too many",
        unlisted: "connections of brokers refused because their key is not listed",
        registered: "registrations of brokers",
        replaced: "connections of brokers closed because a newer one of the same key came",
        broken: "connections of brokers closed because what came on them cannot be",
        silent: "connections of brokers closed because nothing came, or nothing was taken",
        unknown: "frames of brokers of a type that this version does not know",
        unexpected: "messages that a broker does not send, or not then",
        bad_frames: "messages of devices at brokers that are no frames",
        strays: "messages of sessions that the hub does not know",
        lookups_full: "lookups not answered because too many of the broker waited",
        lookups_expired: "lookups that nobody answered in time",
        impatient: "connections of brokers closed because none registered on them",
        misdirected: "connections refused because they were meant for a balancer",
        evicted: "sessions at brokers that were told to go",
        outdated: "sessions of a digest that were told to go because a newer one is elsewhere",
        full: "sessions at brokers closed because too much waited for their broker",
        unsent: "frames for who sits at a broker that is away",
        failed: "frames that found nobody at the broker any more",
        swept: "devices offline because their broker was lost",
    }
}

/// A broker, as people see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerInfo {
    /// What it calls itself.
    pub name: String,
    /// Its key.
    pub key: KeyId,
    /// Whether it is connected.
    pub is_up: bool,
    /// Devices that sit there.
    pub sessions: usize,
    /// That it can hold.
    pub most: u32,
}

/// A connection.
struct Link {
    line: Line,
    key: KeyId,
    /// Once it has registered.
    broker: Option<u16>,
    /// When it is closed, unless a broker registers.
    due: Option<Time>,
    /// Lookups that wait.
    lookups: usize,
}

/// A lookup that waits.
struct Asked {
    conn: Conn,
    correlation: u64,
    over: Time,
}

/// A broker, for as long as the hub lives.
struct Broker {
    key: KeyId,
    name: String,
    epoch: u64,
    most: u32,
    conn: Option<Conn>,
    /// When those who sit there are offline.
    over: Option<Time>,
    /// While its digest comes: who is there, a bit for each inbox.
    seen: Option<Vec<u64>>,
}

/// All brokers of a hub.
pub struct Brokers {
    config: BrokersConfig,
    links: BTreeMap<Conn, Link>,
    /// By number less one.
    brokers: Vec<Broker>,
    lookups: BTreeMap<u64, Asked>,
    next_lookup: u64,
    outputs: VecDeque<BrokersOutput>,
    counters: BrokersCounters,
}

impl Brokers {
    /// Nobody is connected.
    pub fn new(config: BrokersConfig) -> Brokers {
        Brokers {
            config,
            links: BTreeMap::new(),
            brokers: Vec::new(),
            lookups: BTreeMap::new(),
            next_lookup: 0,
            outputs: VecDeque::new(),
            counters: BrokersCounters::default(),
        }
    }

    /// What was counted.
    pub const fn counters(&self) -> &BrokersCounters {
        &self.counters
    }

    /// Those that were ever there, looking at everybody who is online.
    pub fn list(&self, hub: &Hub) -> Vec<BrokerInfo> {
        let sitting = if self.brokers.is_empty() { BTreeMap::new() } else { hub.sitting_counts() };
        let info = |(at, broker): (usize, &Broker)| BrokerInfo {
            name: broker.name.clone(),
            key: broker.key,
            is_up: broker.conn.is_some(),
            sessions: sitting.get(&number(at)).copied().unwrap_or(0),
            most: broker.most,
        };
        self.brokers.iter().enumerate().map(info).collect()
    }

    /// A connection came, of who has proven this key.
    pub fn accepted(&mut self, now: Time, conn: Conn, key: Option<KeyId>) {
        let listed = key.filter(|key| self.config.keys.contains(key));
        let Some(key) = listed else {
            self.counters.unlisted += 1;
            return self.refuse(conn, 401, "the key is not listed");
        };
        let unregistered = self.links.values().filter(|link| link.key == key && link.broker.is_none());
        if self.links.len() >= self.config.max_connections || unregistered.count() >= MAX_UNREGISTERED {
            self.counters.connections_full += 1;
            return self.refuse(conn, 507, "there are too many connections");
        }
        self.counters.connections += 1;
        let due = Some(now + PATIENCE);
        self.links.insert(conn, Link { line: Line::new(now), key, broker: None, due, lookups: 0 });
    }

    /// Whether a connection is a broker's.
    pub fn has(&self, conn: Conn) -> bool {
        self.links.contains_key(&conn)
    }

    /// Octets came. A broker that registers gets these secrets.
    pub fn received(
        &mut self,
        now: Time,
        conn: Conn,
        mut octets: &[u8],
        hub: &mut Hub,
        secrets: &dyn Fn() -> ServerSecrets,
    ) {
        while let Some(link) = self.links.get_mut(&conn) {
            match link.line.next(now, &mut octets) {
                None => return,
                Some(Ok((correlation, message))) => {
                    self.message(now, conn, correlation, message, hub, secrets);
                }
                Some(Err(_)) => {
                    self.counters.broken += 1;
                    self.close(now, conn);
                }
            }
        }
    }

    /// A connection is gone.
    pub fn closed(&mut self, now: Time, conn: Conn) {
        let Some(link) = self.links.remove(&conn) else { return };
        self.lookups.retain(|_, asked| asked.conn != conn);
        self.counters.unknown += link.line.unknown();
        let over = now + self.config.grace;
        if let Some(broker) = link.broker.and_then(|number| self.broker_mut(number))
            && broker.conn.take_if(|at| *at == conn).is_some()
        {
            (broker.seen, broker.over) = (None, Some(over));
            let down = BrokersOutput::Down(broker.name.clone());
            self.outputs.push_back(down);
        }
    }

    /// The hub says something to who sits at a broker.
    pub fn frame(&mut self, now: Time, seat: Seat, inbox: Inbox, frame: &Frame, hub: &mut Hub) {
        let conn = self.broker_mut(seat.broker).and_then(|broker| broker.conn);
        let Some(link) = conn.and_then(|conn| self.links.get_mut(&conn)) else {
            // It is said again when the broker comes back, or they log in elsewhere.
            self.counters.unsent += 1;
            return;
        };
        if link.line.has_room() {
            let octets = frame.encode();
            return link.line.send(&Message::Down { inbox: inbox.0, seat: seat.place, octets }, 0);
        }
        if hub.seat(inbox) == Some(seat) {
            self.counters.full += 1;
            hub.offline(now, inbox, seat);
            self.evict(inbox, seat, Closing::Full);
        }
    }

    /// A session at a broker is to go.
    pub fn evict(&mut self, inbox: Inbox, seat: Seat, why: Closing) {
        let conn = self.broker_mut(seat.broker).and_then(|broker| broker.conn);
        if let Some(link) = conn.and_then(|conn| self.links.get_mut(&conn)) {
            self.counters.evicted += 1;
            link.line.send(&Message::Evict { inbox: inbox.0, seat: seat.place, why: why.number() }, 0);
        }
    }

    /// Tickets of an inbox are good no more.
    pub fn revoked(&mut self, inbox: Inbox, epoch: u32) {
        self.tell_all(&Message::Revoked(vec![(inbox.0, epoch)]));
    }

    /// Tickets begin here.
    pub fn ticket_root(&mut self, root: &TicketRoot) {
        self.tell_all(&Message::TicketRoot { day: root.day, key: Secret(root.key) });
    }

    /// The hub knows a credential. Whether it was a broker's question.
    pub fn authenticated(&mut self, ticket: u64, credential: Option<&Credential>) -> bool {
        if ticket & LOOKUP == 0 {
            return false;
        }
        let Some(Asked { conn, correlation, .. }) = self.lookups.remove(&ticket) else { return true };
        if let Some(link) = self.links.get_mut(&conn) {
            link.lookups -= 1;
            let found = credential.map(|credential| Found {
                secret: credential.secret,
                inbox: credential.inbox.0,
                expiry: if credential.expires == 0 { u64::MAX } else { credential.expires },
                epoch: credential.epoch,
            });
            link.line.send(&Message::Found(found), correlation);
        }
        true
    }

    /// When [`Brokers::handle_deadline`] is wanted.
    pub fn deadline(&self) -> Option<Time> {
        let lines = self.links.values().map(|link| link.due.unwrap_or(Time::MAX).min(link.line.deadline()));
        lines.chain(self.brokers.iter().filter_map(|broker| broker.over)).min()
    }

    /// The deadline may have come.
    pub fn handle_deadline(&mut self, now: Time, hub: &mut Hub) {
        let ends = |(conn, link): (&Conn, &mut Link)| link.line.handle_deadline(now).err().map(|_| *conn);
        let ended: Vec<Conn> = self.links.iter_mut().filter_map(ends).collect();
        for conn in ended {
            self.counters.silent += 1;
            self.close(now, conn);
        }
        let impatient = |(conn, link): (&Conn, &Link)| link.due.filter(|due| *due <= now).map(|_| *conn);
        let impatient: Vec<Conn> = self.links.iter().filter_map(impatient).collect();
        for conn in impatient {
            self.counters.impatient += 1;
            self.close(now, conn);
        }
        self.expire_lookups(now);
        for at in 0..self.brokers.len() {
            if self.brokers[at].over.take_if(|over| *over <= now).is_some() {
                self.sweep(now, number(at), hub, |_| false);
            }
        }
    }

    /// The next thing to be done, until there is none.
    pub fn poll_output(&mut self, now: Time) -> Option<BrokersOutput> {
        let mut lines = self.links.iter_mut();
        self.outputs
            .pop_front()
            .or_else(|| lines.find_map(|(conn, link)| Some(BrokersOutput::Send(*conn, link.line.poll(now)?))))
    }

    fn message(
        &mut self,
        now: Time,
        conn: Conn,
        correlation: u64,
        message: Message,
        hub: &mut Hub,
        secrets: &dyn Fn() -> ServerSecrets,
    ) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        let Some(number) = link.broker else {
            return match message {
                Message::Register { name, epoch, most } => {
                    let key = link.key;
                    self.register(now, conn, key, (name, epoch, most), hub, &secrets());
                }
                Message::Enlist { .. } => {
                    self.counters.misdirected += 1;
                    self.links.remove(&conn);
                    self.refuse(
                        conn,
                        421,
                        "this is a hub and no balancer: the broker's option balancer names it",
                    );
                }
                _ => self.counters.unexpected += 1,
            };
        };
        let seat = |place| Seat { broker: number, place };
        match message {
            Message::Lookup { session_id } => {
                if link.lookups >= self.config.max_lookups {
                    self.counters.lookups_full += 1;
                    return self.expire_lookups(now);
                }
                link.lookups += 1;
                let ticket = LOOKUP | self.next_lookup;
                self.next_lookup = (self.next_lookup + 1) & !LOOKUP;
                self.lookups.insert(ticket, Asked { conn, correlation, over: now + LOOKUP_LIFE });
                hub.authenticate(ticket, SessionId(session_id));
            }
            // Inboxes are dense; one that was never given is not to cost memory.
            Message::Online { sitting, .. } if !hub.is_inbox(Inbox(sitting.inbox)) => {
                self.counters.strays += 1;
            }
            Message::Online { sitting, resumed } => {
                self.see(number, sitting.inbox);
                self.online(now, number, sitting, false, hub);
                self.announce(BrokersOutput::Online(Inbox(sitting.inbox), resumed));
            }
            Message::Offline { inbox, seat: place, why } => {
                if hub.seat(Inbox(inbox)) == Some(seat(place)) {
                    hub.offline(now, Inbox(inbox), seat(place));
                    self.announce(BrokersOutput::Offline(Inbox(inbox), why));
                }
            }
            Message::Digest { sitting, last } => {
                for one in sitting {
                    if !hub.is_inbox(Inbox(one.inbox)) {
                        self.counters.strays += 1;
                        continue;
                    }
                    self.see(number, one.inbox);
                    self.online(now, number, one, true, hub);
                }
                if last && let Some(seen) = self.broker_mut(number).and_then(|broker| broker.seen.take()) {
                    self.sweep(now, number, hub, |inbox| is_set(&seen, inbox.0));
                }
            }
            Message::Up { inbox, seat: place, octets } => {
                // What a session says that is not there any more is said again in the next.
                if hub.seat(Inbox(inbox)) != Some(seat(place)) {
                    self.counters.strays += 1;
                    return;
                }
                match Frame::decode(&octets) {
                    Some(frame) => hub.frame(now, Inbox(inbox), seat(place), frame),
                    None => self.counters.bad_frames += 1,
                }
            }
            Message::Failed { inbox, seat: place } => {
                self.counters.failed += 1;
                hub.offline(now, Inbox(inbox), seat(place));
            }
            _ => self.counters.unexpected += 1,
        }
    }

    fn register(
        &mut self,
        now: Time,
        conn: Conn,
        key: KeyId,
        (name, epoch, most): (String, u64, u32),
        hub: &mut Hub,
        secrets: &ServerSecrets,
    ) {
        let known = self.brokers.iter().position(|broker| broker.key == key);
        let at = known.unwrap_or(self.brokers.len());
        if number(at) >= ROOMS - 1 {
            self.counters.connections_full += 1;
            self.links.remove(&conn);
            return self.refuse(conn, 507, "there are too many brokers");
        }
        let seen = Some(Vec::new());
        let new = Broker { key, name: name.clone(), epoch, most, conn: Some(conn), over: None, seen };
        let before = match self.brokers.get_mut(at) {
            Some(broker) => Some(std::mem::replace(broker, new)),
            None => {
                self.brokers.push(new);
                None
            }
        };
        if let Some(before) = before {
            if let Some(older) = before.conn {
                self.counters.replaced += 1;
                self.links.remove(&older);
                self.lookups.retain(|_, asked| asked.conn != older);
                let why = "a newer connection with this key is there: two brokers must not share one";
                self.refuse(older, 409, why);
            }
            if before.epoch != epoch {
                self.sweep(now, number(at), hub, |_| false);
            }
        }
        self.counters.registered += 1;
        let Some(link) = self.links.get_mut(&conn) else { return };
        (link.broker, link.due) = (Some(number(at)), None);
        let revoked: Vec<(u32, u32)> = hub.revoked().map(|(inbox, epoch)| (inbox.0, epoch)).collect();
        for portion in revoked.chunks(MAX_REVOKED) {
            link.line.send(&Message::Revoked(portion.to_vec()), 0);
        }
        let registered = Registered {
            broker: number(at).into(),
            private: secrets.private,
            next_private: secrets.next_private,
            reset: secrets.reset,
            ticket_day: secrets.tickets.day,
            ticket_key: secrets.tickets.key,
            unix: hub.unix(now),
        };
        link.line.send(&Message::Registered(Box::new(registered)), 0);
        self.outputs.push_back(BrokersOutput::Up(name));
    }

    /// Somebody sits at a broker now; where else it sat it sits no more. A digest may be late: it does not move who came
    /// elsewhere since.
    fn online(&mut self, now: Time, number: u16, sitting: Sitting, is_digest: bool, hub: &mut Hub) {
        let inbox = Inbox(sitting.inbox);
        let seat = Seat { broker: number, place: sitting.seat };
        let since = u64::from(sitting.since).min(hub.unix(now));
        match hub.seat(inbox).filter(|before| before.broker != number) {
            Some(_) if is_digest && hub.online_since(inbox).is_some_and(|at| u64::from(at) >= since) => {
                self.counters.outdated += 1;
                return self.evict(inbox, seat, Closing::Replaced);
            }
            Some(before) if before.broker == HERE => {
                self.outputs.push_back(BrokersOutput::EvictHere(inbox, before));
            }
            Some(before) => self.evict(inbox, before, Closing::Replaced),
            None => {}
        }
        hub.online_from(now, inbox, seat, since);
    }

    /// Everybody who sits at a broker is offline, but for some.
    fn sweep(&mut self, now: Time, number: u16, hub: &mut Hub, stays: impl Fn(Inbox) -> bool) {
        for (inbox, seat) in hub.sitting_at(number) {
            if !stays(inbox) {
                self.counters.swept += 1;
                hub.offline(now, inbox, seat);
                self.announce(BrokersOutput::Offline(inbox, 19));
            }
        }
    }

    /// Lookups that nobody answered make room for others.
    fn expire_lookups(&mut self, now: Time) {
        while let Some(oldest) = self.lookups.first_entry().filter(|oldest| oldest.get().over <= now) {
            let Asked { conn, .. } = oldest.remove();
            self.counters.lookups_expired += 1;
            if let Some(link) = self.links.get_mut(&conn) {
                link.lookups -= 1;
            }
        }
    }

    /// Whoever is named while a digest comes is there.
    fn see(&mut self, number: u16, inbox: u32) {
        if let Some(seen) = self.broker_mut(number).and_then(|broker| broker.seen.as_mut()) {
            let at = inbox as usize / 64;
            if at >= seen.len() {
                seen.resize(at + 1, 0);
            }
            seen[at] |= 1 << (inbox % 64);
        }
    }

    fn announce(&mut self, output: BrokersOutput) {
        if self.config.announce {
            self.outputs.push_back(output);
        }
    }

    fn tell_all(&mut self, message: &Message) {
        for link in self.links.values_mut().filter(|link| link.broker.is_some()) {
            link.line.send(message, 0);
        }
    }

    fn broker_mut(&mut self, number: u16) -> Option<&mut Broker> {
        self.brokers.get_mut(usize::from(number.checked_sub(1)?))
    }

    fn refuse(&mut self, conn: Conn, code: u16, why: &str) {
        let octets = Message::Refused { code, text: why.to_owned() }.encode(0);
        self.outputs.push_back(BrokersOutput::Send(conn, octets));
        self.outputs.push_back(BrokersOutput::Close(conn));
    }

    fn close(&mut self, now: Time, conn: Conn) {
        self.outputs.push_back(BrokersOutput::Close(conn));
        self.closed(now, conn);
    }
}

/// What the hub calls the broker at this place of the list.
fn number(at: usize) -> u16 {
    at as u16 + 1
}

fn is_set(bits: &[u64], at: u32) -> bool {
    bits.get(at as usize / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
}
