//! Messages over datagrams that get lost: pieces, acknowledgements, retransmission, order. One for each session that has
//! something under way; nothing of it is kept while a session is idle.

mod receive;
mod recovery;
mod send;

use std::time::Duration;

use self::{receive::Receiver, send::Sender};
use crate::{
    status::{Fault, Status},
    time::Time,
    wire::link::{Acknowledgement, Frame, Kind},
};

pub(super) use receive::Taken;

/// How long one that has nothing under way is kept, for its round-trip time and congestion window.
const LINGER: Duration = Duration::from_secs(2);

/// Why a session cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// Eight probes in a row without an acknowledgement.
    Unreachable,
    /// The peer began messages and does not end them.
    Stalled,
}

/// What is under way, both ways.
pub(super) struct Reliable {
    sender: Sender,
    receiver: Receiver,
    used: Time,
}

impl Reliable {
    /// With the numbers of the next message to send, and to be handed up.
    pub fn new(now: Time, to_send: u32, to_hand_up: u32) -> Reliable {
        Reliable { sender: Sender::new(to_send), receiver: Receiver::new(to_hand_up), used: now }
    }

    /// Queues a message: its number, or `Full`.
    pub fn send(&mut self, now: Time, octets: Vec<u8>) -> Result<u32, Fault> {
        self.used = now;
        self.sender.queue(octets)
    }

    /// Writes the next frame that may go out now, with this counter.
    pub fn poll(&mut self, now: Time, counter: u64, out: &mut Vec<u8>) -> bool {
        if let Some(ack) = self.receiver.acknowledgement(now) {
            Frame::alone(Kind::Acknowledgement, &ack.encode()).encode(out);
            return true;
        }
        self.sender.poll(now, counter, out)
    }

    /// A datagram opened that asks for no acknowledgement.
    pub fn note(&mut self, counter: u64) {
        self.receiver.note(counter);
    }

    /// A piece came. `room` says whether there is memory for one that must wait.
    pub fn piece(&mut self, now: Time, counter: u64, frame: &Frame<'_>, room: bool) -> Taken {
        self.used = now;
        self.receiver.piece(now, counter, frame, room)
    }

    /// A piece came under the keys of before a rekey: it counts, and its counter says nothing.
    pub fn old_piece(&mut self, now: Time, frame: &Frame<'_>, room: bool) -> Taken {
        self.receiver.take(now, frame, room)
    }

    /// The next message to be handed up.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        self.receiver.pop()
    }

    /// An acknowledgement came; `next` is the counter that was not used yet. Whether it makes sense.
    pub fn acknowledged(&mut self, now: Time, next: u64, ack: &Acknowledgement) -> bool {
        self.sender.acknowledged(now, next, ack)
    }

    /// The number of a message that is acknowledged, with all before it.
    pub fn pop_acked(&mut self) -> Option<u32> {
        self.sender.pop_acked()
    }

    /// Whether there is room again after a `Full`.
    pub fn pop_writable(&mut self) -> bool {
        self.sender.pop_writable()
    }

    /// Octets that wait to be acknowledged.
    pub fn queued(&self) -> usize {
        self.sender.queued()
    }

    /// Pieces that wait for others.
    pub fn held(&self) -> usize {
        self.receiver.held()
    }

    /// Pieces that were sent again so far.
    pub fn resent(&self) -> u64 {
        self.sender.resent()
    }

    /// The numbers of the next message to send, and to be handed up.
    pub fn numbers(&self) -> (u32, u32) {
        (self.sender.next(), self.receiver.next())
    }

    /// New keys, and counters from 0: what was under way goes out again.
    pub fn restart(&mut self) {
        self.sender.restart();
        self.receiver.restart();
    }

    /// Whether a piece that is sent again costs more than waiting for it.
    pub fn set_frugal(&mut self, frugal: bool) {
        self.sender.set_frugal(frugal);
    }

    /// What came is acknowledged at once.
    pub fn hurry(&mut self, now: Time) {
        self.receiver.hurry(now);
    }

    /// An end slept: what was under way goes out again, and nothing was waited for in vain.
    pub fn wake(&mut self, now: Time) {
        self.sender.wake(now);
        self.receiver.wake(now);
    }

    /// Whether nothing would be lost with it.
    pub fn is_idle(&self, now: Time) -> bool {
        self.is_quiet() && now.since(self.used) >= LINGER
    }

    /// When something is due.
    pub fn deadline(&self) -> Time {
        self.sender.deadline().min(self.receiver.deadline())
    }

    /// When it is of no more use, if nothing happens.
    pub fn linger(&self) -> Time {
        if self.is_quiet() { self.used + LINGER } else { Time::MAX }
    }

    /// Does what is due, but for sending.
    pub fn expire(&mut self, now: Time) -> Result<(), Failure> {
        self.receiver.expire(now)?;
        self.sender.expire(now)
    }

    /// Whether nothing is under way.
    pub fn is_quiet(&self) -> bool {
        self.sender.is_empty() && self.receiver.is_empty()
    }
}

fn full(what: &str) -> Fault {
    Fault::new(Status::Full, format!("{what}: wait for the writable event"))
}

#[cfg(test)]
mod tests;
