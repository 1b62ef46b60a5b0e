//! Which rows of features a group has: a ring of slots for each gateway and application.
//!
//! An acknowledged report is durable, and stays until newer ones of the same gateway push it out, or until the whole
//! group has so many that the one silent longest gives way. The gateway chooses the AppID, so their number is bounded too.

use std::collections::{HashMap, VecDeque};

use super::Voter;
use crate::{replica::Replica, wire::AppId};

/// The bounds of a group's features.
#[derive(Clone, Copy, Debug)]
pub(super) struct FeatureBounds {
    /// Reports kept of one gateway for one application; at least 1.
    pub slots: u16,
    /// Applications kept of one gateway; at least 1.
    pub apps: usize,
    /// Reports kept of all; at least 1.
    pub in_all: usize,
}

/// Where a report is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Slot {
    pub app: AppId,
    pub voter: Voter,
    pub slot: u16,
}

#[derive(Clone, Copy, Debug)]
struct Ring {
    next: u16,
    filled: u16,
}

/// A group's rings.
#[derive(Default)]
pub(super) struct Features {
    /// The one written longest ago comes first.
    rings: Replica<(AppId, Voter), Ring>,
    /// Applications of each gateway; the one written longest ago comes first.
    apps: HashMap<Voter, VecDeque<AppId>>,
    rows: usize,
}

impl Features {
    /// Rows kept.
    #[cfg(test)]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The slot for a new report, and those that must go for it.
    pub fn take(&mut self, app: AppId, voter: Voter, bounds: &FeatureBounds) -> (Slot, Vec<Slot>) {
        let mut gone = Vec::new();
        let mut ring = self.rings.get(&(app, voter)).copied().unwrap_or(Ring { next: 0, filled: 0 });
        if ring.filled == 0
            && let Some(apps) = self.apps.get(&voter)
            && apps.len() >= bounds.apps
            && let Some(&oldest) = apps.front()
        {
            self.drop_ring(oldest, voter, &mut gone);
        }
        let slot = ring.next.min(bounds.slots - 1);
        if ring.filled < bounds.slots {
            ring.filled += 1;
            self.rows += 1;
        }
        ring.next = (slot + 1) % bounds.slots;
        self.put(app, voter, ring);
        while self.rows > bounds.in_all
            && let Some((_, (app, voter), _)) = self.rings.oldest()
            && self.rings.len() > 1
        {
            self.drop_ring(app, voter, &mut gone);
        }
        (Slot { app, voter, slot }, gone)
    }

    /// Puts back a ring as it was stored, the one written longest ago first.
    pub fn restore(&mut self, app: AppId, voter: Voter, next: u16, filled: u16) {
        self.rows += usize::from(filled);
        self.put(app, voter, Ring { next, filled });
    }

    fn put(&mut self, app: AppId, voter: Voter, ring: Ring) {
        self.rings.put((app, voter), ring);
        let apps = self.apps.entry(voter).or_default();
        if let Some(at) = apps.iter().position(|known| *known == app) {
            apps.remove(at);
        }
        apps.push_back(app);
    }

    fn drop_ring(&mut self, app: AppId, voter: Voter, gone: &mut Vec<Slot>) {
        let Some(ring) = self.rings.remove(&(app, voter)) else { return };
        gone.extend((0..ring.filled).map(|slot| Slot { app, voter, slot }));
        self.rows -= usize::from(ring.filled);
        if let Some(apps) = self.apps.get_mut(&voter) {
            apps.retain(|known| *known != app);
            if apps.is_empty() {
                self.apps.remove(&voter);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const BOUNDS: FeatureBounds = FeatureBounds { slots: 3, apps: 2, in_all: 9 };

    fn voter(octet: u8) -> Voter {
        Voter::Address([10, 0, 0, octet].into())
    }

    #[test]
    fn a_ring_goes_around_and_a_new_application_takes_the_place_of_the_one_silent_longest() {
        let mut features = Features::default();
        let mut take = |app| features.take(AppId(app), voter(1), &BOUNDS);
        let slots: Vec<u16> = (0..5).map(|_| take(7).0.slot).collect();
        assert_eq!(slots, [0, 1, 2, 0, 1]);
        assert_eq!(take(8).1, []);
        assert_eq!(take(7).1, [], "7 is younger now");
        let (slot, gone) = take(9);
        assert_eq!((slot.app, gone), (AppId(9), vec![Slot { app: AppId(8), voter: voter(1), slot: 0 }]));
        assert_eq!(take(10).1.len(), 3);
    }

    #[test]
    fn whatever_comes_the_rows_are_bounded_and_known() {
        let (mut features, mut rows) = (Features::default(), BTreeSet::new());
        for count in 0..2000u32 {
            let (app, of) = (AppId(count * 7 % 5), voter((count * 11 % 6) as u8));
            let (slot, gone) = features.take(app, of, &BOUNDS);
            rows.insert(slot);
            gone.iter().for_each(|slot| assert!(rows.remove(slot), "{slot:?} was not there"));
            assert!(rows.contains(&slot) && rows.len() <= BOUNDS.in_all);
            assert_eq!(features.rows(), rows.len());
        }
    }
}
