//! The hub: takes messages, keeps those that are to be kept, and hands each receiver what waits for it.
//!
//! A message becomes a number in one log. A receiver's queue is the numbers that it has to get, in order; what it
//! confirmed leaves the queue. An answer goes out, and a receiver is told, only after the store said that the
//! message is durable. Everything else here can be lost and is found again in the store.

mod accounts;
mod broadcast;
mod cancel;
mod clock;
mod devices;
mod intake;
mod known;
mod lately;
mod leave;
mod list;
mod log;
mod mailbox;
mod output;
mod presence;
mod queue;
mod rooms;
mod silence;
mod start;
mod sweep;
#[cfg(test)]
mod tests;
mod vouch;

use std::{
    collections::{self, BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    Inbox, ROOMS, Seat, SessionId,
    rows::{self, App, Broadcast, Device, Kept, Known, Relay, User},
};
use crate::{
    counters::counters,
    rng::Entropy,
    status::{Fault, Status},
    store::{Batch, Fetch, Fetched, Op, Store, Table, Wanted},
    time::Time,
    wire::{
        app::{Address, Kind, Message, State, To},
        inner::Relayed,
        post::{Delivery, Frame, Presence as Whereabouts, Sequence},
    },
};
use accounts::Users;
pub use accounts::{Credential, Enrolled, Rights};
use intake::Intake;
use known::Ids;
use lately::Lately;
use leave::Why;
pub use list::{DeviceInfo, List, Listed};
use mailbox::Mailbox;
pub use output::{Answer, HubEvent, HubOutput};
use presence::Presence;
use queue::Queues;
use rooms::{Place, Rooms};
use silence::Silence;
use sweep::Sweep;
pub use vouch::Vouched;
use vouch::Vouching;

// Names come from strangers, so hashes are seeded; they are made several times for each message, so they are quick.
type HashMap<K, V> = collections::HashMap<K, V, foldhash::fast::RandomState>;
type HashSet<K> = collections::HashSet<K, foldhash::fast::RandomState>;

/// How a hub behaves.
#[derive(Clone, Copy, Debug)]
pub struct HubConfig {
    /// Messages that wait for one device; past it the device is stale (DECISIONS.md 5).
    pub max_messages: u32,
    /// Octets that wait for one device; past it the device is stale.
    pub max_octets: u32,
    /// Messages that wait, each counted for each of its devices; past it senders are told to come again later. What waits is
    /// held in memory without its body: about 20 octets each, 140 where it is the only one for its device.
    pub max_stored: usize,
    /// Messages handed to one device and not confirmed yet.
    pub window: usize,
    /// Messages that wait for one other room; past it who sends there is told to come again later.
    pub max_room_messages: u32,
    /// Octets that wait for one other room.
    pub max_room_octets: u32,
    /// Messages handed to one other room and not acknowledged yet.
    pub room_window: usize,
    /// Messages that wait for the disk, or for who their receivers are.
    pub max_pending: usize,
    /// Ids that are remembered; past it the oldest goes.
    pub max_known: usize,
    /// Broadcasts with a life period, at once.
    pub max_broadcasts: usize,
    /// Applications.
    pub max_apps: usize,
    /// Devices of one user.
    pub max_devices: usize,
    /// Users whose devices are remembered.
    pub max_cached: usize,
    /// Days of service on which a device may be silent; past it the device is stale (DECISIONS.md 5).
    pub max_silence: u16,
    /// The pause between two looks for what has expired.
    pub sweep: Duration,
    /// Whether the application is asked about session ids that the store does not know.
    pub asks: bool,
}

impl Default for HubConfig {
    fn default() -> HubConfig {
        HubConfig {
            max_messages: 1000,
            max_octets: 16 << 20,
            max_stored: 10_000_000,
            window: 64,
            max_room_messages: 100_000,
            max_room_octets: 1 << 30,
            room_window: 128,
            max_pending: 16_384,
            max_known: 1_000_000,
            max_broadcasts: 64,
            max_apps: 10_000,
            max_devices: 16,
            max_cached: 16_384,
            max_silence: 30,
            sweep: Duration::from_secs(60),
            asks: false,
        }
    }
}

/// What a hub is opened with.
pub struct Open {
    /// The time it is.
    pub now: Time,
    /// The same in Unix seconds.
    pub unix: u64,
    /// For secrets and names of sessions.
    pub rng: Box<dyn Entropy + Send>,
}

/// Who gives a message, and where its answer goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sender {
    /// An application that has proven its secret.
    App {
        /// Its name.
        name: String,
        /// What it may do.
        rights: Rights,
        /// Comes back with the answer.
        seat: Seat,
    },
    /// A device that has logged in.
    Device {
        /// Its user.
        user: String,
        /// Its inbox.
        inbox: Inbox,
        /// Comes back with the answer.
        seat: Seat,
    },
    /// Another room, for one of its users or applications.
    Room {
        /// The inbox of what is for it.
        inbox: Inbox,
        /// Of its store: another one gives the same numbers to other messages.
        epoch: u64,
        /// As its user or application is called here.
        from: Address,
        /// When that room took it, in Unix seconds.
        sent: u32,
        /// The link that it came on.
        seat: Seat,
    },
}

