//! Ids that were taken: of messages that wait, whose rows have them, and of those that are gone, in rows of their own.

use std::collections::VecDeque;

use super::HashMap;
use crate::{
    post::rows::{self, Known},
    store::Op,
    wire::post::Sequence,
};

/// How long an id is remembered after its message is stale, in seconds (DECISIONS.md 5).
const REMEMBERED: u32 = 86_400;
/// Ids in a row at the most.
const PART: usize = 1024;

/// Ids by their hash, at most so many; the oldest goes for a new one.
pub(super) struct Ids {
    capacity: usize,
    /// In order of their messages.
    entries: VecDeque<Known>,
    /// The number of the first one: they are counted on, round and round.
    first: u32,
    places: HashMap<[u8; 16], u32>,
    /// Rows that are on the disk, or under way there, the oldest first.
    rows: VecDeque<Row>,
    /// Ids in them.
    in_rows: usize,
    next_row: u64,
}

struct Row {
    number: u64,
    count: usize,
    until: u32,
}

impl Ids {
    pub(super) fn new(capacity: usize) -> Ids {
        Ids {
            capacity,
            entries: VecDeque::new(),
            first: 0,
            places: HashMap::default(),
            rows: VecDeque::new(),
            in_rows: 0,
            next_row: 1,
        }
    }

    pub(super) fn get(&self, hash: &[u8; 16]) -> Option<&Known> {
        self.entries.get(self.places.get(hash)?.wrapping_sub(self.first) as usize)
    }

    /// Remembers the id of a message that comes after all others. Whether the oldest had to go for it.
    pub(super) fn remember(&mut self, known: Known) -> bool {
        let place = self.first.wrapping_add(self.entries.len() as u32);
        self.places.insert(known.hash, place);
        self.entries.push_back(known);
        let full = self.entries.len() > self.capacity;
        if full {
            self.forget_oldest();
        }
        full
    }

    /// These messages are gone: what writes their ids, as far as they are remembered.
    pub(super) fn keep(&mut self, gone: impl Iterator<Item = Sequence>, ops: &mut Vec<Op>) {
        let known: Vec<Known> = gone.filter_map(|sequence| self.of(sequence)).collect();
        for part in known.chunks(PART) {
            ops.push(rows::put_known(self.next_row, part));
            self.has_row(self.next_row, part);
        }
        // What is on the disk is bounded too.
        while let Some(row) = self.rows.front()
            && self.in_rows - row.count >= self.capacity
        {
            let number = row.number;
            self.drop_row(number, ops);
        }
    }

    /// A row that is there.
    pub(super) fn has_row(&mut self, number: u64, known: &[Known]) {
        let until = known.iter().map(|one| one.until).max().unwrap_or(0);
        self.rows.push_back(Row { number, count: known.len(), until });
        self.in_rows += known.len();
        self.next_row = number + 1;
    }

    /// Forgets the oldest whose time is over.
    pub(super) fn forget(&mut self, unix: u64, ops: &mut Vec<Op>) {
        while self.entries.front().is_some_and(|known| u64::from(known.until) <= unix) {
            self.forget_oldest();
        }
        while let Some(row) = self.rows.front()
            && u64::from(row.until) <= unix
        {
            let number = row.number;
            self.drop_row(number, ops);
        }
    }

    fn of(&self, sequence: Sequence) -> Option<Known> {
        let at = self.entries.binary_search_by_key(&sequence, |known| known.sequence).ok()?;
        self.entries.get(at).copied()
    }

    fn drop_row(&mut self, number: u64, ops: &mut Vec<Op>) {
        if let Some(row) = self.rows.pop_front() {
            self.in_rows -= row.count;
            ops.push(rows::delete_log(rows::KNOWN, Sequence(number), Sequence(number)));
        }
    }

    fn forget_oldest(&mut self) {
        let Some(known) = self.entries.pop_front() else { return };
        if self.places.get(&known.hash) == Some(&self.first) {
            self.places.remove(&known.hash);
        }
        self.first = self.first.wrapping_add(1);
    }
}

/// When the id of a message may be forgotten that expires then.
pub(super) const fn until(expires: u32) -> u32 {
    expires.saturating_add(REMEMBERED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(number: u64, until: u32) -> Known {
        let mut hash = [0; 16];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        Known { sequence: Sequence(number), hash, content: number, until }
    }

    #[test]
    fn ids_are_found_by_hash_and_the_oldest_go() {
        let mut ids = Ids::new(3);
        ids.first = u32::MAX - 1;
        let evicted: Vec<bool> = (1..=5).map(|number| ids.remember(known(number, 9))).collect();
        assert_eq!(evicted, [false, false, false, true, true]);
        let found: Vec<bool> = (1..=5).map(|number| ids.get(&known(number, 9).hash).is_some()).collect();
        assert_eq!(found, [false, false, true, true, true]);
        assert_eq!(ids.get(&known(4, 9).hash).map(|one| one.content), Some(4));
        assert_eq!(ids.places.len(), 3);
    }

    #[test]
    fn what_is_gone_is_a_row_until_its_time_is_over_and_rows_are_bounded() {
        let mut ids = Ids::new(4);
        let mut ops = Vec::new();
        for number in 1..=12 {
            ids.remember(known(number, 10 + number as u32));
            if number % 2 == 0 {
                ids.keep([Sequence(number - 1), Sequence(number), Sequence(99)].into_iter(), &mut ops);
            }
        }
        let puts = ops.iter().filter(|op| matches!(op, Op::Put { .. })).count();
        assert_eq!((puts, ops.len() - puts, ids.in_rows), (6, 4, 4));
        ops.clear();
        ids.forget(20, &mut ops);
        assert_eq!((ops.len(), ids.in_rows, ids.entries.len()), (1, 2, 2));
        ids.forget(22, &mut ops);
        assert_eq!((ids.in_rows, ids.entries.len(), ids.places.len()), (0, 0, 0));
    }
}
