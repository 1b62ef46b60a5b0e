//! A device's end: one session with one server, got, kept and got again.

mod asking;
mod pace;
mod rekey;
mod sleep;
mod up;

use std::{collections::VecDeque, time::Duration};

pub use self::pace::Silences;
use self::{asking::Asking, pace::Pace, sleep::Sleep, up::Up};
use super::{Closing, Why, backoff::Backoff};
use crate::{
    counters::counters,
    rng::Entropy,
    status::{Fault, Status},
    time::Time,
    wire::link::{Datagram, Refusal, TICKET},
};

/// What a device was given at enrolment, and what it would like.
#[derive(Clone)]
pub struct ClientConfig {
    /// The server's static public key.
    pub server_key: [u8; 32],
    /// The one after it, if it was announced.
    pub next_key: Option<[u8; 32]>,
    /// The public name of the credential.
    pub session_id: [u8; 16],
    /// Its secret.
    pub secret: [u8; 32],
    /// Heartbeat interval that is wished, in seconds.
    pub interval: u16,
    /// The longest that is looked for, in seconds, to 1800; none where it is not above `interval`.
    pub longest: u16,
    /// From an earlier session on the same network, [`Event::Silences`].
    pub silences: Silences,
    /// Whether what is sent is paid for, until [`Client::set_metered`] says otherwise.
    pub metered: bool,
    /// From an earlier session, [`Event::Resumption`].
    pub resumption: Option<Resumption>,
    /// After how long keys are changed; a day.
    pub rekey_after: Duration,
}

impl ClientConfig {
    /// A device that asks every 30 s, and looks for no longer interval.
    pub fn new(server_key: [u8; 32], session_id: [u8; 16], secret: [u8; 32]) -> ClientConfig {
        ClientConfig {
            server_key,
            next_key: None,
            session_id,
            secret,
            interval: 30,
            longest: 0,
            silences: Silences::default(),
            metered: false,
            resumption: None,
            rekey_after: Duration::from_secs(86_400),
        }
    }
}

/// What a resume needs. Secret, and good for seven days at most.
#[derive(Clone, PartialEq, Eq)]
pub struct Resumption {
    /// The server's, sealed.
    pub ticket: [u8; TICKET],
    /// Its secret.
    pub secret: [u8; 32],
}

impl std::fmt::Debug for Resumption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resumption(..)")
    }
}

/// What a client wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send a datagram to the server.
    Send(Vec<u8>),
    /// Send a datagram to the same address of the server from another port, so that it keeps nothing between open for the
    /// first. Where there is none, say [`Client::only_port`].
    SendBeside(Vec<u8>),
    /// Tell the application.
    Event(Event),
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The session is there. Messages are numbered from 0 again.
    Up {
        /// Whether by a ticket.
        resumed: bool,
        /// Heartbeat interval that holds, in seconds.
        interval: u16,
    },
    /// A message, whole, once and in order.
    Message(Vec<u8>),
    /// The server has this message and all before it.
    Acked(u32),
    /// There is room again after a `Full`.
    Writable,
    /// The session is over; the client gets another unless it was closed here. What was not acknowledged may not have
    /// arrived.
    Down(Why),
    /// The server, or somebody who sees the datagrams, says no. The client tries again, later and later.
    Refused(Refusal),
    /// Nothing was answered, or a refusal was: the next try comes after this pause.
    Waiting(Duration),
    /// Nothing is sent and nothing is due until [`Client::resume`].
    Suspended {
        /// Whether the server knows, and keeps the session. Else it may give it up, and another is got on waking.
        told: bool,
    },
    /// The server drains: log in elsewhere when it suits.
    Draining,
    /// Keep this: it saves a handshake after a restart.
    Resumption(Resumption),
    /// Keep this as long as the network is the same: it saves looking for the interval again.
    Silences(Silences),
    /// Keep this key: it comes after the present one.
    NextKey([u8; 32]),
    /// The server's key is now the one that was announced: keep it in the place of the old.
    KeyChanged([u8; 32]),
}

