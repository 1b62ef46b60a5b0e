//! The end that connects: it hands over what waits for the other room, and asks it where its users are.

use std::{collections::BTreeMap, time::Duration};

use super::Counted;
use crate::{
    io::Conn,
    link::Backoff,
    post::line::Line,
    rng::Entropy,
    time::Time,
    wire::inner::{Message, Relayed},
};

/// The longest pause before the room is tried again.
const LONGEST: Duration = Duration::from_secs(30);
/// How long the other end may take to say that it goes on.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a question waits.
const ASK_LIFE: Duration = Duration::from_secs(3);
/// Questions that wait.
pub(super) const MAX_ASKED: usize = 4096;

enum Phase {
    Waiting(Time),
    Connecting(Conn),
    /// Until when the other end is to answer.
    Joining(Conn, Box<Line>, Time),
    /// And since when.
    Joined(Conn, Box<Line>, Time),
}

/// What came of something.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// The link is there.
    Joined,
    /// These are durable there.
    Ack(Vec<u64>),
    /// The answer to a question.
    Found(u64, Vec<crate::wire::post::Presence>),
    /// It does not go on, and why; it is tried again.
    Refused(String),
    /// The link is of no more use.
    Broken,
}

pub(super) struct Outward {
    phase: Phase,
    backoff: Backoff,
    /// Names the link that there is, or the last one.
    pub place: u32,
    /// Questions that wait, until then.
    asked: BTreeMap<u64, Time>,
}

impl Outward {
    pub fn new(now: Time) -> Outward {
        let (phase, backoff) = (Phase::Waiting(now), Backoff::up_to(LONGEST));
        Outward { phase, backoff, place: 0, asked: BTreeMap::new() }
    }

    pub const fn is_joined(&self) -> bool {
        matches!(self.phase, Phase::Joined(..))
    }

    pub const fn conn(&self) -> Option<Conn> {
        match self.phase {
            Phase::Waiting(_) => None,
            Phase::Connecting(conn) | Phase::Joining(conn, ..) | Phase::Joined(conn, ..) => Some(conn),
        }
    }

    /// Whether it is time to connect.
    pub fn is_due(&self, now: Time) -> bool {
        matches!(self.phase, Phase::Waiting(until) if until <= now)
    }

    /// The room is there: no pause is waited for.
    pub fn hurry(&mut self, now: Time) {
        if let Phase::Waiting(until) = &mut self.phase {
            *until = now.min(*until);
        }
    }

    pub fn connect(&mut self, conn: Conn) {
        self.phase = Phase::Connecting(conn);
    }

    /// The connection is there: who is it, and for whom is it taken?
    pub fn connected(&mut self, now: Time, place: u32, join: &Message) {
        if let Phase::Connecting(conn) = self.phase {
            let mut line = Line::new(now);
            line.send(join, 0);
            self.place = place;
            self.phase = Phase::Joining(conn, Box::new(line), now + PATIENCE);
        }
    }

    /// The next thing that came.
    pub fn next(&mut self, now: Time, octets: &mut &[u8], counted: Counted<'_>) -> Option<Told> {
        loop {
            let (Phase::Joining(_, line, _) | Phase::Joined(_, line, _)) = &mut self.phase else {
                return None;
            };
            let (correlation, message) = match line.next(now, octets)? {
                Ok(came) => came,
                Err(_) => return Some(Told::Broken),
            };
            match message {
                Message::Joined if !self.is_joined() => {
                    self.joined(now);
                    return Some(Told::Joined);
                }
                Message::Refused { text, .. } => return Some(Told::Refused(text)),
                Message::Ack(sequences) if self.is_joined() => return Some(Told::Ack(sequences)),
                Message::Presence(users) if self.is_joined() => {
                    if self.asked.remove(&correlation).is_some() {
                        return Some(Told::Found(correlation, users));
                    }
                }
                _ => counted.unexpected += 1,
            }
        }
    }

    fn joined(&mut self, now: Time) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Waiting(now)) {
            Phase::Joining(conn, line, _) => Phase::Joined(conn, line, now),
            other => other,
        };
    }

    /// Hands a message over. Whether it goes: what is not kept does not wait behind much else.
    pub fn relay(&mut self, relayed: Box<Relayed>) -> bool {
        match &mut self.phase {
            Phase::Joined(_, line, _) if relayed.kept || line.has_room() => {
                line.send(&Message::Replicate(relayed), 0);
                true
            }
            _ => false,
        }
    }

    /// Asks. Whether there will be an answer.
    pub fn ask(&mut self, now: Time, ticket: u64, users: Vec<String>) -> bool {
        match &mut self.phase {
            Phase::Joined(_, line, _) if line.has_room() && self.asked.len() < MAX_ASKED => {
                line.send(&Message::Query(users), ticket);
                self.asked.insert(ticket, now + ASK_LIFE);
                true
            }
            _ => false,
        }
    }

    /// Questions that nobody answered in time.
    pub fn expire(&mut self, now: Time) -> Vec<u64> {
        let mut over = Vec::new();
        self.asked.retain(|ticket, until| {
            let stays = *until > now;
            over.extend((!stays).then_some(*ticket));
            stays
        });
        over
    }

    /// Whether the link is to be given up.
    pub fn is_over(&mut self, now: Time) -> bool {
        match &mut self.phase {
            Phase::Joining(_, line, due) => line.handle_deadline(now).is_err() || *due <= now,
            Phase::Joined(_, line, _) => line.handle_deadline(now).is_err(),
            Phase::Waiting(_) | Phase::Connecting(_) => false,
        }
    }

    /// The link is lost, or could not be made. Answers with the questions that have no answer now.
    pub fn lost(&mut self, now: Time, rng: &mut dyn Entropy, counted: Counted<'_>) -> Vec<u64> {
        if let Phase::Joining(_, line, _) | Phase::Joined(_, line, _) = &self.phase {
            counted.unknown += line.unknown();
        }
        // A room that goes on and then lets go is not asked again and again at once.
        if matches!(self.phase, Phase::Joined(_, _, since) if now.since(since) >= LONGEST) {
            self.backoff.reset();
        }
        self.phase = Phase::Waiting(now + self.backoff.next(rng));
        std::mem::take(&mut self.asked).into_keys().collect()
    }

    pub fn poll(&mut self, now: Time) -> Option<(Conn, Vec<u8>)> {
        match &mut self.phase {
            Phase::Joining(conn, line, _) | Phase::Joined(conn, line, _) => Some((*conn, line.poll(now)?)),
            Phase::Waiting(_) | Phase::Connecting(_) => None,
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        let own = match &self.phase {
            Phase::Waiting(until) => Some(*until),
            Phase::Connecting(_) => None,
            Phase::Joining(_, line, due) => Some(line.deadline().min(*due)),
            Phase::Joined(_, line, _) => Some(line.deadline()),
        };
        own.into_iter().chain(self.asked.values().min().copied()).min()
    }
}
