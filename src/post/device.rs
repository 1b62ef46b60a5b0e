//! A device's side of the post office: what it gives is kept until the office has it, what it gets is shown until it is
//! confirmed. Both survive a power cut (STYLE.md 7, DECISIONS.md 5).
//!
//! A number from [`Device::put`] has one end: accepted, refused or expired. A message is shown once in a life of the device,
//! again in the next one if it was not confirmed, and never after [`DeviceEvent::Confirmed`].

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::{
    counters::counters,
    rng::Entropy,
    status::{Fault, Status},
    store::{Batch, Op, Store, Table},
    time::Time,
    wire::{
        app::{Kind, MAX_BODY, MAX_RECEIVERS, MAX_TTL, State, To, is_name},
        post::{Delivery, Frame, Presence, Put, Sequence, is_content_type},
    },
};

const OUTBOX: Table = Table::log("outbox");
const OUTCOME: Table = Table::log("outcome");
const CONFIRMED: Table = Table::log("confirmed");
const SETTING: Table = Table::rows("device");
/// The first number of the next start.
const NUMBER: &[u8] = b"number";
/// The highest sequence that was shown.
const SHOWN: &[u8] = b"shown";
/// Numbers reserved at a time, so that not every message writes the counter.
const RESERVE: u64 = 1024;
/// How long the office is left alone that has no room.
const PAUSE: Duration = Duration::from_secs(5);
/// Confirmations remembered: more than an office hands over without having made one durable.
const REMEMBERED: usize = 4096;
/// Messages shown and not confirmed: many times what an office that keeps to its window hands over.
const MAX_OPEN: usize = 4096;

/// Bounds of a device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceConfig {
    /// Messages in the outbox.
    pub max_messages: usize,
    /// Octets in the outbox.
    pub max_octets: usize,
    /// Messages given to the office that it has not answered.
    pub window: usize,
}

impl Default for DeviceConfig {
    fn default() -> DeviceConfig {
        DeviceConfig { max_messages: 1000, max_octets: 4 << 20, window: 32 }
    }
}

/// What a device is opened with.
pub struct Open {
    /// The time it is.
    pub now: Time,
    /// The same in Unix seconds.
    pub unix: u64,
    /// Draws where numbers begin: a device that lost its store does not use old ones again.
    pub rng: Box<dyn Entropy + Send>,
}

