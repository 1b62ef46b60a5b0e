//! The server's end: many sessions, each proven by a handshake or a resume before anything is believed.

mod asking;
mod asleep;
mod counters;
mod session;
mod slab;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

pub use self::counters::ServerCounters;
use self::{
    asking::Asking,
    asleep::Asleep,
    session::Active,
    slab::{Entry, Ids, Slab, Slot, Stage},
};
use super::{
    Path, Why,
    cookie::Cookies,
    keys::mac,
    share::is_within,
    ticket::{TicketKeys, TicketRoot},
};
use crate::{
    rng::Entropy,
    status::{Fault, Status},
    time::Time,
    wire::link::{self, Datagram, Refusal},
};

/// Seconds after which a candidate that proves nothing is dropped, and a lookup that is not answered.
const CANDIDATE_SECONDS: u16 = 10;
/// The longest heartbeat interval, in seconds.
const LONGEST_INTERVAL: u16 = 1800;
/// Candidates of one principal: a newer one takes the place of the oldest, so that who repeats one request takes no room
/// from others.
const MAX_CANDIDATES_OF_ONE: usize = 4;
/// Principals whose tickets were revoked that are kept apart; past that all tickets as old as the oldest are refused.
const MAX_REVOKED: usize = 65_536;

/// A session of a server, for as long as it lasts: a place in the low 24 bits, from 1, and which session of that place. A
/// rekey does not change it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Session(pub u32);

/// What a server holds over its restarts. All of it is secret.
#[derive(Clone)]
pub struct ServerSecrets {
    /// The static private key (X25519).
    pub private: [u8; 32],
    /// The one after it: announced in sessions, and good already.
    pub next_private: Option<[u8; 32]>,
    /// Makes the tokens of resets.
    pub reset: [u8; 32],
    /// Makes ticket keys. [`Output::TicketRoot`] brings the one that takes its place.
    pub tickets: TicketRoot,
}

/// Bounds of a server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Sessions, candidates among them; at most 2^24 - 1.
    pub max_sessions: u32,
    /// Sessions that have not shown yet that they have their keys. One address has a third of them at the most.
    pub max_candidates: usize,
    /// Lookups that wait for the authentication port. One address has a third of them at the most.
    pub max_lookups: usize,
    /// Hellos a second that are taken without a cookie.
    pub hellos_without_cookie: u32,
    /// Resumes a second that are taken without a cookie.
    pub resumes_without_cookie: u32,
    /// Resets a second.
    pub resets: u32,
    /// Octets of all sessions that wait to be acknowledged. One session has an eighth of what is left at the most.
    pub max_queued: usize,
    /// Pieces of all sessions that wait for others. One session has an eighth of what is left at the most.
    pub max_held: usize,
    /// Sessions whose devices sleep and for which something waits; past it another one is given up. A quarter of `max_queued` is
    /// theirs.
    pub max_asleep: usize,
    /// Shortest and longest heartbeat interval, in seconds; within 10 to 1800.
    pub intervals: (u16, u16),
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            max_sessions: slab::MAX_SESSIONS,
            max_candidates: 65_536,
            max_lookups: 4096,
            hellos_without_cookie: 500,
            resumes_without_cookie: 20_000,
            resets: 20_000,
            max_queued: 256 << 20,
            max_held: 256 << 10,
            max_asleep: 65_536,
            intervals: (10, 1800),
        }
    }
}

/// What the authentication port knows of a session id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credential {
    /// The secret that the device shares.
    pub secret: [u8; 32],
    /// The device, by a number that no other has: a newer session of it takes the place of an older.
    pub principal: u64,
    /// When the credential is over, in Unix seconds.
    pub expiry: u64,
    /// Rises when tickets that were given out must not be good any more.
    pub epoch: u32,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential(principal {}, epoch {})", self.principal, self.epoch)
    }
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A datagram came.
    Datagram {
        /// Where from.
        from: Path,
        /// What.
        octets: &'a [u8],
    },
    /// The deadline has come.
    Deadline,
}

