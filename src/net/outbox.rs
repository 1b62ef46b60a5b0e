//! Datagrams that wait for their socket: until enough are there for one system call, or until the kernel has room.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, io};

use super::{batch::Datagram, endpoint::DriverCounters};

/// Octets that wait while the kernel has no room, each datagram with its keep; past it the oldest go.
const LIMIT: usize = 1 << 20;
/// What keeping a datagram costs besides its octets.
const KEEP: usize = 64;

/// The queue of one socket.
#[derive(Default)]
pub(super) struct Outbox {
    queue: VecDeque<Datagram>,
    octets: usize,
    is_blocked: bool,
}

impl Outbox {
    /// Datagrams that wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether the kernel had no room at the last attempt.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Forgets that there was no room.
    pub fn unblock(&mut self) {
        self.is_blocked = false;
    }

    /// Takes a datagram, for which older ones may have to go: what is late is worth less than what is new.
    pub fn push(&mut self, datagram: Datagram, counters: &mut DriverCounters) {
        self.octets += datagram.octets.len() + KEEP;
        self.queue.push_back(datagram);
        while self.octets > LIMIT && self.queue.len() > 1 {
            self.pop();
            counters.datagrams_overflowed += 1;
        }
    }

    /// Has `send` send from the front until none is left or there is no room. It answers how many went, and an error about
    /// the first; what cannot be sent at all is dropped, as any datagram may be.
    pub fn write(
        &mut self,
        counters: &mut DriverCounters,
        mut send: impl FnMut(&VecDeque<Datagram>) -> io::Result<usize>,
    ) {
        self.is_blocked = false;
        while !self.queue.is_empty() {
            match send(&self.queue) {
                Ok(count) => (0..count).for_each(|_| self.pop()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_blocked = true;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.pop();
                    counters.datagrams_unsent += 1;
                }
            }
        }
        // A queue that was long once must not stay so.
        if self.queue.capacity() > 256 {
            self.queue = VecDeque::new();
        }
    }

    fn pop(&mut self) {
        if let Some(datagram) = self.queue.pop_front() {
            self.octets -= datagram.octets.len() + KEEP;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(number: usize, length: usize) -> Datagram {
        Datagram { to: None, octets: vec![number as u8; length] }
    }

    #[test]
    fn what_the_kernel_refuses_is_dropped_and_what_it_has_no_room_for_waits() {
        let (mut outbox, mut counters) = (Outbox::default(), DriverCounters::default());
        (0..5).for_each(|number| outbox.push(datagram(number, 16), &mut counters));
        let mut answers = VecDeque::from([
            Ok(2),
            Err(io::ErrorKind::Interrupted),
            Err(io::ErrorKind::PermissionDenied),
            Ok(1),
            Err(io::ErrorKind::WouldBlock),
        ]);
        let mut firsts = Vec::new();
        outbox.write(&mut counters, |queue| {
            firsts.push(queue[0].octets[0]);
            Ok(answers.pop_front().unwrap()?)
        });
        assert_eq!(firsts, [0, 2, 2, 3, 4]);
        assert_eq!((outbox.len(), outbox.is_blocked(), counters.datagrams_unsent), (1, true, 1));
        outbox.write(&mut counters, |queue| Ok(queue.len()));
        assert_eq!((outbox.len(), outbox.is_blocked(), outbox.octets), (0, false, 0));
        assert_eq!((counters.datagrams_unsent, counters.datagrams_overflowed), (1, 0));
    }

    #[test]
    fn the_oldest_make_room() {
        let (mut outbox, mut counters) = (Outbox::default(), DriverCounters::default());
        let most = LIMIT / (16 + KEEP);
        (0..most + 10).for_each(|number| outbox.push(datagram(number, 16), &mut counters));
        assert_eq!((outbox.len(), counters.datagrams_overflowed), (most, 10));
        let mut first = None;
        outbox.write(&mut counters, |queue| {
            first.get_or_insert(queue[0].octets[0]);
            Ok(queue.len())
        });
        assert_eq!(first, Some(10));
        assert!(outbox.queue.capacity() <= 256, "and the room is given back");
        // One that is larger than all room still goes.
        outbox.push(datagram(0, LIMIT), &mut counters);
        assert_eq!((outbox.len(), counters.datagrams_overflowed), (1, 10));
    }
}