counters! {
    /// What a client has seen.
    pub struct ClientCounters {
        datagrams: "datagrams received",
        malformed: "datagrams that are none of the link",
        unexpected: "datagrams that answer nothing that was asked",
        unopened: "datagrams that did not open",
        replayed: "datagrams that came before, or too late to tell",
        asked: "hellos and resumes sent",
        handshakes: "handshakes begun, with Diffie-Hellman",
        cookies: "cookies taken",
        refused: "refusals received",
        sessions: "sessions that came up",
        resumed: "of these, by a ticket",
        lost: "sessions that were lost",
        resets: "of these, because the server did not have them any more",
        heartbeats: "heartbeats sent",
        interval: "seconds from one heartbeat to the next, now",
        tries: "silences tried, to find a longer interval or see whether it is still good",
        tries_failed: "of these, those after which the server's datagrams did not arrive",
        forgotten: "silences in use after which the server saw another address",
        probes: "probes of the path sent",
        challenges: "challenges answered",
        messages: "messages handed up",
        sent: "messages taken to be sent",
        acked: "messages acknowledged by the server",
        full: "messages not taken, because too much waited",
        pieces_repeated: "pieces that came before",
        pieces_refused: "pieces not kept, because too many waited",
        bad_frames: "frames that make no sense",
        unknown_frames: "frames of a kind that this version does not know",
        resent: "pieces sent again",
        rekeys: "rekeys done",
    }
}

enum Phase {
    /// Not begun, or closed.
    Idle,
    Asking(Box<Asking>),
    Up(Box<Up>),
    Waiting(Time),
}

/// One device's end, without socket or clock.
pub struct Client {
    config: ClientConfig,
    rng: Box<dyn Entropy + Send>,
    phase: Phase,
    failures: Backoff,
    pace: Pace,
    sleep: Sleep,
    /// Whether the server does, of the session that there is.
    lets_sleep: bool,
    outputs: VecDeque<Output>,
    counters: ClientCounters,
}

impl Client {
    /// A client that does nothing before [`Client::open`].
    pub fn new(config: ClientConfig, rng: impl Entropy + Send + 'static) -> Client {
        let mut pace = Pace::new(config.interval, config.longest, config.silences);
        pace.set_metered(config.metered);
        Client {
            pace,
            config,
            rng: Box::new(rng),
            phase: Phase::Idle,
            failures: Backoff::default(),
            sleep: Sleep::Awake,
            lets_sleep: false,
            outputs: VecDeque::new(),
            counters: ClientCounters::default(),
        }
    }

    /// Gets a session, and another whenever it is lost.
    pub fn open(&mut self, now: Time) {
        match (&self.phase, self.sleep) {
            (Phase::Idle, Sleep::Awake) => self.ask(now, true),
            (Phase::Idle, _) => self.sleep = Sleep::Asleep { reopen: true },
            _ => {}
        }
    }

    /// Tells the server once, and stays away.
    pub fn close(&mut self, _now: Time) {
        match &mut self.phase {
            Phase::Up(up) => {
                let octets = up.close(Closing::Done);
                self.outputs.push_back(Output::Send(octets));
            }
            // What is not sent yet of a try would only make the server hold a place for it.
            Phase::Asking(_) => self.outputs.retain(|output| !matches!(output, Output::Send(_))),
            _ => {}
        }
        self.phase = Phase::Idle;
        match self.sleep {
            Sleep::Awake => {}
            Sleep::Falling => {
                self.sleep = Sleep::Asleep { reopen: false };
                self.event(Event::Suspended { told: false });
            }
            Sleep::Asleep { .. } => self.sleep = Sleep::Asleep { reopen: false },
        }
    }

    /// From the next session on, logs in at the server of this key, at once if it is meant to be there at all: another
    /// broker, that a balancer gave. Ticket and pauses stay as they are.
    pub fn move_to(&mut self, now: Time, server_key: [u8; 32]) {
        if server_key != self.config.server_key {
            self.config.server_key = server_key;
            self.config.next_key = None;
        }
        self.close(now);
        self.open(now);
    }

    /// A datagram came from the server, or from somebody who says so.
    pub fn handle(&mut self, now: Time, octets: &[u8]) {
        self.expire(now);
        self.counters.datagrams += 1;
        match Datagram::decode(octets) {
            Err(_) => self.counters.malformed += 1,
            Ok(Datagram::Beat { .. } | Datagram::Data { .. }) => self.of_session(now, octets),
            Ok(answer) => self.answer(now, &answer, octets),
        }
    }

