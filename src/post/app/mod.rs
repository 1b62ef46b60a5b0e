//! An application's side of the post office: one connection, made again whenever it breaks, on which every request is said until
//! it is answered (SPEC.md 6.3, DECISIONS.md 8).
//!
//! An id from [`App::send`] is idempotent at the hub, so a message is taken once however often the connection breaks, and has
//! one end: [`AppEvent::Answered`]. There is no store: a request that is not answered when the application dies is the
//! application's to say again, with the same id. A message that comes is shown once in a life; it comes again in the next
//! one unless [`App::confirm`] was called and the office has heard of it.

mod line;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::{
    counters::counters,
    io::Conn,
    rng::Entropy,
    status::{Fault, Status},
    time::Time,
    wire::{
        app::{self, MAX_RECEIVERS, Message, State, Verb, is_id, is_name},
        post::{Delivery, Presence, Sequence},
    },
};
use line::Line;

/// Confirmed messages remembered, in case they come again: more than an office hands over without having made a confirmation
/// durable.
const REMEMBERED: usize = 4096;

/// Bounds and pauses of an application's side.
#[derive(Clone, Copy, Debug)]
pub struct AppConfig {
    /// Requests that are not answered, at the most.
    pub max_pending: usize,
    /// Their octets, at the most.
    pub max_octets: usize,
    /// Of these, said on the connection; fewer than an office allows before it answers 429.
    pub window: usize,
    /// Octets of those said; the one that reaches it is the last.
    pub window_octets: usize,
    /// Messages that came and wait to be confirmed; past it the oldest is forgotten, and shown again if it comes again.
    pub max_open: usize,
    /// How long a connection may take to be made, then its login, then an answer to a PING.
    pub timeout: Duration,
    /// After so long a silence of the office it is asked by a PING whether it is there.
    pub keepalive: Duration,
    /// First pause before connecting again; doubles up to `backoff_max`.
    pub backoff: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
    /// Pause after the office refused name and secret.
    pub refused_retry: Duration,
}

impl Default for AppConfig {
    fn default() -> AppConfig {
        AppConfig {
            max_pending: 4096,
            max_octets: 16 << 20,
            window: 1024,
            window_octets: 1 << 20,
            max_open: 4096,
            timeout: Duration::from_secs(10),
            keepalive: Duration::from_secs(30),
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            refused_retry: Duration::from_secs(300),
        }
    }
}

/// What an application's side begins with.
pub struct Open {
    /// The time it is.
    pub now: Time,
    /// The application.
    pub name: String,
    /// Its secret: visible ASCII, at most 512 characters.
    pub secret: String,
    /// Draws the prefix of ids of this life, which two lives must not share, and parts of pauses.
    pub rng: Box<dyn Entropy + Send>,
}

/// What an application's side wants done.
#[derive(Debug)]
pub enum AppOutput {
    /// Open a stream to the office, under this name.
    Connect {
        /// Has [`Conn::OURS`] set.
        conn: Conn,
    },
    /// Send the next octets.
    Send {
        /// Where.
        conn: Conn,
        /// What.
        octets: Vec<u8>,
    },
    /// Send what is queued, then close.
    Close {
        /// Which.
        conn: Conn,
    },
    /// Tell the application.
    Event(AppEvent),
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AppEvent {
    /// Logged in. What is not answered is being said again.
    Up,
    /// The connection is lost, or could not be made; it is tried again by itself.
    Down(Fault),
    /// The office does not know the name, or its secret is another; tried again after a long pause.
    Refused {
        /// What the office said.
        reason: String,
    },
    /// The end of a request.
    Answered {
        /// As [`App::send`], [`App::query`] or [`App::cancel`] were given it, or gave it.
        id: String,
        /// What it was.
        verb: Verb,
        /// 200, or why not (docs/post-office.md). After 507 a message can be sent again, with the same id.
        code: u16,
        /// What the office did with a message that it took.
        state: Option<State>,
        /// Why, for people.
        reason: String,
    },
    /// A message that came. It comes again in the next life unless it is confirmed.
    Message(Delivery),
    /// Where a user is, one event for each that was asked for; [`AppEvent::Answered`] follows the last.
    Presence {
        /// The query's.
        id: String,
        /// Who, whether, and since when.
        presence: Presence,
    },
    /// There is room for requests again.
    Writable,
}

counters! {
    /// What an application's side counted.
    pub struct AppCounters {
        logins: "times logged in",
        logins_refused: "logins refused",
        lost: "connections lost, or not made",
        asked: "requests taken",
        full: "requests not taken, because too many are not answered",
        said: "requests said, again included",
        said_again: "of those, said before on a connection that broke",
        answered: "requests answered with 200",
        refused: "requests answered with another code",
        shown: "messages shown",
        again: "messages that came again after they were shown",
        forgotten: "messages that wait to be confirmed and are not known any more, because too many do",
        confirmed: "messages confirmed",
        confirmed_again: "confirmations said again",
        pings: "times asked whether the office is there",
        unexpected: "answers to what was not asked",
    }
}

/// A request that is not answered.
struct Asked {
    id: String,
    verb: Verb,
    octets: Vec<u8>,
    /// On this connection or an earlier one.
    said: bool,
}

/// An application's side, without socket or clock.
pub struct App {
    config: AppConfig,
    name: String,
    secret: String,
    rng: Box<dyn Entropy + Send>,
    counters: AppCounters,
    outputs: VecDeque<AppOutput>,

