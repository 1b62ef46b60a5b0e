//! What waits for each inbox: numbers of the log, in order, in memory. The log has all of it, and a start reads it from there.

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use crate::{post::Inbox, wire::post::Sequence};

/// A message that waits for an inbox: 16 octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Item {
    pub(super) sequence: Sequence,
    /// In Unix seconds.
    pub(super) expires: u32,
    /// What it counts against the quota, doubled; one more when it is shared.
    size: u32,
}

impl Item {
    pub(super) const fn new(sequence: Sequence, expires: u32, shared: bool, size: u32) -> Item {
        Item { sequence, expires, size: size << 1 | shared as u32 }
    }

    pub(super) const fn is_shared(&self) -> bool {
        self.size & 1 != 0
    }

    const fn size(&self) -> u32 {
        self.size >> 1
    }
}

/// One inbox's; there is none that is empty.
struct Queue {
    items: VecDeque<Item>,
    octets: u32,
    /// The highest that was handed over, in this life of the hub.
    handed: Sequence,
}

impl Queue {
    fn find(&self, sequence: Sequence) -> Option<usize> {
        // Mostly it is the oldest that leaves.
        match self.items.front() {
            Some(first) if first.sequence == sequence => Some(0),
            _ => self.items.binary_search_by_key(&sequence, |item| item.sequence).ok(),
        }
    }

    fn after(&self, sequence: Sequence) -> impl Iterator<Item = &Item> {
        let from = self.items.partition_point(|item| item.sequence <= sequence);
        self.items.range(from..)
    }
}

/// All inboxes'.
#[derive(Default)]
pub(super) struct Queues {
    queues: BTreeMap<Inbox, Queue>,
    total: usize,
}

impl Queues {
    /// Messages that wait, each counted for each of its inboxes.
    pub(super) const fn total(&self) -> usize {
        self.total
    }

    /// Messages and octets that wait for an inbox.
    pub(super) fn depth(&self, inbox: Inbox) -> (u32, u32) {
        self.queues.get(&inbox).map_or((0, 0), |queue| (queue.items.len() as u32, queue.octets))
    }

    /// One more, after all others of the inbox.
    pub(super) fn push(&mut self, inbox: Inbox, item: Item) {
        self.total += 1;
        match self.queues.entry(inbox) {
            Entry::Occupied(queue) => {
                let queue = queue.into_mut();
                queue.octets = queue.octets.saturating_add(item.size());
                queue.items.push_back(item);
            }
            Entry::Vacant(vacant) => {
                // Most inboxes have one or two: no room for more ahead of time.
                let mut items = VecDeque::with_capacity(1);
                items.push_back(item);
                vacant.insert(Queue { items, octets: item.size(), handed: Sequence(0) });
            }
        }
    }

    pub(super) fn contains(&self, inbox: Inbox, sequence: Sequence) -> bool {
        self.queues.get(&inbox).is_some_and(|queue| queue.find(sequence).is_some())
    }

    /// Takes one out, if it is there.
    pub(super) fn take(&mut self, inbox: Inbox, sequence: Sequence) -> Option<Item> {
        let queue = self.queues.get_mut(&inbox)?;
        let item = queue.items.remove(queue.find(sequence)?)?;
        self.total -= 1;
        queue.octets = queue.octets.saturating_sub(item.size());
        let (len, capacity) = (queue.items.len(), queue.items.capacity());
        if len == 0 {
            self.queues.remove(&inbox);
        } else if capacity > 16 && len < capacity / 4 {
            queue.items.shrink_to(capacity / 2);
        }
        Some(item)
    }

    /// Takes all out.
    pub(super) fn empty(&mut self, inbox: Inbox) -> Vec<Item> {
        let items = self.queues.remove(&inbox).map_or_else(Vec::new, |queue| queue.items.into());
        self.total -= items.len();
        items
    }

    /// The next after one, through another.
    pub(super) fn after(
        &self,
        inbox: Inbox,
        after: Sequence,
        through: Sequence,
    ) -> impl Iterator<Item = Sequence> {
        let items = self.queues.get(&inbox).into_iter().flat_map(move |queue| queue.after(after));
        items.map(|item| item.sequence).take_while(move |sequence| *sequence <= through)
    }

    /// One is handed over. Whether it was before.
    pub(super) fn hand(&mut self, inbox: Inbox, sequence: Sequence) -> bool {
        let Some(queue) = self.queues.get_mut(&inbox) else { return false };
        let before = queue.handed;
        queue.handed = before.max(sequence);
        sequence <= before
    }

    /// Looks at all items of inboxes from one on, and may change when they expire, about so many of them; answers with the inbox to go on with.
    pub(super) fn walk(
        &mut self,
        from: Inbox,
        look: usize,
        mut at: impl FnMut(Inbox, &mut Item),
    ) -> Option<Inbox> {
        let mut looked = 0;
        for (inbox, queue) in self.queues.range_mut(from..) {
            if looked >= look {
                return Some(*inbox);
            }
            looked += 1 + queue.items.len();
            queue.items.iter_mut().for_each(|item| at(*inbox, item));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: u64) -> Queues {
        let mut queues = Queues::default();
        for number in 1..=count {
            let item = Item::new(Sequence(number), number as u32, number % 2 == 0, 10);
            queues.push(Inbox((number % 3) as u32), item);
        }
        queues
    }

    #[test]
    fn an_item_is_sixteen_octets() {
        assert_eq!(size_of::<Item>(), 16);
        let item = Item::new(Sequence(1), 2, true, 65_536 + 192);
        assert!(item.is_shared() && item.size() == 65_536 + 192);
    }

    #[test]
    fn what_waits_is_in_order_counted_and_leaves_from_anywhere() {
        let mut queues = filled(300);
        assert_eq!((queues.total(), queues.depth(Inbox(0))), (300, (100, 1000)));
        let next: Vec<u64> =
            queues.after(Inbox(1), Sequence(4), Sequence(13)).map(|sequence| sequence.0).collect();
        assert_eq!(next, [7, 10, 13]);
        assert_eq!(queues.take(Inbox(1), Sequence(7)).map(|item| item.sequence), Some(Sequence(7)));
        assert_eq!(queues.take(Inbox(1), Sequence(7)), None, "once");
        assert_eq!(queues.take(Inbox(1), Sequence(8)), None, "another's");
        assert!(queues.contains(Inbox(1), Sequence(10)) && !queues.contains(Inbox(1), Sequence(7)));
        for number in 1..=300 {
            queues.take(Inbox((number % 3) as u32), Sequence(number));
        }
        assert_eq!((queues.total(), queues.depth(Inbox(1)), queues.queues.len()), (0, (0, 0), 0));
    }

    #[test]
    fn what_was_handed_before_is_known_while_something_waits() {
        let mut queues = filled(9);
        assert!(!queues.hand(Inbox(0), Sequence(3)));
        assert!(queues.hand(Inbox(0), Sequence(3)));
        assert_eq!(queues.empty(Inbox(0)).len(), 3);
        assert!(!queues.hand(Inbox(0), Sequence(3)));
        assert_eq!(queues.total(), 6);
    }

    #[test]
    fn a_walk_goes_on_where_it_stopped() {
        let mut queues = filled(30);
        let mut seen = 0;
        let next = queues.walk(Inbox(0), 1, |_, _| seen += 1);
        assert_eq!((next, seen), (Some(Inbox(1)), 10));
        assert_eq!(queues.walk(Inbox(1), 100, |_, _| seen += 1), None);
        assert_eq!(seen, 30);
    }
}
