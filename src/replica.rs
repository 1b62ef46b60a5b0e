//! A map that remembers in which order its entries last changed.
//!
//! What one end must bring to another is then a cursor: everything after the last revision that was sent. A slow
//! or absent peer costs eight octets, an entry that changed twice is sent once, and the oldest entry is the first to
//! age out.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// The map. Revisions start at 1 and only rise.
#[derive(Debug)]
pub struct Replica<K, V> {
    entries: HashMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    head: u64,
}

impl<K, V> Default for Replica<K, V> {
    fn default() -> Self {
        Replica { entries: HashMap::new(), order: BTreeMap::new(), head: 0 }
    }
}

impl<K: Copy + Eq + Hash, V> Replica<K, V> {
    /// Writes an entry and makes it the newest. Returns the value it had.
    pub fn put(&mut self, key: K, value: V) -> Option<V> {
        self.head += 1;
        let old = self.entries.insert(key, (self.head, value));
        if let Some((revision, _)) = &old {
            self.order.remove(revision);
        }
        self.order.insert(self.head, key);
        old.map(|(_, value)| value)
    }

    /// Removes an entry.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (revision, value) = self.entries.remove(key)?;
        self.order.remove(&revision);
        Some(value)
    }

    /// The value of an entry.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// What changed after `revision`, oldest first.
    pub fn after(&self, revision: u64) -> impl Iterator<Item = (u64, K, &V)> {
        self.order.range(revision + 1..).map(|(&revision, key)| (revision, *key, &self.entries[key].1))
    }

    /// The entry that has not changed for longest.
    pub fn oldest(&self) -> Option<(u64, K, &V)> {
        self.after(0).next()
    }

    /// The newest revision; 0 before the first change.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_changes_moves_to_the_end() {
        let mut replica = Replica::default();
        replica.put('a', 1);
        replica.put('b', 2);
        assert_eq!(replica.put('a', 3), Some(1));
        assert_eq!(replica.after(0).collect::<Vec<_>>(), [(2, 'b', &2), (3, 'a', &3)]);
        assert_eq!(replica.after(2).count(), 1);
        assert_eq!(replica.remove(&'b'), Some(2));
        assert_eq!(replica.oldest(), Some((3, 'a', &3)));
        assert_eq!((replica.head(), replica.len()), (3, 1));
    }
}
