//! Messages on their way out: which pieces are under way, which are lost, what goes next.

use std::collections::{BTreeSet, VecDeque};

use super::{Failure, full, recovery::Recovery};
use crate::{
    status::Fault,
    time::Time,
    wire::link::{Acknowledgement, Frame, Kind, MAX_MESSAGE, MAX_PIECES, PIECE},
};

/// Octets and messages that may wait for their acknowledgement.
pub(super) const MAX_OCTETS: usize = 256 * 1024;
pub(super) const MAX_MESSAGES: usize = 256;
/// How far past the oldest unacknowledged piece a new one may be.
pub(super) const SPAN: u64 = 512;
/// Later acknowledged pieces that tell a loss (RFC 9002 §6.1.1).
const REORDERED: u64 = 3;
/// Timeouts in a row after which the peer is given up.
const VAIN: u32 = 8;
/// Pieces sent at a timeout.
const PROBES: usize = 2;

struct Message {
    octets: Vec<u8>,
    acked: [u64; MAX_PIECES / 64],
    missing: u16,
    /// How many pieces came before its first.
    serial: u64,
}

impl Message {
    fn count(&self) -> u16 {
        pieces(self.octets.len())
    }

    fn is_acked(&self, index: u16) -> bool {
        self.acked[usize::from(index) / 64] >> (index % 64) & 1 == 1
    }
}

struct Sent {
    counter: u64,
    /// The how-manieth piece ever sent it is.
    order: u64,
    message: u32,
    index: u16,
    at: Time,
}

pub(super) struct Sender {
    queue: VecDeque<Message>,
    /// The number of the first in the queue.
    oldest: u32,
    /// Of the next piece that was never sent: which in the queue, and which piece of it.
    fresh: (usize, u16),
    /// The pieces of all messages so far.
    serial: u64,
    octets: usize,
    refused: bool,
    /// In order of their counters.
    sent: VecDeque<Sent>,
    lost: BTreeSet<(u32, u16)>,
    order: u64,
    last_sent: Time,
    vain: u32,
    probes: usize,
    frugal: bool,
    recovery: Recovery,
    acked: VecDeque<u32>,
    resent: u64,
}

impl Sender {
    pub fn new(next: u32) -> Sender {
        Sender {
            queue: VecDeque::new(),
            oldest: next,
            fresh: (0, 0),
            serial: 0,
            octets: 0,
            refused: false,
            sent: VecDeque::new(),
            lost: BTreeSet::new(),
            order: 0,
            last_sent: Time::ZERO,
            vain: 0,
            probes: 0,
            frugal: false,
            recovery: Recovery::new(),
            acked: VecDeque::new(),
            resent: 0,
        }
    }

    pub fn queue(&mut self, octets: Vec<u8>) -> Result<u32, Fault> {
        let number = self.next();
        if octets.len() > MAX_MESSAGE {
            let text = format!("a message has at most {MAX_MESSAGE} octets");
            return Err(Fault::new(crate::status::Status::Invalid, text));
        }
        if number == u32::MAX {
            return Err(full("the session's messages are all numbered"));
        }
        if self.queue.len() >= MAX_MESSAGES || self.octets + octets.len() > MAX_OCTETS {
            self.refused = true;
            return Err(full("too much waits to be acknowledged"));
        }
        let count = pieces(octets.len());
        self.octets += octets.len();
        self.queue.push_back(Message { octets, acked: [0; _], missing: count, serial: self.serial });
        self.serial += u64::from(count);
        Ok(number)
    }

    pub fn poll(&mut self, now: Time, counter: u64, out: &mut Vec<u8>) -> bool {
        if self.sent.len() >= self.recovery.window() && self.probes == 0 {
            return false;
        }
        let Some((message, index)) = self.next_piece() else { return false };
        self.probes = self.probes.saturating_sub(1);
        let entry = &self.queue[(message - self.oldest) as usize];
        let begin = usize::from(index) * PIECE;
        let end = entry.octets.len().min(begin + PIECE);
        let count = entry.count();
        Frame { kind: Kind::Piece, message, index, count, data: &entry.octets[begin..end] }.encode(out);
        self.sent.push_back(Sent { counter, order: self.order, message, index, at: now });
        self.order += 1;
        self.last_sent = now;
        true
    }