counters! {
    /// What a hub counted.
    pub struct HubCounters {
        messages: "messages taken",
        repeats: "messages that had been taken before, by their id",
        refused: "messages refused",
        stored: "messages kept, counted for each receiver",
        stored_full: "messages refused because as many wait as may",
        routed: "messages passed on without being kept",
        dropped: "messages for who was not there, not to be kept",
        delivered: "messages handed to who waits for them",
        redelivered: "of those, handed before",
        confirmed: "messages confirmed",
        stray_confirmations: "confirmations of what was not under way",
        expired: "messages that went stale before they were handed over",
        stale_devices: "queues that went over their quota",
        silent_devices: "queues given up because their devices were silent for too long",
        known_evicted: "ids forgotten before their time, for want of room",
        unreadable: "rows that could not be read",
        frames_refused: "frames of devices refused: too many wait, or whose they are cannot be told",
        pending_full: "messages refused because too many waited for the disk",
        relayed: "messages handed to other rooms",
        from_rooms: "messages that other rooms handed over, repeats among them",
        strangers: "messages of other rooms for nobody who is known here",
        room_full: "messages refused because as many wait for another room as may",
        room_broadcasts_full: "broadcasts of other rooms dropped because there were too many",
    }
}

/// What follows once a batch is durable.
enum Effect {
    /// A message is kept: answer, and hand it to who is there.
    Kept { hash: [u8; 16], sequence: Sequence, state: State, inboxes: Vec<Inbox>, kept: Kept },
    /// Sequences below it are reserved.
    Reserved(u64),
    /// An operator's request is done.
    Done { ticket: u64 },
    /// A device's request is done.
    Asked { seat: Seat, inbox: Inbox, request: u64 },
    /// A message is withdrawn.
    Cancelled { seat: Seat, id: String, code: u16 },
    /// These broadcasts were confirmed.
    Seen { inbox: Inbox, seen: Vec<Sequence> },
    /// A device that the application vouched for has an inbox.
    Vouched { key: Vec<u8>, inbox: Inbox },
    /// A broadcast is kept: from now on everybody gets it.
    Broadcast { hash: [u8; 16], sequence: Sequence, copy: Option<broadcast::Copy> },
}

/// What an answer of the store is for.
enum Question {
    /// A user's row, for the intake, a query or the operator.
    User(String),
    /// The next messages for an inbox.
    Messages(Inbox),
    /// Whose an inbox is.
    Owner(Inbox),
    /// Who follows an application; with the intake's number.
    Follow(u64),
    /// A credential.
    Authenticate { ticket: u64, session: SessionId },
    /// The inbox of a device that the application vouches for.
    Vouched(Vec<u8>),
    /// Its user.
    VouchedUser(Vec<u8>),
    /// A message to be withdrawn.
    Cancel { seat: Seat, id: String, sequence: Sequence },
    /// Whom a message is for that is to be withdrawn.
    Shares { seat: Seat, id: String, sequence: Sequence },
    /// Which broadcasts an inbox has confirmed.
    Seen { inbox: Inbox, broadcast: Sequence },
    /// What an operator wants to see.
    List { ticket: u64, list: List },
    /// A row that an operator's request changes.
    Operator(accounts::Change),
}

/// The hub.
pub struct Hub {
    config: HubConfig,
    /// Unix time less our time, in microseconds.
    epoch: u64,
    /// The same as it was before the wall clock was set forward, and until when it counts for what expires.
    doubted: Option<(u64, Time)>,
    rng: Box<dyn Entropy + Send>,
    outputs: VecDeque<HubOutput>,
    counters: HubCounters,

