//! A broker's part: what it and its hub say to each other about the sessions that it holds (docs/inner-links.md).
//!
//! The sessions themselves are the node's. While the hub is away they stay: devices notice nothing but that what they say is
//! not answered. When it is back, who was not answered is sent away and comes back by its ticket, which has it say all again.

mod sitters;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use self::sitters::Sitters;
use super::{
    Inbox, SessionId,
    line::{Cut, Line},
};
use crate::{
    counters::counters,
    io::Conn,
    link::{Closing, Credential, Session, TicketRoot, Why},
    rng::Entropy,
    status::{Fault, Status},
    time::Time,
    wire::inner::{Found, MAX_SITTING, Message, Registered},
};

/// The pause after the first connection that failed; doubled with each, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a hub may take to make a broker one of its own.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a lookup is asked again of a hub that came back: devices have given up by then.
const LOOKUP: Duration = Duration::from_secs(10);
/// Revocations that a hub may name before it says yes: a quarter of all devices that there can be.
const MAX_REVOKED: usize = 1 << 22;

/// How a broker behaves.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// What people call it.
    pub name: String,
    /// Sessions that it can hold.
    pub max_sessions: u32,
    /// Lookups that wait for the hub.
    pub max_lookups: usize,
}

impl Default for BrokerConfig {
    fn default() -> BrokerConfig {
        BrokerConfig { name: "broker".to_owned(), max_sessions: u32::MAX, max_lookups: 4096 }
    }
}

/// What a broker wants done.
#[derive(Debug)]
pub enum BrokerOutput {
    /// Connect to the hub, under this name.
    Connect(Conn),
    /// Send to the hub.
    Send(Conn, Vec<u8>),
    /// Close the connection to the hub.
    Close(Conn),
    /// Be the office with these secrets, at this time; whether they are others than before.
    Identity(Box<Registered>, bool),
    /// Tickets begin here.
    TicketRoot(TicketRoot),
    /// Tickets of this inbox below this epoch are good no more.
    Revoke(Inbox, u32),
    /// The answer to a lookup.
    Found(u64, Option<Credential>),
    /// Say this to a device.
    Down(Session, Inbox, Vec<u8>),
    /// End this session.
    Evict(Session, Inbox, Closing),
    /// Something to know.
    Event(BrokerEvent),
}

/// Something to know.
#[derive(Debug)]
pub enum BrokerEvent {
    /// The hub is there, and this is its broker.
    Registered,
    /// The hub is lost, or does not answer; it is tried again.
    Down(Fault),
    /// The hub wants no such broker; it is tried again all the same.
    Refused(u16, String),
}

counters! {
    /// What a broker counted.
    pub struct BrokerCounters {
        registered: "times that the hub took this broker",
        lost: "connections to the hub that were lost",
        refused: "times that the hub refused this broker",
        broken: "connections to the hub closed because what came on them cannot be",
        unknown: "frames of the hub of a type that this version does not know",
        unexpected: "messages that a hub does not send, or not then",
        up: "messages of devices handed to the hub",
        unsaid: "messages of devices that found no hub",
        sent_away: "sessions closed so that they say again what the hub did not answer",
        down: "messages for devices",
        down_gone: "messages for devices that were not there any more",
        evicted: "sessions closed because the hub said so",
        lookups_dropped: "lookups dropped because too many waited for the hub",
    }
}

/// How far the connection to the hub has come.
enum Uplink {
    /// The next attempt.
    Waiting(Time),
    Connecting(Conn),
    /// Connected, and by when the hub has to have said yes.
    Registering(Conn, Line, Time),
    /// And since when.
    Registered(Conn, Line, Time),
}

type Identity = ([u8; 32], Option<[u8; 32]>, [u8; 32]);

/// A broker's part.
pub struct Broker {
    config: BrokerConfig,
    epoch: u64,
    rng: Box<dyn Entropy + Send>,
    uplink: Uplink,
    failures: u32,
    next_conn: u32,
    /// Our time and the hub's Unix second, at one moment.
    clock: (Time, u64),
    /// What makes an office another one: its private keys, and that of its resets.
    identity: Option<Identity>,
    /// Revocations that came before the hub said yes.
    revoked: Vec<(u32, u32)>,
    sitters: Sitters,
    /// Tickets of the link's end, with when they are over.
    lookups: BTreeMap<u64, (SessionId, Time)>,
    outputs: VecDeque<BrokerOutput>,
    counters: BrokerCounters,
}