/// What a server wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send a datagram. Over a stream, its length in two octets goes before it.
    Send {
        /// Where to.
        to: Path,
        /// What.
        octets: Vec<u8>,
    },
    /// Ask the authentication port who has this session id, and answer with [`Server::authenticated`].
    Lookup {
        /// For the answer.
        ticket: u64,
        /// The public name of a credential.
        session_id: [u8; 16],
    },
    /// A device is there, and has shown that it has the keys.
    SessionUp {
        /// Its session.
        session: Session,
        /// Who it is.
        principal: u64,
        /// Whether by a ticket, without Diffie-Hellman.
        resumed: bool,
    },
    /// A message, whole, once and in order.
    Message {
        /// Of which session.
        session: Session,
        /// From whom.
        principal: u64,
        /// What.
        octets: Vec<u8>,
    },
    /// The peer has this message and all before it. It says nothing of what the peer did with it.
    Acked {
        /// Whose.
        session: Session,
        /// As [`Server::send`] numbered it.
        message: u32,
    },
    /// There is room again after a `Full`.
    Writable {
        /// Where.
        session: Session,
    },
    /// A session is over. What was not acknowledged may not have arrived.
    Gone {
        /// Which.
        session: Session,
        /// Whose it was.
        principal: u64,
        /// Why.
        why: Why,
    },
    /// Keep this in the place of [`ServerSecrets::tickets`]; the old one is of no more use.
    TicketRoot(TicketRoot),
}

/// Many sessions, without sockets or clock.
pub struct Server {
    config: ServerConfig,
    secrets: ServerSecrets,
    /// The public halves.
    public: [Option<[u8; 32]>; 2],
    tickets: TicketKeys,
    cookies: Cookies,
    ids: Ids,
    rng: Box<dyn Entropy + Send>,
    slab: Slab,
    /// Proven sessions by principal.
    principals: HashTable<Slot>,
    hash: FixedState,
    asking: Asking,
    actives: Vec<Option<Box<Active>>>,
    free_actives: Vec<u32>,
    asleep: Asleep,
    timers: BTreeSet<(Time, u32)>,
    queued: usize,
    held: usize,
    revoked: BTreeMap<u64, Revoked>,
    /// The same by when that was, in Unix seconds.
    revoked_at: BTreeSet<(u64, u64)>,
    /// Unix second before which no ticket was made that is good.
    tickets_from: u64,
    /// One past a second, and the resets that may still be sent in it.
    resets: (u64, u32),
    draining: bool,
    begun: Time,
    unix: u64,
    outputs: VecDeque<Output>,
    counters: ServerCounters,
}

#[derive(Clone, Copy)]
struct Revoked {
    epoch: u32,
    at: u64,
}

impl Server {
    /// A server that begins now, at this Unix second.
    pub fn new(
        config: ServerConfig,
        secrets: ServerSecrets,
        now: Time,
        unix: u64,
        rng: impl Entropy + Send + 'static,
    ) -> Server {
        let mut rng: Box<dyn Entropy + Send> = Box::new(rng);
        let mut seed = [0; 16];
        rng.fill(&mut seed);
        let mut config = config;
        config.intervals.0 = config.intervals.0.clamp(10, LONGEST_INTERVAL);
        config.intervals.1 = config.intervals.1.clamp(config.intervals.0, LONGEST_INTERVAL);
        let public =
            [Some(secrets.private), secrets.next_private].map(|key| key.as_ref().map(super::public_key));
        let mut server = Server {
            public,
            tickets: TicketKeys::new(secrets.tickets, unix),
            cookies: Cookies::new(now, &mut rng),
            ids: Ids::new(seed),
            slab: Slab::new(config.max_sessions, 0),
            principals: HashTable::new(),
            hash: FixedState::with_seed(rng.next_u64()),
            asking: Asking::default(),
            actives: Vec::new(),
            free_actives: Vec::new(),
            asleep: Asleep::default(),
            timers: BTreeSet::new(),
            queued: 0,
            held: 0,
            revoked: BTreeMap::new(),
            revoked_at: BTreeSet::new(),
            tickets_from: 0,
            resets: (0, 0),
            draining: false,
            begun: now,
            unix,
            outputs: VecDeque::new(),
            counters: ServerCounters::default(),
            config,
            secrets,
            rng,
        };
        // The keys may be of days to come already.
        server.set_unix(now, unix);
        server
    }

