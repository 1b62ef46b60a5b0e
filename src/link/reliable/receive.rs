//! Pieces that come: which datagrams came, to be acknowledged; which messages are whole, to be handed up in order.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{Failure, recovery::MAX_ACK_DELAY};
use crate::{
    time::Time,
    wire::link::{Acknowledgement, Frame, MAX_PIECES, MAX_RUNS, PIECE},
};

/// Pieces held that cannot be handed up yet, and how far ahead a message may be: a sender stays within 512 of its
/// oldest, and 256 may be of a message of which that one is.
pub(super) const MAX_HELD: usize = 768;
/// Pieces that wait with no other coming for so long will not be made whole.
pub(super) const STALL: Duration = Duration::from_secs(120);

/// What became of a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::link) enum Taken {
    /// It is kept, or its message can be handed up.
    New,
    /// It came before.
    Repeated,
    /// There is no room for it now: it is not acknowledged.
    NoRoom,
    /// It contradicts the format or what came before.
    Malformed,
}

pub(super) struct Receiver {
    /// The number of the message that is to be handed up next.
    next: u32,
    pieces: BTreeMap<(u32, u16), Box<[u8]>>,
    /// Of each message that is not whole: how many pieces it has, and how many came.
    counts: BTreeMap<u32, (u16, u16)>,
    whole: VecDeque<Vec<u8>>,
    /// Runs of counters that opened, from the highest down.
    runs: Vec<(u64, u64)>,
    newest: Time,
    pending: u32,
    due: Time,
    progress: Time,
}

impl Receiver {
    pub fn new(next: u32) -> Receiver {
        Receiver {
            next,
            pieces: BTreeMap::new(),
            counts: BTreeMap::new(),
            whole: VecDeque::new(),
            runs: Vec::new(),
            newest: Time::ZERO,
            pending: 0,
            due: Time::MAX,
            progress: Time::ZERO,
        }
    }

    /// Notes a counter. Whether it came in order.
    pub fn note(&mut self, counter: u64) -> bool {
        let at = self.runs.partition_point(|run| run.0 > counter);
        if self.runs.get(at).is_some_and(|run| counter <= run.1) {
            return false;
        }
        let in_order = at == 0 && self.runs.first().is_none_or(|run| run.1 + 1 == counter);
        let below = self.runs.get(at).is_some_and(|run| run.1 + 1 == counter);
        let above = at > 0 && self.runs[at - 1].0 == counter + 1;
        match (below, above) {
            (true, true) => {
                self.runs[at - 1].0 = self.runs[at].0;
                self.runs.remove(at);
            }
            (true, false) => self.runs[at].1 = counter,
            (false, true) => self.runs[at - 1].0 = counter,
            (false, false) => self.runs.insert(at, (counter, counter)),
        }
        self.runs.truncate(MAX_RUNS);
        in_order
    }

    pub fn piece(&mut self, now: Time, counter: u64, frame: &Frame<'_>, room: bool) -> Taken {
        let taken = self.take(now, frame, room);
        if matches!(taken, Taken::New | Taken::Repeated) {
            let in_order = self.note(counter);
            if self.runs.first().is_some_and(|run| run.1 == counter) {
                self.newest = now;
            }
            self.pending += 1;
            let at_once = !in_order || self.pending >= 2;
            self.due = if at_once { now } else { self.due.min(now + MAX_ACK_DELAY) };
        }
        taken
    }

    pub fn pop(&mut self) -> Option<Vec<u8>> {
        self.whole.pop_front()
    }

    pub fn acknowledgement(&mut self, now: Time) -> Option<Acknowledgement> {
        if self.due > now || self.runs.is_empty() {
            return None;
        }
        self.due = Time::MAX;
        self.pending = 0;
        let delay = now.since(self.newest).as_millis().min(0xffff) as u16;
        Some(Acknowledgement { delay, runs: self.runs.clone() })
    }

    pub fn held(&self) -> usize {
        self.pieces.len()
    }

    pub fn next(&self) -> u32 {
        self.next
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.whole.is_empty() && self.due == Time::MAX
    }

    pub fn deadline(&self) -> Time {
        let stall = if self.pieces.is_empty() { Time::MAX } else { self.progress + STALL };
        self.due.min(stall)
    }

    pub fn expire(&mut self, now: Time) -> Result<(), Failure> {
        match !self.pieces.is_empty() && now >= self.progress + STALL {
            true => Err(Failure::Stalled),
            false => Ok(()),
        }
    }

    pub fn hurry(&mut self, now: Time) {
        if self.due != Time::MAX {
            self.due = now;
        }
    }

    pub fn wake(&mut self, now: Time) {
        self.progress = now;
        self.hurry(now);
    }

    pub fn restart(&mut self) {
        self.runs.clear();
        self.pending = 0;
        self.due = Time::MAX;
    }

    pub fn take(&mut self, now: Time, frame: &Frame<'_>, room: bool) -> Taken {
        let Frame { message, index, count, data, .. } = *frame;
        let counted = (1..=MAX_PIECES as u16).contains(&count) && index < count;
        // The last number is no sender's, so that there is always a next one.
        if !counted || message == u32::MAX || data.len() > PIECE || (index + 1 < count && data.len() != PIECE)
        {
            return Taken::Malformed;
        }
        if message < self.next {
            return Taken::Repeated;
        }
        if let Some((known, _)) = self.counts.get(&message)
            && *known != count
        {
            return Taken::Malformed;
        }
        if self.pieces.contains_key(&(message, index)) {
            return Taken::Repeated;
        }
        if message == self.next && count == 1 {
            self.whole.push_back(data.to_vec());
            self.next += 1;
        } else {
            if (message - self.next) as usize >= MAX_HELD || self.pieces.len() >= MAX_HELD || !room {
                return Taken::NoRoom;
            }
            self.pieces.insert((message, index), data.into());
            self.counts.entry(message).or_insert((count, 0)).1 += 1;
        }
        self.progress = now;
        while let Some((count, came)) = self.counts.get(&self.next)
            && count == came
        {
            let count = *count;
            self.counts.remove(&self.next);
            let mut octets = Vec::with_capacity(usize::from(count) * PIECE);
            for index in 0..count {
                octets.extend_from_slice(&self.pieces.remove(&(self.next, index)).expect("all pieces came"));
            }
            self.whole.push_back(octets);
            self.next += 1;
        }
        Taken::New
    }
}