/// What a device wants done.
#[derive(Debug)]
pub enum DeviceOutput {
    /// Make this durable, then say so.
    Store(Batch),
    /// Say this to the office.
    Send(Frame),
    /// Tell the application.
    Event(DeviceEvent),
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeviceEvent {
    /// A message of ours is durable here: it goes out once, whatever happens.
    Stored {
        /// As [`Device::put`] numbered it.
        number: u64,
    },
    /// The office has it. It is durable there, unless it was not to be kept.
    Accepted {
        /// Which.
        number: u64,
        /// What the office did with it.
        state: State,
    },
    /// The office refuses it.
    Refused {
        /// Which.
        number: u64,
        /// Why (SPEC.md 6.3): 403 not allowed, 404 no such receiver, 409 the number was used before.
        code: u16,
    },
    /// Its time was over before the office had it.
    Expired {
        /// Which.
        number: u64,
    },
    /// A message for us. It comes again in the next life unless it is confirmed.
    Message(Delivery),
    /// A confirmation is durable: the message is never shown again.
    Confirmed {
        /// Which.
        sequence: Sequence,
    },
    /// The office knows us: what waits follows.
    Welcome {
        /// Messages that are gone because they were too many or waited too long.
        missed: u32,
        /// Messages that follow.
        waiting: u32,
    },
    /// What became of a request.
    Answer {
        /// The request's.
        request: u64,
        /// 200, or why not.
        code: u16,
    },
    /// Where users are.
    Presence {
        /// The request's.
        request: u64,
        /// In the order asked.
        users: Vec<Presence>,
    },
    /// There is room in the outbox again.
    Writable,
}

counters! {
    /// What a device counted.
    pub struct DeviceCounters {
        put: "messages taken into the outbox",
        full: "messages not taken, because the outbox is full",
        sent: "messages given to the office, again included",
        accepted: "messages that the office has",
        refused: "messages that the office refused",
        expired: "messages whose time was over",
        shown: "messages shown",
        again: "messages that came again while they were shown",
        too_many: "messages not shown, because too many wait for their confirmation: they come again at a later login",
        confirmed: "messages confirmed",
        confirmed_again: "confirmations said again",
    }
}

struct Letter {
    frame: Put,
    /// In Unix seconds.
    expires: u64,
    stored: bool,
    /// Given to the office in this session.
    given: bool,
    /// Its end waits for the disk.
    ended: bool,
}

#[derive(Clone, Copy)]
enum Outcome {
    Accepted(State),
    Refused(u16),
    Expired,
}

enum Effect {
    Stored(u64),
    Ended(u64, Outcome),
    Show(Delivery),
    Confirmed(Sequence),
}

/// A device's side, without socket, clock or file.
pub struct Device {
    config: DeviceConfig,
    epoch: u64,
    outputs: VecDeque<DeviceOutput>,
    effects: VecDeque<(u64, Effect)>,
    next_ticket: u64,
    next_number: u64,
    reserved: u64,
    next_request: u64,
    letters: BTreeMap<u64, Letter>,
    /// When each that has no end yet expires, in Unix seconds, and its number.
    expiring: BTreeSet<(u64, u64)>,
    octets: usize,
    was_full: bool,
    up: bool,
    /// The office has no room before this.
    paused: Option<Time>,
    /// Shown in this life, or about to be, and not confirmed.
    open: BTreeSet<Sequence>,
    /// The highest that was shown, in any life.
    shown: Sequence,
    confirmed: BTreeSet<Sequence>,
    counters: DeviceCounters,
}

impl Device {
    /// A device on what its store holds. Ends that nobody was told of are told now.
    pub fn open(config: DeviceConfig, mut open: Open, store: &dyn Store) -> Result<Device, Fault> {
        // Below 2^63, with room for a trillion numbers.
        let first = (open.rng.next_u64() >> 2) & !0xff_ffff_ffff | 1;
        let mut device = Device {
            config,
            epoch: (open.unix * 1_000_000).saturating_sub(open.now.as_micros()),
            outputs: VecDeque::new(),
            effects: VecDeque::new(),
            next_ticket: 0,
            next_number: first,
            reserved: 0,
            next_request: 0,
            letters: BTreeMap::new(),
            expiring: BTreeSet::new(),
            octets: 0,
            was_full: false,
            up: false,
            paused: None,
            open: BTreeSet::new(),
            shown: Sequence(0),
            confirmed: BTreeSet::new(),
            counters: DeviceCounters::default(),
        };
        device.read(store)?;
        Ok(device)
    }

    fn read(&mut self, store: &dyn Store) -> Result<(), Fault> {
        let number = |octets: &[u8]| octets.first_chunk().map(|octets| u64::from_be_bytes(*octets));
        let corrupt = || Fault::new(Status::StoreCorrupt, "the outbox has a row that cannot be read");
        let mut damaged = false;
        store.load(SETTING, &mut |key, value| match (key, number(value)) {
            (NUMBER, Some(next)) => self.next_number = next,
            (SHOWN, Some(shown)) => self.shown = Sequence(shown),
            _ => damaged = true,
        })?;
        self.reserved = self.next_number;
        store.load(OUTBOX, &mut |key, value| {
            let frame = value.get(8..).and_then(Frame::decode);
            let (Some(number), Some(expires), Some(Frame::Put(frame))) = (number(key), number(value), frame)
            else {
                damaged = true;
                return;
            };
            self.octets += size(&frame);
            let letter = Letter { frame, expires, stored: true, given: false, ended: false };
            self.letters.insert(number, letter);
            self.expiring.insert((expires, number));
        })?;
        let mut ended = Vec::new();
        store.load(OUTCOME, &mut |key, value| match (number(key), read_outcome(value)) {
            (Some(number), Some(outcome)) => ended.push((number, outcome)),
            _ => damaged = true,
        })?;
        ended.into_iter().for_each(|(number, outcome)| self.tell_end(number, outcome));
        store.load(CONFIRMED, &mut |key, _| match number(key) {
            Some(sequence) => drop(self.confirmed.insert(Sequence(sequence))),
            None => damaged = true,
        })?;
        if damaged { Err(corrupt()) } else { Ok(()) }
    }