    /// The public key that devices are given, and the one after it.
    pub fn public_keys(&self) -> [Option<[u8; 32]>; 2] {
        self.public
    }

    /// The wall clock was set. Set back by days, tickets that are of days to come are void, and their keys forgotten: each device
    /// makes one full handshake when it comes again.
    pub fn set_unix(&mut self, now: Time, unix: u64) {
        self.unix = unix.saturating_sub(now.since(self.begun).as_secs());
        if self.tickets.is_ahead(unix) {
            let mut key = [0; 32];
            self.rng.fill(&mut key);
            self.tickets = TicketKeys::new(TicketRoot { day: unix / 86_400, key }, unix);
            self.outputs.push_back(Output::TicketRoot(self.tickets.root()));
        }
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        self.expire(now);
        if let Input::Datagram { from, octets } = input {
            self.counters.datagrams += 1;
            // There is no answering it, and kept without its port it would look like a stream.
            if matches!(from, Path::Datagram(address) if address.port() == 0) {
                self.counters.malformed += 1;
                return;
            }
            // As a session keeps it, so that what came can be compared with what is kept.
            self.datagram(now, Path::of(from.octets()), octets);
        }
    }

    /// The authentication port's answer to [`Output::Lookup`]. One that comes too late is dropped.
    pub fn authenticated(&mut self, now: Time, ticket: u64, answer: Result<Credential, Refusal>) {
        self.expire(now);
        self.found(now, ticket, answer);
    }

    /// Queues a message. It has the number that [`Output::Acked`] will name; numbers of a session count up from 0.
    ///
    /// # Errors
    /// [`Status::NotFound`] when the session is no more, [`Status::Invalid`] when the message is longer than
    /// [`link::MAX_MESSAGE`], [`Status::Full`] when too much waits.
    pub fn send(&mut self, now: Time, session: Session, octets: Vec<u8>) -> Result<u32, Fault> {
        let slot = self.slot(session).ok_or_else(|| Fault::new(Status::NotFound, "the session is over"))?;
        let own = self.under_way(slot).map_or(0, |active| active.reliable.queued());
        if !is_within(own, octets.len(), link::MAX_MESSAGE, self.queued, self.config.max_queued) {
            if self.sleeps(slot) {
                return Err(self.give_up_asleep(slot));
            }
            self.counters.full += 1;
            self.counters.full_of_all += 1;
            return Err(Fault::new(Status::Full, "too much waits in all sessions: try again later"));
        }
        let number = self.with_active(now, slot, |active| active.reliable.send(now, octets));
        if self.sleeps(slot) {
            let is_full = number.as_ref().is_err_and(|fault| fault.status == Status::Full);
            if is_full || self.is_too_much_asleep(slot) {
                return Err(self.give_up_asleep(slot));
            }
        }
        match &number {
            Ok(_) => self.counters.sent += 1,
            Err(fault) if fault.status == Status::Full => self.counters.full += 1,
            Err(_) => {}
        }
        self.pump(now, slot);
        number
    }

    /// Ends a session, and tells the peer once. There is no [`Output::Gone`] for it.
    pub fn close(&mut self, now: Time, session: Session, why: super::Closing) {
        if let Some(slot) = self.slot(session) {
            self.say_close(now, slot, why);
            self.drop_session(slot);
        }
    }

    /// From now on tickets of a principal below an epoch are worthless; a session that it has ends.
    /// What was revoked within the last week must be said again after a restart.
    pub fn revoke(&mut self, now: Time, principal: u64, epoch: u32) {
        let at = self.unix(now);
        let entry = self.revoked.entry(principal).or_insert(Revoked { epoch, at });
        self.revoked_at.remove(&(entry.at, principal));
        *entry = Revoked { epoch: entry.epoch.max(epoch), at };
        self.revoked_at.insert((at, principal));
        if self.revoked.len() > MAX_REVOKED
            && let Some((at, oldest)) = self.revoked_at.pop_first()
        {
            self.revoked.remove(&oldest);
            self.tickets_from = self.tickets_from.max(at + 1);
            self.counters.revoked_full += 1;
        }
        if let Some(slot) = self.by_principal(principal) {
            self.say_close(now, slot, super::Closing::Revoked);
            self.gone(slot, Why::Closed(super::Closing::Revoked));
        }
    }