    next_sequence: u64,
    /// Sequences below it are reserved: a restart begins after it.
    reserved: u64,
    /// The same, as far as it is durable.
    durable: u64,
    next_inbox: u32,
    next_ticket: u64,
    next_question: u64,

    effects: VecDeque<(u64, Effect)>,
    questions: HashMap<u64, Question>,

    users: Users,
    /// Users whose rows are asked for.
    looked_up: HashSet<String>,
    apps: HashMap<String, App>,
    /// The user of an inbox.
    owners: Lately<Inbox, Arc<str>>,
    /// Frames that wait until it is known whose they are.
    held: HashMap<Inbox, Vec<(Seat, Frame)>>,
    held_count: usize,
    intakes: VecDeque<Intake>,
    first_intake: u64,
    /// Ids under way, with whom to answer.
    waiting: HashMap<[u8; 16], intake::Waiting>,
    known: Ids,
    queries: VecDeque<presence::Query>,
    vouching: Vouching,

    rooms: Rooms,
    presence: Presence,
    queues: Queues,
    /// Of who is there and has something to get.
    mailboxes: HashMap<Inbox, Mailbox>,
    /// Broadcasts that were confirmed, while the disk does not know.
    leaving: HashSet<(Inbox, Sequence)>,
    /// All that was logged up to it is durable, and was handed over where its receivers are.
    settled: Sequence,
    /// Receivers that a shared message still has.
    shares: HashMap<Sequence, u32>,
    /// Credentials that were revoked lately.
    revoked: HashMap<Inbox, rows::Revoked>,
    /// What a stale device missed.
    stale: HashMap<Inbox, u32>,
    broadcasts: BTreeMap<Sequence, Arc<Broadcast>>,
    tellings: VecDeque<broadcast::Telling>,
    silence: Silence,
    sweep: Sweep,
}

impl Hub {
    /// What was counted.
    pub const fn counters(&self) -> &HubCounters {
        &self.counters
    }

    /// Puts other bounds in force. What is over one goes as it would go anyway.
    pub fn reconfigure(&mut self, config: HubConfig) {
        self.config =
            HubConfig { max_known: self.config.max_known, max_cached: self.config.max_cached, ..config };
    }

    /// Whoever waits for the disk.
    pub fn pending(&self) -> usize {
        self.effects.len()
    }

    /// Messages that wait, each counted for each of its receivers.
    pub const fn waiting_count(&self) -> usize {
        self.queues.total()
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self, now: Time) -> Option<HubOutput> {
        if self.outputs.is_empty() {
            self.tell_broadcasts(now);
        }
        self.outputs.pop_front()
    }

    /// When [`Hub::handle_deadline`] is wanted.
    pub fn deadline(&self) -> Option<Time> {
        Some(self.sweep.due())
    }

    /// The deadline has come.
    pub fn handle_deadline(&mut self, now: Time) {
        self.sweep(now);
    }

    /// Every batch up to this ticket is durable.
    pub fn stored(&mut self, now: Time, through: u64) {
        self.users.settle(through);
        while let Some((ticket, _)) = self.effects.front()
            && *ticket <= through
        {
            let Some((_, effect)) = self.effects.pop_front() else { break };
            match effect {
                Effect::Kept { hash, sequence, state, inboxes, kept } => {
                    self.settled = sequence;
                    self.answer_all(hash, Answer { code: 200, state: Some(state) });
                    for inbox in inboxes {
                        self.arrived(now, inbox, sequence, &kept);
                    }
                }
                Effect::Cancelled { seat, id, code } => self.cancelled(seat, id, code),
                Effect::Seen { inbox, seen } => {
                    for sequence in seen {
                        self.leaving.remove(&(inbox, sequence));
                    }
                }
                Effect::Broadcast { hash, sequence, copy } => {
                    self.settled = sequence;
                    self.answer_all(hash, Answer { code: 200, state: Some(State::Stored) });
                    if let Some(broadcast::Copy { sequence, inboxes, kept }) = copy {
                        inboxes.into_iter().for_each(|inbox| self.arrived(now, inbox, sequence, &kept));
                    }
                    self.begin_broadcast(now, sequence);
                }
                Effect::Vouched { key, inbox } => self.vouched_at(now, &key, Some(inbox)),
                Effect::Reserved(reserved) => self.durable = reserved,
                Effect::Done { ticket } => self.event(HubEvent::Done { ticket, result: Ok(()) }),
                Effect::Asked { seat, inbox, request } => {
                    self.send(seat, inbox, Frame::Answer { request, code: 200 });
                }
            }
        }
    }

