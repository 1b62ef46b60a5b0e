//! Sessions whose devices sleep, and for which something waits: as much as there is room for.

use std::collections::BTreeMap;

use super::{Entry, Server, Slot, Why, session::Active};
use crate::{
    status::{Fault, Status},
    time::Time,
    wire::link::Rhythm,
};

/// Seconds of a step of [`Entry::sleep`].
pub(super) const NAP: u16 = 1800;
/// Of the octets that may wait in all sessions, sleeping ones have so many parts of a hundred.
const SHARE: usize = 25;

/// What waits for sleepers.
#[derive(Default)]
pub(super) struct Asleep {
    octets_of: BTreeMap<Slot, usize>,
    octets: usize,
}

impl Asleep {
    /// So many octets wait for a session that sleeps.
    pub fn note(&mut self, slot: Slot, octets: usize) {
        let before = self.octets_of.insert(slot, octets).unwrap_or(0);
        self.octets = self.octets + octets - before;
    }

    /// It woke, or is over, or nothing waits any more.
    pub fn forget(&mut self, slot: Slot) {
        self.octets -= self.octets_of.remove(&slot).unwrap_or(0);
    }
}

impl Server {
    /// What the newest ask says of the time until the next sign of life.
    pub(super) fn heed(&mut self, now: Time, slot: Slot, rhythm: Rhythm) {
        let (shortest, longest) = self.config.intervals;
        match rhythm {
            Rhythm::Same => {}
            Rhythm::Every(seconds) => {
                let Some(entry) = self.slab.get_mut(slot) else { return };
                let before = entry.patience();
                entry.interval = seconds.clamp(shortest, longest);
                let patience = entry.patience();
                // The wheel looks again by itself at one that may be silent for longer.
                if patience < before {
                    self.slab.arm(slot, patience.into());
                }
            }
            Rhythm::Asleep(seconds) => {
                // What the device is owed it gets while it still listens.
                if self.under_way(slot).is_some() {
                    self.with_active(now, slot, |active| active.reliable.hurry(now));
                    self.pump(now, slot);
                }
                let Some(entry) = self.slab.get_mut(slot) else { return };
                self.counters.slept += u64::from(entry.sleep == 0);
                entry.sleep = (seconds / NAP) as u8;
                if self.under_way(slot).is_some() {
                    self.with_active(now, slot, |_| ());
                    if self.is_too_much_asleep(slot) {
                        self.give_up_asleep(slot);
                    }
                }
            }
        }
    }

    /// The device is awake again: what waited goes out, and so does again what was under way.
    pub(super) fn wake(&mut self, now: Time, slot: Slot) {
        self.asleep.forget(slot);
        let Some(entry) = self.slab.get_mut(slot) else { return };
        entry.sleep = 0;
        let patience = entry.patience();
        self.slab.arm(slot, patience.into());
        if self.under_way(slot).is_some() {
            self.with_active(now, slot, |active: &mut Active| active.reliable.wake(now));
            self.pump(now, slot);
        }
    }

    pub(super) fn sleeps(&self, slot: Slot) -> bool {
        self.slab.get(slot).is_some_and(|entry: &Entry| entry.sleep > 0)
    }

    /// Whether there is no room for what waits for a session that sleeps.
    pub(super) fn is_too_much_asleep(&self, slot: Slot) -> bool {
        let Asleep { octets_of, octets } = &self.asleep;
        let share = self.config.max_queued / 100 * SHARE;
        octets_of.contains_key(&slot) && (octets_of.len() > self.config.max_asleep || *octets > share)
    }

    /// Gives one up: the device resumes when it wakes, and who has messages for it is told.
    pub(super) fn give_up_asleep(&mut self, slot: Slot) -> Fault {
        self.counters.asleep_full += 1;
        self.gone(slot, Why::Silent);
        Fault::new(Status::NotFound, "the device sleeps, and its session was given up for want of room")
    }
}