impl Broker {
    /// A broker that connects to its hub at once.
    pub fn new(config: BrokerConfig, now: Time, rng: impl Entropy + Send + 'static) -> Broker {
        let mut rng: Box<dyn Entropy + Send> = Box::new(rng);
        Broker {
            config,
            epoch: rng.next_u64(),
            rng,
            uplink: Uplink::Waiting(now),
            failures: 0,
            next_conn: 0,
            clock: (now, 0),
            identity: None,
            revoked: Vec::new(),
            sitters: Sitters::default(),
            lookups: BTreeMap::new(),
            outputs: VecDeque::new(),
            counters: BrokerCounters::default(),
        }
    }

    /// What was counted.
    pub const fn counters(&self) -> &BrokerCounters {
        &self.counters
    }

    /// Whether the hub is there.
    pub const fn is_registered(&self) -> bool {
        matches!(self.uplink, Uplink::Registered(..))
    }

    /// The connection that was asked for is there.
    pub fn connected(&mut self, now: Time, conn: Conn) {
        if !matches!(self.uplink, Uplink::Connecting(asked) if asked == conn) {
            return;
        }
        let mut line = Line::new(now);
        let Broker { config: BrokerConfig { name, max_sessions, .. }, epoch, .. } = &*self;
        line.send(&Message::Register { name: name.clone(), epoch: *epoch, most: *max_sessions }, 0);
        self.uplink = Uplink::Registering(conn, line, now + PATIENCE);
    }

    /// Octets came from the hub.
    pub fn received(&mut self, now: Time, conn: Conn, mut octets: &[u8]) {
        loop {
            let line = match &mut self.uplink {
                Uplink::Registering(at, line, _) | Uplink::Registered(at, line, _) if *at == conn => line,
                _ => return,
            };
            match line.next(now, &mut octets) {
                None => return,
                Some(Ok((correlation, message))) => self.message(now, correlation, message),
                Some(Err(cut)) => {
                    self.counters.broken += 1;
                    self.outputs.push_back(BrokerOutput::Close(conn));
                    return self.lost(now, cut_text(cut));
                }
            }
        }
    }

    /// A connection is gone, or never came to be. Whether it was the one to the hub.
    pub fn closed(&mut self, now: Time, conn: Conn, fault: Option<Fault>) {
        if self.conn() == Some(conn) {
            let fault = fault.unwrap_or_else(|| Fault::new(Status::Closed, "the hub closed the connection"));
            self.lost_with(now, fault);
        }
    }

    /// The network is another, or back: the hub is tried at once.
    pub fn network_changed(&mut self, now: Time) {
        self.failures = 0;
        if let Uplink::Waiting(at) = &mut self.uplink {
            *at = now;
        }
    }

    /// The link's end asks who has a session id.
    pub fn lookup(&mut self, now: Time, ticket: u64, session: SessionId) {
        while let Some(oldest) = self.lookups.first_entry().filter(|oldest| oldest.get().1 <= now) {
            oldest.remove();
        }
        if self.lookups.len() >= self.config.max_lookups {
            self.counters.lookups_dropped += 1;
            return;
        }
        self.lookups.insert(ticket, (session, now + LOOKUP));
        self.tell_with(ticket, &Message::Lookup { session_id: session.0 });
    }

    /// A session is up.
    pub fn up(&mut self, now: Time, session: Session, inbox: Inbox, resumed: bool) {
        let since = self.unix(now);
        let sitting = self.sitters.enter(session, inbox, since);
        self.tell(&Message::Online { sitting, resumed });
    }

    /// A session is over.
    pub fn gone(&mut self, session: Session, inbox: Inbox, why: Why) {
        if self.sitters.leave(session, inbox) {
            self.tell(&Message::Offline { inbox: inbox.0, seat: session.0, why: reason(why) });
        }
    }

    /// A device said something. When there is no room for it, its session is to end, so that it says it again.
    pub fn said(&mut self, session: Session, inbox: Inbox, octets: Vec<u8>) {
        if wants_answer(&octets) {
            self.sitters.asked(session, inbox);
        }
        let Uplink::Registered(_, line, _) = &mut self.uplink else {
            self.counters.unsaid += 1;
            return;
        };
        if line.has_room() {
            self.counters.up += 1;
            return line.send(&Message::Up { inbox: inbox.0, seat: session.0, octets }, 0);
        }
        self.counters.unsaid += 1;
        if self.sitters.leave(session, inbox) {
            self.tell(&Message::Offline { inbox: inbox.0, seat: session.0, why: Closing::Full.number() });
            self.outputs.push_back(BrokerOutput::Evict(session, inbox, Closing::Full));
        }
    }