    line: Option<Line>,
    /// A connection that was asked for and is not there yet, and how long it may take.
    connecting: Option<(Conn, Time)>,
    next_conn: u32,
    /// When to connect again; `None` once closed.
    retry: Option<Time>,
    failures: u32,

    prefix: u64,
    next_id: u64,
    /// In the order in which they were asked.
    asked: BTreeMap<u64, Asked>,
    next_asked: u64,
    /// All before it are said on this connection.
    next_said: u64,
    octets: usize,
    was_full: bool,
    /// Ids of messages and queries that are not answered.
    named: BTreeSet<String>,
    /// Ids of messages that are to be withdrawn.
    cancelled: BTreeSet<String>,

    /// Shown in this life and not confirmed.
    open: BTreeSet<Sequence>,
    confirmed: BTreeSet<Sequence>,
    /// Confirmed, and the office has not said that it heard.
    confirming: BTreeSet<Sequence>,
    /// Of these, not said on this connection.
    unsaid: BTreeSet<Sequence>,
}

impl App {
    /// An application's side that connects at its first deadline. Fails with [`Status::Config`] when the name or the secret
    /// cannot be one.
    pub fn new(config: AppConfig, open: Open) -> Result<App, Fault> {
        let Open { now, name, secret, mut rng } = open;
        if !is_name(&name) {
            let detail =
                "an application's name has 1 to 64 visible ASCII characters without `,`, `*` and `:`";
            return Err(Fault::new(Status::Config, detail));
        }
        if !(1..=512).contains(&secret.len()) || !secret.bytes().all(|octet| octet.is_ascii_graphic()) {
            let detail = "an application's secret has 1 to 512 visible ASCII characters";
            return Err(Fault::new(Status::Config, detail));
        }
        let prefix = rng.next_u64();
        Ok(App {
            config,
            name,
            secret,
            rng,
            counters: AppCounters::default(),
            outputs: VecDeque::new(),
            line: None,
            connecting: None,
            next_conn: 0,
            retry: Some(now),
            failures: 0,
            prefix,
            next_id: 0,
            asked: BTreeMap::new(),
            next_asked: 0,
            next_said: 0,
            octets: 0,
            was_full: false,
            named: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            open: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            confirming: BTreeSet::new(),
            unsaid: BTreeSet::new(),
        })
    }

    /// What was counted.
    pub const fn counters(&self) -> &AppCounters {
        &self.counters
    }

    /// Whether the office knows us on this connection.
    pub fn is_up(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.active)
    }

    /// Requests and confirmations that are not answered. With none, nothing is lost by [`App::close`].
    pub fn pending(&self) -> usize {
        self.asked.len() + self.confirming.len()
    }

    /// Sends a message, under its id, or under one that is made if it is empty; [`AppEvent::Answered`] tells the end. Messages
    /// are said in the order in which they were given.
    ///
    /// Fails with [`Status::Full`] when too many requests are not answered ([`AppEvent::Writable`] follows), with
    /// [`Status::Invalid`] when the message cannot be, with [`Status::State`] while the message by that id is not answered.
    pub fn send(&mut self, mut message: Message) -> Result<String, Fault> {
        if message.id.is_empty() {
            message.id = self.make_id();
        }
        message
            .check()
            .map_err(|why| Fault::new(Status::Invalid, format!("the message cannot be sent: {why}")))?;
        self.ask(Verb::Send, message.id.clone(), app::send(&message))?;
        Ok(message.id)
    }

    /// Asks where users are, by their names: [`AppEvent::Presence`] for each, and then [`AppEvent::Answered`].
    ///
    /// Fails with [`Status::Full`] as [`App::send`], with [`Status::Invalid`] unless there are 1 to 1,000 names.
    pub fn query(&mut self, users: &[String]) -> Result<String, Fault> {
        if !(1..=MAX_RECEIVERS).contains(&users.len()) || !users.iter().all(|name| is_name(name)) {
            return Err(Fault::new(Status::Invalid, "a query names 1 to 1000 users"));
        }
        let id = self.make_id();
        self.ask(Verb::Query, id.clone(), app::query(&id, users))?;
        Ok(id)
    }

    /// Withdraws a message, once it is answered: [`AppEvent::Answered`] tells with 200 that it reached nobody, with 409 that
    /// somebody has it, with 404 that it is gone. If the connection breaks before the answer, 404 may also mean that it was
    /// withdrawn.
    ///
    /// Fails with [`Status::Full`] as [`App::send`], with [`Status::Invalid`] when that is no id, with [`Status::State`] while
    /// an earlier one of the same id is not answered.
    pub fn cancel(&mut self, id: &str) -> Result<(), Fault> {
        if !is_id(id) {
            return Err(Fault::new(Status::Invalid, "an id has 1 to 64 visible ASCII characters"));
        }
        self.ask(Verb::Cancel, id.to_owned(), app::cancel(id))
    }