    pub fn acknowledged(&mut self, now: Time, next: u64, ack: &Acknowledgement) -> bool {
        let highest = ack.runs[0].1;
        if highest >= next {
            return false;
        }
        let used = self.sent.len() >= self.recovery.window() / 2;
        let mut newest: Option<u64> = None;
        let sent = std::mem::take(&mut self.sent);
        let (arrived, mut left): (VecDeque<Sent>, VecDeque<Sent>) =
            sent.into_iter().partition(|sent| covers(ack, sent.counter));
        for sent in &arrived {
            newest = newest.max(Some(sent.order));
            self.mark(sent.message, sent.index);
            if used {
                self.recovery.arrived(sent.at);
            }
            if sent.counter == highest {
                let delay = std::time::Duration::from_millis(ack.delay.into());
                self.recovery.sample(now.since(sent.at), delay);
            }
        }
        if let Some(newest) = newest {
            self.vain = 0;
            left.retain(|sent| {
                let message = sent.message.wrapping_sub(self.oldest) as usize;
                let done = sent.message < self.oldest || self.queue[message].is_acked(sent.index);
                let lost = !done && sent.order + REORDERED <= newest;
                if lost {
                    self.lost.insert((sent.message, sent.index));
                    self.recovery.lost(now, sent.at);
                }
                !done && !lost
            });
        }
        self.sent = left;
        self.drop_done();
        true
    }

    pub fn pop_acked(&mut self) -> Option<u32> {
        self.acked.pop_front()
    }

    pub fn pop_writable(&mut self) -> bool {
        let room = self.octets <= MAX_OCTETS / 2 && self.queue.len() <= MAX_MESSAGES / 2;
        let writable = self.refused && room;
        self.refused &= !writable;
        writable
    }

    pub fn queued(&self) -> usize {
        self.octets
    }

    pub fn next(&self) -> u32 {
        self.oldest + self.queue.len() as u32
    }

    pub fn resent(&self) -> u64 {
        self.resent
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.acked.is_empty()
    }

    pub fn deadline(&self) -> Time {
        match self.sent.is_empty() {
            true => Time::MAX,
            false => self.last_sent + self.recovery.timeout(self.vain, self.frugal),
        }
    }

    pub fn expire(&mut self, now: Time) -> Result<(), Failure> {
        if self.deadline() > now {
            return Ok(());
        }
        self.vain += 1;
        if self.vain >= VAIN {
            return Err(Failure::Unreachable);
        }
        if self.vain >= 2 {
            self.recovery.collapse();
        }
        // The oldest go again. What is under way stays noted: if it was only late, its acknowledgement counts.
        let oldest: BTreeSet<(u32, u16)> = self.sent.iter().map(|sent| (sent.message, sent.index)).collect();
        self.probes = if self.frugal { 1 } else { PROBES };
        self.lost.extend(oldest.into_iter().take(self.probes));
        self.last_sent = now;
        Ok(())
    }

    pub fn restart(&mut self) {
        self.lost.extend(self.sent.drain(..).map(|sent| (sent.message, sent.index)));
        self.vain = 0;
    }

    pub fn set_frugal(&mut self, frugal: bool) {
        self.frugal = frugal;
    }

    pub fn wake(&mut self, now: Time) {
        self.restart();
        self.last_sent = now;
    }

    fn next_piece(&mut self) -> Option<(u32, u16)> {
        if let Some(piece) = self.lost.pop_first() {
            self.resent += 1;
            return Some(piece);
        }
        let (at, index) = self.fresh;
        let message = self.queue.get(at)?;
        if message.serial + u64::from(index) >= self.oldest_piece() + SPAN {
            return None;
        }
        self.fresh = if index + 1 < message.count() { (at, index + 1) } else { (at + 1, 0) };
        Some((self.oldest + at as u32, index))
    }

    fn oldest_piece(&self) -> u64 {
        let Some(message) = self.queue.front() else { return self.serial };
        let whole = message.acked.iter().take_while(|word| **word == u64::MAX).count();
        let part = message.acked.get(whole).map_or(0, |word| word.trailing_ones());
        message.serial + whole as u64 * 64 + u64::from(part)
    }

    fn mark(&mut self, message: u32, index: u16) {
        self.lost.remove(&(message, index));
        let Some(entry) = message.checked_sub(self.oldest).and_then(|at| self.queue.get_mut(at as usize))
        else {
            return;
        };
        if !entry.is_acked(index) {
            entry.acked[usize::from(index) / 64] |= 1 << (index % 64);
            entry.missing -= 1;
        }
    }

    fn drop_done(&mut self) {
        while self.queue.front().is_some_and(|message| message.missing == 0) {
            let message = self.queue.pop_front().expect("it was just seen");
            self.octets -= message.octets.len();
            self.acked.push_back(self.oldest);
            self.oldest += 1;
            self.fresh.0 -= 1;
        }
    }
}

fn pieces(length: usize) -> u16 {
    length.div_ceil(PIECE).max(1) as u16
}

fn covers(ack: &Acknowledgement, counter: u64) -> bool {
    let at = ack.runs.partition_point(|run| run.0 > counter);
    ack.runs.get(at).is_some_and(|run| counter <= run.1)
}
