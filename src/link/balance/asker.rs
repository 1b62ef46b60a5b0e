//! The device's end: asks until it has an answer, later and later when there is none.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use crate::{
    counters::counters,
    link::{backoff::Backoff, handshake::Asking},
    rng::Entropy,
    time::Time,
    wire::{
        balance::{ASK_COOKIE, Answer, Datagram, Question},
        link::Refusal,
    },
};

/// Sends of an ask; after them 1, 2, 4 and 8 s.
const ASKS: u32 = 4;
/// What a refusal leaves for a real answer to come: it could be anybody's.
const DOUBT: Duration = Duration::from_secs(1);
/// The longest pause that a balancer may wish for.
const LONGEST: u32 = 600;

/// What an asker wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AskerOutput {
    /// Send a datagram to the balancer.
    Send(Vec<u8>),
    /// This is how it went.
    Event(AskerEvent),
}

/// How asking went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AskerEvent {
    /// Log in at this broker. The balancer's key vouches for it.
    Given {
        /// Where it is.
        address: SocketAddr,
        /// Its static key.
        key: [u8; 32],
    },
    /// No broker is there, as the balancer says: asked again after this pause.
    None(Duration),
    /// The balancer, or somebody who sees the datagrams, says no.
    Refused(Refusal),
    /// Nothing was answered, or a refusal was: asked again after this pause.
    Waiting(Duration),
}

counters! {
    /// What a device's asking end has seen.
    pub struct AskerCounters {
        asked: "asks sent",
        cookies: "cookies taken",
        given: "brokers given",
        none: "answers that no broker is there",
        refused: "refusals received",
        malformed: "datagrams that are none of a balancer",
        unexpected: "datagrams that answer nothing that was asked",
        unopened: "gives that did not open",
    }
}

/// A device's end towards a balancer.
pub struct Asker {
    key: [u8; 32],
    rng: Box<dyn Entropy + Send>,
    phase: Phase,
    failures: Backoff,
    outputs: VecDeque<AskerOutput>,
    counters: AskerCounters,
}

enum Phase {
    Idle,
    Asking(Box<Pending>),
    Waiting(Time, Question),
}

struct Pending {
    noise: Asking,
    question: Question,
    datagram: Vec<u8>,
    echo: [u8; 8],
    sends: u32,
    due: Time,
    refused: bool,
    /// A cookie was taken: another is not, so that nobody makes us send without end.
    has_cookie: bool,
}

impl Asker {
    /// One that knows the balancer by this key.
    pub fn new(key: [u8; 32], rng: impl Entropy + Send + 'static) -> Asker {
        Asker {
            key,
            rng: Box::new(rng),
            phase: Phase::Idle,
            failures: Backoff::default(),
            outputs: VecDeque::new(),
            counters: AskerCounters::default(),
        }
    }

    /// Asks, and goes on until there is an answer, or another question.
    pub fn ask(&mut self, now: Time, question: Question) {
        let (noise, datagram) = Asking::begin(&self.key, &question, &mut *self.rng);
        let echo = datagram[26..34].try_into().expect("eight octets");
        let pending = Pending {
            noise,
            question,
            datagram,
            echo,
            sends: 0,
            due: now,
            refused: false,
            has_cookie: false,
        };
        self.phase = Phase::Asking(Box::new(pending));
        self.expire(now);
    }

    /// Asks after a pause.
    pub fn ask_later(&mut self, at: Time, question: Question) {
        self.phase = Phase::Waiting(at, question);
    }

    /// Asks no more.
    pub fn stop(&mut self) {
        self.phase = Phase::Idle;
    }

    /// Whether it asks, or waits to.
    pub const fn is_busy(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// The network is another, or back: what waits for a pause need not.
    pub fn network_changed(&mut self, now: Time) {
        self.failures.reset();
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => {}
            // From another address another cookie is needed, so all begins anew.
            Phase::Waiting(_, question) => self.ask(now, question),
            Phase::Asking(pending) => self.ask(now, pending.question),
        }
    }

    /// A datagram came from the balancer, or from somebody who says so.
    pub fn handle(&mut self, now: Time, octets: &[u8]) {
        let Ok(datagram) = Datagram::decode(octets) else {
            self.counters.malformed += 1;
            return;
        };
        let Phase::Asking(pending) = &mut self.phase else {
            self.counters.unexpected += 1;
            return;
        };
        match datagram {
            Datagram::Cookie { echo, cookie } if echo == pending.echo && !pending.has_cookie => {
                pending.datagram[ASK_COOKIE..ASK_COOKIE + 16].copy_from_slice(&cookie);
                pending.has_cookie = true;
                // Who gives a cookie has not decided yet: a refusal before it was somebody's who only listens.
                pending.refused = false;
                pending.sends = pending.sends.saturating_sub(1);
                pending.due = now;
                self.counters.cookies += 1;
                self.expire(now);
            }
            Datagram::Refuse { echo, reason } if echo == pending.echo && !pending.refused => {
                pending.refused = true;
                pending.due = now + DOUBT;
                self.counters.refused += 1;
                self.event(AskerEvent::Refused(reason));
            }
            Datagram::Give { echo, noise } if echo == pending.echo => match pending.noise.finish(noise) {
                Some(answer) => self.answered(now, answer),
                None => self.counters.unopened += 1,
            },
            _ => self.counters.unexpected += 1,
        }
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<AskerOutput> {
        self.outputs.pop_front()
    }

    /// When [`Asker::deadline_passed`] is due.
    pub const fn deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Idle => None,
            Phase::Asking(pending) => Some(pending.due),
            Phase::Waiting(until, _) => Some(*until),
        }
    }

    /// The deadline has come.
    pub fn deadline_passed(&mut self, now: Time) {
        self.expire(now);
    }

    /// What was counted.
    pub const fn counters(&self) -> &AskerCounters {
        &self.counters
    }

    fn expire(&mut self, now: Time) {
        match &mut self.phase {
            Phase::Waiting(until, question) if *until <= now => {
                let question = std::mem::take(question);
                self.ask(now, question);
            }
            Phase::Asking(pending) if pending.due <= now => {
                if !pending.refused && pending.sends < ASKS {
                    pending.due = now + Duration::from_secs(1 << pending.sends.min(3));
                    pending.sends += 1;
                    self.counters.asked += 1;
                    let octets = pending.datagram.clone();
                    return self.outputs.push_back(AskerOutput::Send(octets));
                }
                let question = std::mem::take(&mut pending.question);
                let pause = self.failures.next(&mut *self.rng);
                self.phase = Phase::Waiting(now + pause, question);
                self.event(AskerEvent::Waiting(pause));
            }
            _ => {}
        }
    }

    fn answered(&mut self, now: Time, answer: Answer) {
        let before = std::mem::replace(&mut self.phase, Phase::Idle);
        match answer {
            Answer::Broker { address, key } => {
                self.failures.reset();
                self.counters.given += 1;
                self.event(AskerEvent::Given { address, key });
            }
            Answer::None { pause } => {
                self.counters.none += 1;
                // Not all who were told so at once are to come back at once.
                let half = pause.clamp(1, LONGEST) * 500_000;
                let pause = Duration::from_micros(u64::from(half) + u64::from(self.rng.below(half + 1)));
                if let Phase::Asking(pending) = before {
                    self.phase = Phase::Waiting(now + pause, pending.question);
                }
                self.event(AskerEvent::None(pause));
            }
        }
    }

    fn event(&mut self, event: AskerEvent) {
        self.outputs.push_back(AskerOutput::Event(event));
    }
}