    /// A message is dealt with: in this life it is not shown again, and in the next one neither, once the office has heard of it.
    /// Fails with [`Status::NotFound`] for one that is not shown.
    pub fn confirm(&mut self, sequence: Sequence) -> Result<(), Fault> {
        if !self.open.remove(&sequence) {
            return Err(Fault::new(Status::NotFound, "no message by that number waits to be confirmed"));
        }
        self.counters.confirmed += 1;
        self.confirmed.insert(sequence);
        if self.confirmed.len() > REMEMBERED {
            self.confirmed.pop_first();
        }
        self.say_confirmed(sequence);
        self.pump();
        Ok(())
    }

    /// Ends the connection, when what was said is sent, and stays away. What is not answered never will be.
    pub fn close(&mut self) {
        self.retry = None;
        let pending = self.connecting.take().map(|(conn, _)| conn);
        let conn = self.drop_line().or(pending);
        self.outputs.extend(conn.map(|conn| AppOutput::Close { conn }));
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<AppOutput> {
        self.outputs.pop_front()
    }

    /// The network is another, or back: a pause ends, and an office that was there shows whether it still is.
    pub fn network_changed(&mut self, now: Time) {
        self.failures = 0;
        if let Some(retry) = &mut self.retry {
            *retry = now;
        }
        if let Some(line) = self.line.as_mut().filter(|line| line.active && !line.pinged) {
            line.due = now;
        }
    }

    /// When [`App::handle_deadline`] is wanted; `None` once closed.
    pub fn deadline(&self) -> Option<Time> {
        match (&self.line, self.connecting) {
            (Some(line), _) => Some(line.due),
            (None, Some((_, due))) => Some(due),
            (None, None) => self.retry,
        }
    }

    fn make_id(&mut self) -> String {
        self.next_id += 1;
        format!("{:016x}-{}", self.prefix, self.next_id)
    }

    fn ask(&mut self, verb: Verb, id: String, octets: Vec<u8>) -> Result<(), Fault> {
        if self.retry.is_none() {
            return Err(Fault::new(Status::State, "the application's connection was closed for good"));
        }
        let names = if verb == Verb::Cancel { &mut self.cancelled } else { &mut self.named };
        if names.contains(&id) {
            return Err(Fault::new(Status::State, "the same is asked under that id, and not answered yet"));
        }
        if self.asked.len() >= self.config.max_pending || self.octets + octets.len() > self.config.max_octets
        {
            self.was_full = true;
            self.counters.full += 1;
            let detail =
                format!("{} requests are not answered: wait until the office answers some", self.asked.len());
            return Err(Fault::new(Status::Full, detail));
        }
        names.insert(id.clone());
        self.octets += octets.len();
        self.counters.asked += 1;
        self.asked.insert(self.next_asked, Asked { id, verb, octets, said: false });
        self.next_asked += 1;
        self.pump();
        Ok(())
    }

    /// The office answered.
    fn answered(&mut self, number: u64, code: u16, state: Option<State>, reason: String) {
        let Some(Asked { id, verb, octets, .. }) = self.asked.remove(&number) else { return };
        self.octets -= octets.len();
        match verb {
            Verb::Cancel => self.cancelled.remove(&id),
            _ => self.named.remove(&id),
        };
        match code {
            200 => self.counters.answered += 1,
            _ => self.counters.refused += 1,
        }
        self.event(AppEvent::Answered { id, verb, code, state, reason });
        if std::mem::take(&mut self.was_full) {
            self.event(AppEvent::Writable);
        }
    }

    fn delivered(&mut self, delivery: Delivery) {
        let sequence = delivery.sequence;
        if self.open.contains(&sequence) {
            self.counters.again += 1;
        } else if self.confirmed.contains(&sequence) {
            self.counters.again += 1;
            // The office forgot what it heard. If it has not heard yet, it is about to.
            if !self.confirming.contains(&sequence) {
                self.counters.confirmed_again += 1;
                self.say_confirmed(sequence);
            }
        } else {
            self.open.insert(sequence);
            if self.open.len() > self.config.max_open {
                self.counters.forgotten += 1;
                self.open.pop_first();
            }
            self.counters.shown += 1;
            self.event(AppEvent::Message(delivery));
        }
    }

    fn say_confirmed(&mut self, sequence: Sequence) {
        self.confirming.insert(sequence);
        self.unsaid.insert(sequence);
        // An office that never answers: if it hands the oldest over again, that is confirmed again.
        if self.confirming.len() > REMEMBERED
            && let Some(oldest) = self.confirming.pop_first()
        {
            self.unsaid.remove(&oldest);
        }
    }

    fn event(&mut self, event: AppEvent) {
        self.outputs.push_back(AppOutput::Event(event));
    }
}