    /// The network is another, or back: what waits for a pause need not, and the server is to look where we are.
    pub fn network_changed(&mut self, now: Time) {
        self.failures.reset();
        self.set_silences(now, Silences::default());
        let is_suspended = self.is_suspended();
        match &mut self.phase {
            Phase::Idle => {}
            Phase::Waiting(_) => self.ask(now, true),
            Phase::Asking(asking) => asking.again(now),
            // Told on waking.
            Phase::Up(_) if is_suspended => {}
            Phase::Up(up) => {
                up.forget_silence();
                up.look(now, &self.pace, &mut self.counters, &mut self.outputs);
            }
        }
        self.expire(now);
    }

    /// What is known of the network that the device is on.
    pub fn set_silences(&mut self, now: Time, silences: Silences) {
        self.pace.forget(now, silences);
        self.counters.interval = self.pace.interval().into();
    }

    /// What is sent is paid for, or is no more. While it is, no interval is looked for, and what was found is kept to; and pieces
    /// are missed after a second at the soonest and one at a time, for each that was only late costs.
    pub fn set_metered(&mut self, metered: bool) {
        self.config.metered = metered;
        self.pace.set_metered(metered);
        if let Phase::Up(up) = &mut self.phase {
            up.set_frugal(metered);
        }
    }

    /// There is no other port to send from: over a stream there is none. Until the network changes, no interval is looked for.
    pub fn only_port(&mut self) {
        self.pace.disable();
        if let Phase::Up(up) = &mut self.phase {
            up.forget_silence();
        }
    }

    /// Queues a message. It has the number that [`Event::Acked`] will name.
    ///
    /// # Errors
    /// [`Status::State`] while there is no session, [`Status::Invalid`] when it is longer than
    /// [`crate::wire::link::MAX_MESSAGE`], [`Status::Full`] when too much waits.
    pub fn send(&mut self, now: Time, octets: Vec<u8>) -> Result<u32, Fault> {
        let Phase::Up(up) = &mut self.phase else {
            return Err(Fault::new(Status::State, "there is no session: wait for the event that says so"));
        };
        let number = up.send(now, octets);
        match &number {
            Ok(_) => self.counters.sent += 1,
            Err(fault) if fault.status == Status::Full => self.counters.full += 1,
            Err(_) => {}
        }
        up.pump(now, &mut self.counters, &mut self.outputs);
        number
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self, _now: Time) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Client::deadline_passed`] is due.
    pub fn deadline(&self) -> Option<Time> {
        match &self.phase {
            _ if self.is_asleep() => None,
            Phase::Idle => None,
            Phase::Asking(asking) => Some(asking.deadline()),
            Phase::Up(up) => Some(up.deadline(&self.pace)),
            Phase::Waiting(until) => Some(*until),
        }
    }

    /// The deadline has come.
    pub fn deadline_passed(&mut self, now: Time) {
        self.expire(now);
    }

    /// Whether there is a session.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up(_))
    }

    /// What was counted.
    pub fn counters(&self) -> &ClientCounters {
        &self.counters
    }

    fn expire(&mut self, now: Time) {
        if self.is_suspended() {
            return self.expire_asleep(now);
        }
        match &mut self.phase {
            Phase::Waiting(until) if *until <= now => self.ask(now, true),
            Phase::Asking(_) => self.ask_again(now),
            Phase::Up(up) => {
                let (pace, config, rng) = (&self.pace, &self.config, &mut *self.rng);
                if let Err(why) = up.expire(now, (pace, config), rng, &mut self.counters, &mut self.outputs) {
                    self.lost(now, why);
                }
            }
            _ => {}
        }
    }

    /// The session is over, and not by our wish.
    fn lost(&mut self, now: Time, why: Why) {
        self.counters.lost += 1;
        self.event(Event::Down(why));
        match why {
            _ if self.sleep == Sleep::Falling => {
                self.phase = Phase::Idle;
                self.fall(false);
            }
            _ if self.is_asleep() => {
                self.phase = Phase::Idle;
                self.sleep = Sleep::Asleep { reopen: true };
            }
            // It knows us and wants us not, or not now.
            Why::Closed(_) => self.pause(now),
            _ => self.ask(now, why != Why::Rekey),
        }
    }

    fn pause(&mut self, now: Time) {
        let pause = self.failures.next(&mut *self.rng);
        self.phase = Phase::Waiting(now + pause);
        self.event(Event::Waiting(pause));
    }

    /// Something was learnt of the network.
    fn learn(&mut self, learn: impl FnOnce(&mut Pace)) {
        let before = self.pace.known();
        learn(&mut self.pace);
        self.counters.interval = self.pace.interval().into();
        if self.pace.known() != before {
            self.event(Event::Silences(self.pace.known()));
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}