    /// When [`Broker::handle_deadline`] is wanted.
    pub fn deadline(&self) -> Option<Time> {
        match &self.uplink {
            Uplink::Waiting(at) => Some(*at),
            Uplink::Connecting(_) => None,
            Uplink::Registering(_, line, patience) => Some(line.deadline().min(*patience)),
            Uplink::Registered(_, line, _) => Some(line.deadline()),
        }
    }

    /// The deadline may have come.
    pub fn handle_deadline(&mut self, now: Time) {
        let (conn, end) = match &mut self.uplink {
            Uplink::Waiting(at) if *at <= now => {
                let conn = Conn(Conn::OURS | self.next_conn);
                self.next_conn = (self.next_conn + 1) & !Conn::OURS;
                self.uplink = Uplink::Connecting(conn);
                return self.outputs.push_back(BrokerOutput::Connect(conn));
            }
            Uplink::Waiting(_) | Uplink::Connecting(_) => return,
            Uplink::Registering(conn, _, patience) if *patience <= now => (*conn, Err(Cut::Silent)),
            Uplink::Registering(conn, line, _) | Uplink::Registered(conn, line, _) => {
                (*conn, line.handle_deadline(now))
            }
        };
        if let Err(cut) = end {
            self.outputs.push_back(BrokerOutput::Close(conn));
            self.lost(now, cut_text(cut));
        }
    }

