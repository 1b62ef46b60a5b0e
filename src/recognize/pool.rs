//! Octets of open flows that wait for what comes before or after them, in one bounded place.

use super::{condition::Side, view::quic::Handshake};

/// The most that may wait, whatever the bound in octets.
const MAX_ENTRIES: usize = 512;

/// What waits.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// A TCP segment that came before one that it follows.
    Segment { from: Side, sequence: u32, wire_len: u32, octets: Box<[u8]> },
    /// The beginning of a stream whose hello or head is not whole yet.
    Beginning { from: Side, octets: Vec<u8> },
    /// The beginning of a QUIC handshake.
    Handshake(Box<Handshake>),
}

impl Waiting {
    fn octets(&self) -> usize {
        match self {
            Waiting::Segment { octets, .. } => octets.len(),
            Waiting::Beginning { octets, .. } => octets.capacity(),
            Waiting::Handshake(handshake) => handshake.memory(),
        }
    }
}

#[derive(Debug)]
struct Entry {
    flow: u32,
    born: u64,
    waiting: Waiting,
}

/// Everything that waits. What came first goes first when there is no room.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    entries: Vec<Entry>,
    octets: usize,
    births: u64,
    /// Entries dropped for want of room.
    pub(crate) dropped: u64,
}

impl Pool {
    /// Puts something in, at most `limit` octets in all.
    pub(crate) fn put(&mut self, flow: u32, waiting: Waiting, limit: usize) {
        let octets = waiting.octets();
        if octets > limit {
            self.dropped += 1;
            return;
        }
        while self.octets + octets > limit || self.entries.len() == MAX_ENTRIES {
            let oldest = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.born);
            let Some((at, _)) = oldest else {
                break;
            };
            self.remove(at);
            self.dropped += 1;
        }
        self.octets += octets;
        self.births += 1;
        self.entries.push(Entry { flow, born: self.births, waiting });
    }

    /// Takes out the first entry of a flow that `wanted` is true for.
    pub(crate) fn take(&mut self, flow: u32, wanted: impl Fn(&Waiting) -> bool) -> Option<Waiting> {
        let at = self.entries.iter().position(|entry| entry.flow == flow && wanted(&entry.waiting))?;
        Some(self.remove(at))
    }

    /// Everything of a flow that waits.
    pub(crate) fn of(&self, flow: u32) -> impl Iterator<Item = &Waiting> {
        self.entries.iter().filter(move |entry| entry.flow == flow).map(|entry| &entry.waiting)
    }

    /// Drops everything of a flow.
    pub(crate) fn forget(&mut self, flow: u32) {
        while self.take(flow, |_| true).is_some() {}
    }

    /// Octets of memory.
    pub(crate) fn memory(&self) -> usize {
        self.octets + self.entries.capacity() * size_of::<Entry>()
    }

    fn remove(&mut self, at: usize) -> Waiting {
        let entry = self.entries.swap_remove(at);
        self.octets -= entry.waiting.octets();
        entry.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beginning(octets: usize) -> Waiting {
        Waiting::Beginning { from: Side::Initiator, octets: vec![0; octets] }
    }

    #[test]
    fn what_came_first_goes_first() {
        let mut pool = Pool::default();
        for flow in 0..10 {
            pool.put(flow, beginning(100), 350);
        }
        assert_eq!((pool.octets, pool.dropped), (300, 7));
        assert!(pool.take(6, |_| true).is_none());
        assert!(pool.take(7, |_| true).is_some());
        pool.put(99, beginning(351), 350);
        assert_eq!((pool.octets, pool.dropped), (200, 8));
        pool.forget(8);
        pool.forget(9);
        assert_eq!(pool.octets, 0);
    }

    #[test]
    fn entries_are_bounded() {
        let mut pool = Pool::default();
        for flow in 0..2 * MAX_ENTRIES as u32 {
            pool.put(flow, beginning(1), usize::MAX);
        }
        assert_eq!((pool.entries.len(), pool.dropped), (MAX_ENTRIES, MAX_ENTRIES as u64));
    }
}