    /// What was counted.
    pub const fn counters(&self) -> &DeviceCounters {
        &self.counters
    }

    /// Messages in the outbox.
    pub fn waiting(&self) -> usize {
        self.letters.len()
    }

    /// Has rows of the node's own stored, in tables that no part has, in order with all else.
    pub fn also_store(&mut self, ops: Vec<Op>) {
        self.submit(ops);
    }

    /// Takes a message into the outbox: [`DeviceEvent::Stored`] says that it is durable.
    ///
    /// Fails with [`Status::Full`] when the outbox is ([`DeviceEvent::Writable`] follows), with [`Status::Invalid`] when
    /// the message cannot be.
    pub fn put(
        &mut self,
        now: Time,
        to: To,
        store: bool,
        ttl: u32,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<u64, Fault> {
        let kind = match &to {
            To::Named(named) if named.len() == 1 => Kind::One,
            To::Named(named) if (2..=MAX_RECEIVERS).contains(&named.len()) => Kind::Directed,
            _ => return Err(Fault::new(Status::Invalid, "a message has 1 to 1000 receivers")),
        };
        if body.len() > MAX_BODY || !(1..=MAX_TTL).contains(&ttl) || !is_content_type(content_type) {
            let detail = "a body has at most 65536 octets, a time to live 1 s to 30 days, a content type 128 printable \
                          ASCII characters";
            return Err(Fault::new(Status::Invalid, detail));
        }
        let number = self.next_number;
        let frame = Put { number, to, kind, store, ttl, content_type: content_type.to_owned(), body };
        if self.letters.len() >= self.config.max_messages
            || self.octets + size(&frame) > self.config.max_octets
        {
            self.was_full = true;
            self.counters.full += 1;
            let detail =
                format!("the outbox holds {} messages: wait until the office has some", self.letters.len());
            return Err(Fault::new(Status::Full, detail));
        }
        self.next_number += 1;
        let mut ops = Vec::new();
        if self.next_number > self.reserved {
            self.reserved = self.next_number + RESERVE;
            ops.push(setting(NUMBER, self.reserved));
        }
        let expires = self.unix(now) + u64::from(ttl);
        ops.push(put_letter(number, expires, &frame));
        self.octets += size(&frame);
        self.counters.put += 1;
        let letter = Letter { frame, expires, stored: false, given: false, ended: false };
        self.letters.insert(number, letter);
        self.expiring.insert((expires, number));
        self.persist(ops, Effect::Stored(number));
        Ok(number)
    }

    /// Whether a message is durable here, or has had its end since.
    pub fn is_stored(&self, number: u64) -> bool {
        self.letters.get(&number).is_none_or(|letter| letter.stored)
    }

    /// The application has dealt with a message: [`DeviceEvent::Confirmed`] says that it is never shown again. Fails with
    /// [`Status::NotFound`] for one that is not shown.
    pub fn confirm(&mut self, sequence: Sequence) -> Result<(), Fault> {
        if !self.open.remove(&sequence) {
            return Err(Fault::new(Status::NotFound, "no message by that number waits to be confirmed"));
        }
        self.confirmed.insert(sequence);
        let mut ops =
            vec![Op::Put { table: CONFIRMED, key: sequence.0.to_be_bytes().to_vec(), value: Vec::new() }];
        if self.confirmed.len() > REMEMBERED
            && let Some(oldest) = self.confirmed.pop_first()
        {
            ops.push(Op::Delete { table: CONFIRMED, key: oldest.0.to_be_bytes().to_vec() });
        }
        self.counters.confirmed += 1;
        self.persist(ops, Effect::Confirmed(sequence));
        Ok(())
    }

    /// Follows an application, or no more. Answers with the number of the [`DeviceEvent::Answer`]. Fails with
    /// [`Status::Invalid`] for what cannot be a name.
    pub fn subscribe(&mut self, app: &str, on: bool) -> Result<u64, Fault> {
        check_names(&[app])?;
        let request = self.request()?;
        self.say(Frame::Subscribe { request, app: app.to_owned(), on });
        Ok(request)
    }

    /// Has messages kept while none of the user's devices is there, or not.
    pub fn keep(&mut self, keep: bool) -> Result<u64, Fault> {
        let request = self.request()?;
        self.say(Frame::Setting { request, keep });
        Ok(request)
    }

    /// Asks where users are: [`DeviceEvent::Presence`] answers. Fails with [`Status::Invalid`] for what cannot be names, and
    /// for none or more than a thousand.
    pub fn query(&mut self, users: Vec<String>) -> Result<u64, Fault> {
        check_names(&users)?;
        let request = self.request()?;
        self.say(Frame::Query { request, users });
        Ok(request)
    }

    /// The link is there: what waits in the outbox is given again from its beginning.
    pub fn up(&mut self, now: Time) {
        self.up = true;
        self.paused = None;
        self.letters.values_mut().for_each(|letter| letter.given = false);
        self.pump(now);
    }

    /// The link is lost.
    pub const fn down(&mut self) {
        self.up = false;
    }

    /// The office says something.
    pub fn frame(&mut self, now: Time, frame: Frame) {
        match frame {
            Frame::Deliver(delivery) => self.delivered(delivery),
            Frame::PutAnswer { number, code, state } => self.answered(now, number, code, state),
            Frame::Welcome { missed, waiting } => self.event(DeviceEvent::Welcome { missed, waiting }),
            Frame::Answer { request, code } => self.event(DeviceEvent::Answer { request, code }),
            Frame::Presence { request, users } => self.event(DeviceEvent::Presence { request, users }),
            // What only a device says.
            Frame::Confirm(_)
            | Frame::Put(_)
            | Frame::Subscribe { .. }
            | Frame::Setting { .. }
            | Frame::Query { .. } => {}
        }
    }

    /// Every batch up to this ticket is durable.
    pub fn stored(&mut self, now: Time, through: u64) {
        while self.effects.front().is_some_and(|(ticket, _)| *ticket <= through) {
            let Some((_, effect)) = self.effects.pop_front() else { break };
            match effect {
                Effect::Stored(number) => {
                    if let Some(letter) = self.letters.get_mut(&number) {
                        letter.stored = true;
                    }
                    self.event(DeviceEvent::Stored { number });
                }
                Effect::Ended(number, outcome) => {
                    if let Some(letter) = self.letters.remove(&number) {
                        self.octets -= size(&letter.frame);
                    }
                    self.tell_end(number, outcome);
                    if std::mem::take(&mut self.was_full) {
                        self.event(DeviceEvent::Writable);
                    }
                }
                Effect::Show(delivery) => {
                    self.counters.shown += 1;
                    self.event(DeviceEvent::Message(delivery));
                }
                Effect::Confirmed(sequence) => {
                    self.say(Frame::Confirm(vec![sequence]));
                    self.event(DeviceEvent::Confirmed { sequence });
                }
            }
        }
        self.pump(now);
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<DeviceOutput> {
        self.outputs.pop_front()
    }

    /// The application was told of a message's end: no later life tells it again, once that is durable.
    pub fn told(&mut self, number: u64) {
        let op = Op::Delete { table: OUTCOME, key: number.to_be_bytes().to_vec() };
        self.submit(vec![op]);
    }

    /// The wall clock was set. What is left of each message's time stays what it was: a clock that begins in 1970 and is
    /// put right later makes none of them late.
    pub fn set_unix(&mut self, now: Time, unix: u64) {
        let before = self.unix(now);
        self.epoch = unix.saturating_mul(1_000_000).saturating_sub(now.as_micros());
        let moved = |expires: u64| match unix.checked_sub(before) {
            Some(forward) => expires.saturating_add(forward),
            None => expires.saturating_sub(before - unix),
        };
        self.expiring = self.expiring.iter().map(|(expires, number)| (moved(*expires), *number)).collect();
        let mut ops = Vec::new();
        for (number, letter) in &mut self.letters {
            letter.expires = moved(letter.expires);
            // The row of one that has ended is about to go.
            if !letter.ended {
                ops.push(put_letter(*number, letter.expires, &letter.frame));
            }
        }
        if !ops.is_empty() {
            self.submit(ops);
        }
    }

    /// When [`Device::handle_deadline`] is wanted.
    pub fn deadline(&self, now: Time) -> Option<Time> {
        let expiry = self.expiring.first().map(|(expires, _)| {
            let micros = expires.saturating_mul(1_000_000).saturating_sub(self.epoch);
            Time::from_micros(micros).max(now)
        });
        [expiry, self.paused].into_iter().flatten().min()
    }

    /// The deadline has come.
    pub fn handle_deadline(&mut self, now: Time) {
        let unix = self.unix(now);
        while let Some(&(expires, number)) = self.expiring.first()
            && expires <= unix
        {
            self.end(number, Outcome::Expired);
        }
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
            self.pump(now);
        }
    }

    fn delivered(&mut self, delivery: Delivery) {
        let sequence = delivery.sequence;
        if self.confirmed.contains(&sequence) {
            self.counters.confirmed_again += 1;
            // If it is not durable yet, it is said once it is.
            let waits = |(_, effect): &(u64, Effect)| matches!(effect, Effect::Confirmed(waiting) if *waiting == sequence);
            if !self.effects.iter().any(waits) {
                self.say(Frame::Confirm(vec![sequence]));
            }
            return;
        }
        if self.open.contains(&sequence) {
            self.counters.again += 1;
            return;
        }
        if self.open.len() >= MAX_OPEN {
            self.counters.too_many += 1;
            return;
        }
        self.open.insert(sequence);
        let redelivered = sequence <= self.shown;
        self.shown = self.shown.max(sequence);
        let ops = if redelivered { Vec::new() } else { vec![setting(SHOWN, sequence.0)] };
        self.persist(ops, Effect::Show(Delivery { redelivered, ..delivery }));
    }

    fn answered(&mut self, now: Time, number: u64, code: u16, state: State) {
        match code {
            200 => self.end(number, Outcome::Accepted(state)),
            // No room there for now.
            429 | 507 => {
                if let Some(letter) = self.letters.get_mut(&number) {
                    letter.given = false;
                    self.paused = Some(now + PAUSE);
                }
            }
            code => self.end(number, Outcome::Refused(code)),
        }
        self.pump(now);
    }

    fn end(&mut self, number: u64, outcome: Outcome) {
        let Some(letter) = self.letters.get_mut(&number).filter(|letter| !letter.ended) else { return };
        letter.ended = true;
        self.expiring.remove(&(letter.expires, number));
        match outcome {
            Outcome::Accepted(_) => self.counters.accepted += 1,
            Outcome::Refused(_) => self.counters.refused += 1,
            Outcome::Expired => self.counters.expired += 1,
        }
        let key = || number.to_be_bytes().to_vec();
        let ops = vec![
            Op::Delete { table: OUTBOX, key: key() },
            Op::Put { table: OUTCOME, key: key(), value: write_outcome(outcome) },
        ];
        self.persist(ops, Effect::Ended(number, outcome));
    }

    fn tell_end(&mut self, number: u64, outcome: Outcome) {
        self.event(match outcome {
            Outcome::Accepted(state) => DeviceEvent::Accepted { number, state },
            Outcome::Refused(code) => DeviceEvent::Refused { number, code },
            Outcome::Expired => DeviceEvent::Expired { number },
        });
    }

    /// Gives the office what is durable, in order, within the window.
    fn pump(&mut self, now: Time) {
        if !self.up || self.paused.is_some_and(|until| now < until) {
            return;
        }
        let waiting = self.letters.values().filter(|letter| letter.given && !letter.ended).count();
        let unix = self.unix(now);
        let room = self.config.window.saturating_sub(waiting);
        let next = self.letters.values_mut().take_while(|letter| letter.stored);
        let next = next.filter(|letter| !letter.given && !letter.ended && letter.expires > unix).take(room);
        for letter in next {
            letter.given = true;
            self.counters.sent += 1;
            // What is left of its time counts from when it was put, not from when it is given.
            let ttl = (letter.expires - unix).min(u64::from(letter.frame.ttl)) as u32;
            self.outputs.push_back(DeviceOutput::Send(Frame::Put(Put { ttl, ..letter.frame.clone() })));
        }
    }

    fn request(&mut self) -> Result<u64, Fault> {
        if !self.up {
            return Err(Fault::new(Status::State, "there is no link: ask again when it is there"));
        }
        self.next_request += 1;
        Ok(self.next_request)
    }

    fn say(&mut self, frame: Frame) {
        // Without a link the office says everything again at the next login.
        if self.up {
            self.outputs.push_back(DeviceOutput::Send(frame));
        }
    }

    fn event(&mut self, event: DeviceEvent) {
        self.outputs.push_back(DeviceOutput::Event(event));
    }

    fn unix(&self, now: Time) -> u64 {
        (self.epoch + now.as_micros()) / 1_000_000
    }

    fn submit(&mut self, ops: Vec<Op>) -> u64 {
        self.next_ticket += 1;
        self.outputs.push_back(DeviceOutput::Store(Batch { ticket: self.next_ticket, ops }));
        self.next_ticket
    }

    fn persist(&mut self, ops: Vec<Op>, effect: Effect) {
        let ticket = self.submit(ops);
        self.effects.push_back((ticket, effect));
    }
}

/// What the office would not be able to read is never said to it.
fn check_names(names: &[impl AsRef<str>]) -> Result<(), Fault> {
    match (1..=MAX_RECEIVERS).contains(&names.len()) && names.iter().all(|name| is_name(name.as_ref())) {
        true => Ok(()),
        false => Err(Fault::new(
            Status::Invalid,
            "1 to 1000 names are wanted, each of 1 to 64 visible ASCII characters without a comma, a colon or an asterisk",
        )),
    }
}

fn setting(name: &[u8], number: u64) -> Op {
    Op::Put { table: SETTING, key: name.to_vec(), value: number.to_be_bytes().to_vec() }
}

/// What a message counts against the outbox's bound.
fn size(put: &Put) -> usize {
    let receivers = match &put.to {
        To::Named(named) => named.len() * 68,
        To::All => 0,
    };
    put.body.len() + put.content_type.len() + receivers + 64
}

fn write_outcome(outcome: Outcome) -> Vec<u8> {
    let (kind, code) = match outcome {
        Outcome::Accepted(State::Stored) => (0, 0),
        Outcome::Accepted(State::Queued) => (0, 1),
        Outcome::Accepted(State::Routed) => (0, 2),
        Outcome::Accepted(State::Dropped) => (0, 3),
        Outcome::Refused(code) => (1, code),
        Outcome::Expired => (2, 0),
    };
    [&[kind][..], &code.to_be_bytes()].concat()
}

fn read_outcome(octets: &[u8]) -> Option<Outcome> {
    let [kind, high, low] = *octets else { return None };
    let code = u16::from_be_bytes([high, low]);
    Some(match (kind, code) {
        (0, 0) => Outcome::Accepted(State::Stored),
        (0, 1) => Outcome::Accepted(State::Queued),
        (0, 2) => Outcome::Accepted(State::Routed),
        (0, 3) => Outcome::Accepted(State::Dropped),
        (1, code) => Outcome::Refused(code),
        (2, _) => Outcome::Expired,
        _ => return None,
    })
}

fn put_letter(number: u64, expires: u64, frame: &Put) -> Op {
    let value = [&expires.to_be_bytes()[..], &Frame::Put(frame.clone()).encode()].concat();
    Op::Put { table: OUTBOX, key: number.to_be_bytes().to_vec(), value }
}

#[cfg(test)]
mod tests;