    /// The next thing to be done, until there is none.
    pub fn poll_output(&mut self, now: Time) -> Option<BrokerOutput> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        match &mut self.uplink {
            Uplink::Registering(conn, line, _) | Uplink::Registered(conn, line, _) => {
                line.poll(now).map(|octets| BrokerOutput::Send(*conn, octets))
            }
            Uplink::Waiting(_) | Uplink::Connecting(_) => None,
        }
    }

    fn message(&mut self, now: Time, correlation: u64, message: Message) {
        match message {
            Message::Registered(registered) => self.registered(now, registered),
            Message::Refused { code, text } => {
                self.counters.refused += 1;
                if let Some(conn) = self.conn() {
                    self.outputs.push_back(BrokerOutput::Close(conn));
                }
                self.outputs.push_back(BrokerOutput::Event(BrokerEvent::Refused(code, text)));
                self.pause(now);
            }
            Message::TicketRoot { day, key } => {
                self.outputs.push_back(BrokerOutput::TicketRoot(TicketRoot { day, key: key.0 }))
            }
            Message::Revoked(revoked) if !self.is_registered() => {
                self.revoked.extend(revoked);
                if let Some(conn) = self.conn().filter(|_| self.revoked.len() > MAX_REVOKED) {
                    self.counters.broken += 1;
                    self.outputs.push_back(BrokerOutput::Close(conn));
                    self.lost(now, "the hub names more revocations than there can be");
                }
            }
            Message::Revoked(revoked) => {
                let revoke = |(inbox, epoch)| BrokerOutput::Revoke(Inbox(inbox), epoch);
                self.outputs.extend(revoked.into_iter().map(revoke));
            }
            Message::Found(found) => {
                if self.lookups.remove(&correlation).is_some() {
                    self.outputs.push_back(BrokerOutput::Found(correlation, found.map(credential)));
                }
            }
            Message::Down { inbox, seat, octets } => self.down(Session(seat), Inbox(inbox), octets),
            Message::Evict { inbox, seat, why } => {
                let (session, inbox) = (Session(seat), Inbox(inbox));
                if self.sitters.leave(session, inbox) {
                    self.counters.evicted += 1;
                    self.outputs.push_back(BrokerOutput::Evict(session, inbox, Closing::of(why)));
                }
            }
            _ => self.counters.unexpected += 1,
        }
    }

    fn registered(&mut self, now: Time, registered: Box<Registered>) {
        self.uplink = match std::mem::replace(&mut self.uplink, Uplink::Waiting(now)) {
            Uplink::Registering(conn, line, _) => Uplink::Registered(conn, line, now),
            other => {
                self.counters.unexpected += 1;
                self.uplink = other;
                return;
            }
        };
        self.counters.registered += 1;
        self.clock = (now, registered.unix);
        let identity = (registered.private, registered.next_private, registered.reset);
        let is_new = self.identity.replace(identity) != Some(identity);
        if is_new {
            // Sessions with another office are none with this one.
            self.sitters = Sitters::default();
        }
        self.outputs.push_back(BrokerOutput::Identity(registered, is_new));
        let revoked = std::mem::take(&mut self.revoked).into_iter();
        self.outputs.extend(revoked.map(|(inbox, epoch)| BrokerOutput::Revoke(Inbox(inbox), epoch)));
        self.outputs.push_back(BrokerOutput::Event(BrokerEvent::Registered));
        for (session, inbox) in self.sitters.take_unanswered() {
            self.counters.sent_away += 1;
            self.outputs.push_back(BrokerOutput::Evict(session, inbox, Closing::Full));
        }
        let sitting: Vec<_> = self.sitters.all().collect();
        let mut portions = sitting.chunks(MAX_SITTING).peekable();
        if portions.peek().is_none() {
            self.tell(&Message::Digest { sitting: Vec::new(), last: true });
        }
        while let Some(portion) = portions.next() {
            let sitting = portion.to_vec();
            self.tell(&Message::Digest { sitting, last: portions.peek().is_none() });
        }
        self.lookups.retain(|_, (_, over)| *over > now);
        let waiting: Vec<_> = self.lookups.iter().map(|(ticket, (session, _))| (*ticket, *session)).collect();
        for (ticket, session) in waiting {
            self.tell_with(ticket, &Message::Lookup { session_id: session.0 });
        }
    }

    fn down(&mut self, session: Session, inbox: Inbox, octets: Vec<u8>) {
        if !self.sitters.is_there(session, inbox) {
            self.counters.down_gone += 1;
            return self.tell(&Message::Failed { inbox: inbox.0, seat: session.0 });
        }
        self.counters.down += 1;
        if is_answer(&octets) {
            self.sitters.answered(session, inbox);
        }
        self.outputs.push_back(BrokerOutput::Down(session, inbox, octets));
    }

    /// Says something to the hub, if it is there: what it misses is in the digest.
    fn tell(&mut self, message: &Message) {
        self.tell_with(0, message);
    }

    fn tell_with(&mut self, correlation: u64, message: &Message) {
        if let Uplink::Registered(_, line, _) = &mut self.uplink {
            line.send(message, correlation);
        }
    }

    const fn conn(&self) -> Option<Conn> {
        match &self.uplink {
            Uplink::Waiting(_) => None,
            Uplink::Connecting(conn) | Uplink::Registering(conn, ..) | Uplink::Registered(conn, ..) => {
                Some(*conn)
            }
        }
    }

    fn lost(&mut self, now: Time, why: &'static str) {
        self.lost_with(now, Fault::new(Status::Closed, why));
    }

    fn lost_with(&mut self, now: Time, fault: Fault) {
        self.counters.lost += u64::from(self.is_registered());
        self.outputs.push_back(BrokerOutput::Event(BrokerEvent::Down(fault)));
        self.pause(now);
    }

    fn pause(&mut self, now: Time) {
        self.revoked.clear();
        if let Uplink::Registering(_, line, _) | Uplink::Registered(_, line, _) = &self.uplink {
            self.counters.unknown += line.unknown();
        }
        // A hub that says yes and then lets go, as to one of two brokers with one key, is not asked again and again at once.
        if matches!(self.uplink, Uplink::Registered(_, _, since) if now.since(since) >= LONGEST_PAUSE) {
            self.failures = 0;
        }
        let longest = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures += 1;
        // Half of it by chance: brokers that lost one hub together do not come back together.
        let half = longest.as_micros() as u32 / 2;
        let pause = Duration::from_micros(u64::from(half) + u64::from(self.rng.below(half + 1)));
        self.uplink = Uplink::Waiting(now + pause);
    }

    /// By the hub's clock, as far as it was told.
    fn unix(&self, now: Time) -> u32 {
        let (then, unix) = self.clock;
        u32::try_from(unix.saturating_add(now.since(then).as_secs())).unwrap_or(u32::MAX)
    }
}

/// Whether a device waits for an answer to this: a put, a subscription, a setting, a query.
fn wants_answer(octets: &[u8]) -> bool {
    matches!(octets.first(), Some(3 | 6 | 7 | 9))
}

/// Whether this is one.
fn is_answer(octets: &[u8]) -> bool {
    matches!(octets.first(), Some(4 | 8 | 10))
}

fn credential(found: Found) -> Credential {
    let Found { secret, inbox, expiry, epoch } = found;
    Credential { secret, principal: inbox.into(), expiry, epoch }
}

/// As it stands on the wire.
fn reason(why: Why) -> u16 {
    match why {
        Why::Closed(closing) => closing.number(),
        Why::Replaced => Closing::Replaced.number(),
        Why::Silent => 16,
        Why::Unreachable => 17,
        Why::Stalled => 18,
        Why::Reset | Why::Rekey => 19,
    }
}

const fn cut_text(cut: Cut) -> &'static str {
    match cut {
        Cut::Frame(_) | Cut::Message => "the hub said what cannot be read",
        Cut::Silent => "the hub does not answer any more",
        Cut::Full => "the hub takes too little of what it is told",
    }
}
