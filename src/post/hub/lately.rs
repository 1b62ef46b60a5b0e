//! What was looked up lately.

use std::{borrow::Borrow, hash::Hash};

use super::HashMap;

/// Two generations, of which the older is forgotten whole when the younger is full: at most `capacity` entries, and
/// nothing to keep in order.
pub(super) struct Lately<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash, V> Lately<K, V> {
    pub(super) fn new(capacity: usize) -> Lately<K, V> {
        Lately { young: HashMap::default(), old: HashMap::default(), half: (capacity / 2).max(1) }
    }

    /// What is used stays.
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.put(key, value);
        }
        self.young.get(key)
    }

    pub(super) fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    pub(super) fn forget<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_forgotten_within_the_bound() {
        let mut lately = Lately::new(8);
        for number in 0..1000 {
            lately.put(number, number);
            assert_eq!(lately.get(&0), Some(&0), "after {number}");
            assert!(lately.young.len() + lately.old.len() <= 8);
        }
        assert_eq!(lately.get(&1), None);
        lately.forget(&0);
        assert_eq!(lately.get(&0), None);
    }
}