    /// The store answered.
    pub fn fetched(&mut self, now: Time, fetched: Fetched) {
        let Some(question) = self.questions.remove(&fetched.ticket) else { return };
        match question {
            Question::User(name) => self.user_found(now, &name, fetched.rows),
            Question::Messages(inbox) => self.messages_found(now, inbox, fetched.ticket, fetched.rows),
            Question::Owner(inbox) => self.owner_found(now, inbox, fetched.rows),
            Question::Follow(intake) => self.followers_found(now, intake, fetched.rows),
            Question::Authenticate { ticket, session } => {
                self.credential_found(now, ticket, session, fetched.rows);
            }
            Question::Vouched(key) => self.vouched_found(now, key, fetched.rows),
            Question::VouchedUser(key) => self.vouched_user_found(now, key, fetched.rows),
            Question::Cancel { seat, id, sequence } => self.cancel_found(seat, id, sequence, fetched.rows),
            Question::Shares { seat, id, sequence } => self.shares_found(seat, id, sequence, fetched.rows),
            Question::Seen { inbox, broadcast } => self.seen_found(now, inbox, broadcast, fetched.rows),
            Question::List { ticket, list } => self.list_found(ticket, list, fetched.rows),
            Question::Operator(change) => self.change(now, change, fetched.rows),
        }
    }

    /// Has rows of the node's own stored, in tables that no part has, in order with all else. Answers with the batch.
    pub fn also_store(&mut self, ops: Vec<Op>) -> u64 {
        self.submit(ops)
    }

    /// Whose credentials were revoked as lately as something given out on them could be good, and the epoch from which what is
    /// given out is.
    pub fn revoked(&self) -> impl Iterator<Item = (Inbox, u32)> {
        self.revoked.iter().map(|(inbox, revoked)| (*inbox, revoked.epoch))
    }

    /// The store is a copy that was made earlier: numbers that were given since are not given again, which receivers would
    /// take for the messages that had them.
    pub fn begin_anew(&mut self) {
        self.next_sequence += start::LEAP;
        self.settled = Sequence(self.next_sequence - 1);
        self.reserve();
    }

    fn submit(&mut self, ops: Vec<Op>) -> u64 {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.outputs.push_back(HubOutput::Store(Batch { ticket, ops }));
        ticket
    }

    fn persist(&mut self, ops: Vec<Op>, effect: Effect) -> u64 {
        let ticket = self.submit(ops);
        self.effects.push_back((ticket, effect));
        ticket
    }

    fn ask(&mut self, question: Question, fetch: Fetch) -> u64 {
        self.next_question += 1;
        let ticket = self.next_question;
        self.questions.insert(ticket, question);
        self.outputs.push_back(HubOutput::Fetch(Fetch { ticket, ..fetch }));
        ticket
    }

    /// Asks for one row.
    fn ask_row(&mut self, question: Question, table: Table, key: Vec<u8>) -> u64 {
        let fetch = Fetch { ticket: 0, table, wanted: Wanted::Keys(vec![key]) };
        self.ask(question, fetch)
    }

    fn send(&mut self, seat: Seat, inbox: Inbox, frame: Frame) {
        self.outputs.push_back(HubOutput::Send { seat, inbox, frame });
    }

    fn event(&mut self, event: HubEvent) {
        self.outputs.push_back(HubOutput::Event(event));
    }

    /// The next number. It is one that a restart will not give again, once what was submitted before is durable.
    fn number(&mut self) -> Sequence {
        let sequence = Sequence(self.next_sequence);
        self.next_sequence += 1;
        self.reserve();
        sequence
    }

    /// Has numbers reserved, long before they are needed.
    fn reserve(&mut self) {
        if self.next_sequence + start::RESERVE / 2 > self.reserved {
            self.reserved = self.next_sequence + start::RESERVE;
            let ops = vec![rows::put_number(start::SEQUENCE, self.reserved)];
            self.persist(ops, Effect::Reserved(self.reserved));
        }
    }

    /// Whether a receiver may see this number before anything else of it is durable: a restart must not give it to another
    /// message, which a receiver would take for this one.
    fn is_reserved(&self, sequence: Sequence) -> bool {
        sequence.0 < self.durable
    }
}
