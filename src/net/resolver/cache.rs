//! Answers kept for as long as they may be, in bounded number.

use std::collections::BTreeMap;

use super::answer::{Answer, Key, Outcome};
use crate::time::Time;

/// Most answers kept.
pub const MAX_ENTRIES: usize = 512;

// Ordered rather than hashed: what is thrown out must not depend on a process's hash seed, or a simulation would not
// repeat itself.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: BTreeMap<Key, Answer>,
}

impl Cache {
    pub fn get(&self, now: Time, key: &Key) -> Option<&Answer> {
        self.entries.get(key).filter(|answer| answer.expires > now)
    }

    /// Keeps an answer, unless it is a failure. Returns whether another that was still good had to go for it.
    pub fn insert(&mut self, now: Time, key: &Key, answer: &Answer) -> bool {
        if matches!(answer.outcome, Outcome::Failed(_)) {
            return false;
        }
        let mut evicted = false;
        if self.entries.len() >= MAX_ENTRIES && !self.entries.contains_key(key) {
            self.entries.retain(|_, answer| answer.expires > now);
            if self.entries.len() >= MAX_ENTRIES {
                let soonest = self.entries.iter().min_by_key(|(_, answer)| answer.expires);
                let soonest = soonest.map(|(key, _)| key.clone()).expect("a full cache is not empty");
                self.entries.remove(&soonest);
                evicted = true;
            }
        }
        self.entries.insert(key.clone(), answer.clone());
        evicted
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        net::resolver::error::Failure,
        wire::dns::{Name, RecordType},
    };

    fn key(i: usize) -> Key {
        (Name::parse(&format!("host{i}")).unwrap(), RecordType::A)
    }

    fn answer(outcome: Outcome, seconds: u64) -> Answer {
        Answer { outcome, expires: Time::ZERO + Duration::from_secs(seconds) }
    }

    #[test]
    fn an_answer_is_there_until_it_expires() {
        let mut cache = Cache::default();
        cache.insert(Time::ZERO, &key(1), &answer(Outcome::NoName, 10));
        assert!(cache.get(Time::ZERO + Duration::from_secs(9), &key(1)).is_some());
        assert!(cache.get(Time::ZERO + Duration::from_secs(10), &key(1)).is_none());
        assert!(cache.get(Time::ZERO, &(key(1).0, RecordType::Aaaa)).is_none());
    }

    #[test]
    fn a_failure_is_not_kept() {
        let mut cache = Cache::default();
        cache.insert(Time::ZERO, &key(1), &answer(Outcome::Failed(Failure::Timeout), 10));
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn full_it_drops_the_expired_and_then_the_next_to_expire() {
        let mut cache = Cache::default();
        for i in 0..MAX_ENTRIES {
            assert!(!cache.insert(Time::ZERO, &key(i), &answer(Outcome::NoData, 100 + i as u64)));
        }
        let evicted = cache.insert(Time::ZERO, &key(9000), &answer(Outcome::NoData, 1000));
        assert!(evicted && cache.get(Time::ZERO, &key(0)).is_none());
        assert_eq!(cache.len(), MAX_ENTRIES);
        let later = Time::ZERO + Duration::from_secs(110);
        assert!(!cache.insert(later, &key(9001), &answer(Outcome::NoData, 1000)));
        assert_eq!(cache.len(), MAX_ENTRIES - 9);
        assert!(!cache.insert(later, &key(9001), &answer(Outcome::NoName, 1000)));
    }
}