    /// Puts another bound on the number of sessions. Those that there are stay.
    pub fn set_max_sessions(&mut self, sessions: u32) {
        self.config.max_sessions = sessions;
        self.slab.set_limit(sessions);
    }

    /// Ends so many sessions at the most, and tells each to log in elsewhere, or later. How many that were.
    pub fn evict(&mut self, now: Time, most: usize) -> usize {
        let slots: Vec<Slot> = self.principals.iter().take(most).copied().collect();
        for slot in &slots {
            self.say_close(now, *slot, super::Closing::Drained);
            self.gone(*slot, Why::Closed(super::Closing::Drained));
        }
        slots.len()
    }

    /// Whether answers tell devices to log in elsewhere, and new ones are refused.
    pub fn drain(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self, _now: Time) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Deadline`] is due.
    pub fn deadline(&self) -> Option<Time> {
        let timer = self.timers.first().map(|(due, _)| *due);
        let wheel = (self.slab.len() > 0).then(|| self.begun + Duration::from_secs(self.slab.second() + 1));
        [timer, wheel, self.asking.deadline()].into_iter().flatten().min()
    }

    /// What was counted.
    pub fn counters(&self) -> &ServerCounters {
        &self.counters
    }

    /// Sessions there are, candidates among them.
    pub fn len(&self) -> usize {
        self.slab.len() as usize
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sessions that have something under way.
    pub fn active(&self) -> usize {
        self.actives.len() - self.free_actives.len()
    }

    /// Whose a session is.
    pub fn principal(&self, session: Session) -> Option<u64> {
        self.slot(session).and_then(|slot| self.slab.get(slot)).map(Entry::principal)
    }

    /// What it holds over its restarts, with the ticket root of today.
    pub fn secrets(&self) -> ServerSecrets {
        ServerSecrets { tickets: self.tickets.root(), ..self.secrets.clone() }
    }

    /// Tickets are made and opened by this root from now on, at this Unix second.
    pub fn set_tickets(&mut self, root: TicketRoot, unix: u64) {
        self.tickets = TicketKeys::new(root, unix);
    }

    /// Whether a session with this connection id has its datagrams sent there.
    pub fn is_at(&self, id: u32, path: Path) -> bool {
        let (slot, _) = self.ids.place(id);
        let entry = self.slab.get(slot).filter(|entry| entry.stage == Stage::Proven);
        entry.is_some_and(|entry| self.id(slot) == id && entry.path() == path)
    }

    /// Where a session's datagrams go.
    pub fn path(&self, session: Session) -> Option<Path> {
        self.slot(session).and_then(|slot| self.slab.get(slot)).map(Entry::path)
    }

    fn datagram(&mut self, now: Time, from: Path, octets: &[u8]) {
        match Datagram::decode(octets) {
            Ok(Datagram::Hello(hello)) => self.hello(now, from, hello),
            Ok(Datagram::Resume(resume)) => self.resume(now, from, &resume),
            Ok(Datagram::Beat { id, sequence } | Datagram::Data { id, sequence }) => {
                self.of_session(now, from, id, sequence, octets);
            }
            Ok(_) => self.counters.malformed += 1,
            // Only to a request: were answers refused too, two servers of different versions would never stop.
            Err(link::Malformed::Version(_)) if octets.len() >= 16 && matches!(octets[4], 1 | 5) => {
                self.counters.malformed += 1;
                self.refuse(from, Refusal::Version, octets[8..16].try_into().expect("eight octets"));
            }
            Err(_) => self.counters.malformed += 1,
        }
    }

    fn expire(&mut self, now: Time) {
        let second = now.since(self.begun).as_secs();
        if second > self.slab.second() {
            for slot in self.slab.turn(second) {
                self.look_at(slot, second);
            }
            if let Some(root) = self.tickets.turn(self.unix(now)) {
                self.outputs.push_back(Output::TicketRoot(root));
            }
        }
        self.counters.lookups_expired += self.asking.expire(now);
        while let Some(&(due, index)) = self.timers.first()
            && due <= now
        {
            self.timers.pop_first();
            self.active_due(now, index);
        }
    }

    /// The wheel came to a session: it is over, or looked at again when it could be.
    fn look_at(&mut self, slot: Slot, second: u64) {
        let Some(entry) = self.slab.get(slot) else { return };
        let idle = (second as u16).wrapping_sub(entry.heard);
        match entry.patience().checked_sub(idle) {
            Some(left) if left > 0 => self.slab.arm(slot, left.into()),
            _ if entry.stage == Stage::Candidate => {
                self.counters.candidates_expired += 1;
                self.asking.forget(slot);
                self.drop_session(slot);
            }
            _ => {
                self.counters.silent += 1;
                self.gone(slot, Why::Silent);
            }
        }
    }

    fn gone(&mut self, slot: Slot, why: Why) {
        let session = self.session(slot);
        let principal = self.slab.get(slot).map_or(0, Entry::principal);
        self.drop_session(slot);
        self.outputs.push_back(Output::Gone { session, principal, why });
    }

    fn drop_session(&mut self, slot: Slot) {
        let Some(entry) = self.slab.get(slot) else { return };
        let (active, principal, stage) = (entry.active, entry.principal(), entry.stage);
        if entry.sleep > 0 {
            self.asleep.forget(slot);
        }
        if active != Entry::IDLE {
            self.drop_active(active);
        }
        if stage == Stage::Proven
            && let Ok(found) = self.principals.find_entry(self.hash_of(principal), |other| *other == slot)
        {
            found.remove();
        }
        self.slab.remove(slot);
    }

    fn by_principal(&self, principal: u64) -> Option<Slot> {
        let is_it = |slot: &Slot| self.slab.get(*slot).is_some_and(|entry| entry.principal() == principal);
        self.principals.find(self.hash_of(principal), is_it).copied()
    }

    fn hash_of(&self, principal: u64) -> u64 {
        let mut hasher = self.hash.build_hasher();
        hasher.write_u64(principal);
        hasher.finish()
    }

    fn slot(&self, session: Session) -> Option<Slot> {
        let slot = session.0 & 0xff_ffff;
        let entry = self.slab.get(slot)?;
        (entry.stage == Stage::Proven && entry.birth == (session.0 >> 24) as u8).then_some(slot)
    }

    fn session(&self, slot: Slot) -> Session {
        let birth = self.slab.get(slot).map_or(0, |entry| entry.birth);
        Session(slot | u32::from(birth) << 24)
    }

    fn id(&self, slot: Slot) -> u32 {
        self.ids.id(slot, self.slab.get(slot).map_or(0, |entry| entry.generation))
    }

    /// The Unix second that it is.
    pub fn unix(&self, now: Time) -> u64 {
        self.unix.saturating_add(now.since(self.begun).as_secs())
    }

    fn reset_token(&self, id: u32) -> [u8; 12] {
        mac(&self.secrets.reset, &[&id.to_be_bytes()])
    }

    fn reset(&mut self, now: Time, to: Path, id: u32, length: usize) {
        self.counters.unknown_ids += 1;
        // To another server a reset is a heartbeat of an unknown id: by leaving out one in four the two soon stop. A device
        // that is left out asks again with a probe, which is longer.
        if length == link::BEAT && self.rng.next_u16() & 3 == 0 {
            self.counters.resets_withheld += 1;
            return;
        }
        let second = now.since(self.begun).as_secs();
        if self.resets.0 != second + 1 {
            self.resets = (second + 1, self.config.resets);
        }
        if self.resets.1 == 0 {
            self.counters.resets_withheld += 1;
            return;
        }
        self.resets.1 -= 1;
        self.counters.resets += 1;
        let octets = link::reset(id, self.reset_token(id));
        self.outputs.push_back(Output::Send { to, octets });
    }

    fn refuse(&mut self, to: Path, reason: Refusal, echo: [u8; 8]) {
        self.counters.refused += 1;
        self.outputs.push_back(Output::Send { to, octets: link::refuse(reason, echo) });
    }
}
