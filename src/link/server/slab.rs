//! Sessions, in chunks, so that a million of them neither move nor double when one more comes; and the timing wheel that
//! runs through them.

use crate::link::{Path, keys::Keys, window::Window};

/// Sessions at the most: their place is 24 bits of the connection id.
pub(super) const MAX_SESSIONS: u32 = (1 << 24) - 1;
/// Seconds after which the wheel is around. The longest silence is three intervals of 30 minutes.
const BUCKETS: usize = 8192;
const CHUNK: usize = 4096;
const NONE: u32 = u32::MAX;
/// In [`Entry::before`]: the entry is the first of the bucket in the low bits.
const FIRST: u32 = 1 << 31;

/// A place in the slab; 0 is none.
pub(super) type Slot = u32;

/// A session. What it needs while nothing is under way, and no octet more: there are a million of them.
pub(super) struct Entry {
    pub keys: Keys,
    address: [u8; 16],
    port: u16,
    sent: [u16; 3],
    pub window: Window,
    principal: [u32; 2],
    /// Index of what is under way; [`Entry::IDLE`] when nothing is.
    pub active: u32,
    /// Neighbours in a bucket of the wheel, or in the list of free places.
    before: u32,
    after: u32,
    /// Numbers of the next message to send and to hand up, while nothing is under way.
    pub numbers: (u32, u32),
    /// The second in which something opened last, modulo 2^16.
    pub heard: u16,
    /// Seconds between heartbeats.
    pub interval: u16,
    /// Part of the connection id: another for each session in this place and at each rekey.
    pub generation: u8,
    /// Part of the name given to the application: another for each session in this place.
    pub birth: u8,
    pub stage: Stage,
    /// Half hours that the device sleeps at the most; 0 while it is awake.
    pub sleep: u8,
}

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// The place is free.
    Free,
    /// The peer has not shown yet that it has the keys.
    Candidate,
    /// It has.
    Proven,
}

impl Entry {
    pub const IDLE: u32 = u32::MAX;

    fn free() -> Entry {
        Entry {
            keys: Keys::NONE,
            address: [0; 16],
            port: 0,
            sent: [0; 3],
            window: Window::NEW,
            principal: [0; 2],
            active: Entry::IDLE,
            before: NONE,
            after: NONE,
            numbers: (0, 0),
            heard: 0,
            interval: 0,
            generation: 0,
            birth: 0,
            stage: Stage::Free,
            sleep: 0,
        }
    }

    pub fn path(&self) -> Path {
        Path::of((self.address, self.port))
    }

    pub fn set_path(&mut self, path: Path) {
        (self.address, self.port) = path.octets();
    }

    pub fn principal(&self) -> u64 {
        u64::from(self.principal[0]) << 32 | u64::from(self.principal[1])
    }

    /// The counter of the next datagram.
    pub fn counter(&self) -> u64 {
        let [low, middle, high] = self.sent.map(u64::from);
        high << 32 | middle << 16 | low
    }

    pub fn set_counter(&mut self, counter: u64) {
        self.sent = [counter as u16, (counter >> 16) as u16, (counter >> 32) as u16];
    }

    /// Uses up a counter.
    pub fn take_counter(&mut self) -> u64 {
        let counter = self.counter();
        self.set_counter(counter + 1);
        counter
    }

    /// Seconds without a sign of life after which it is given up.
    pub fn patience(&self) -> u16 {
        match self.stage {
            Stage::Proven => 3 * self.interval + super::asleep::NAP * u16::from(self.sleep),
            _ => super::CANDIDATE_SECONDS,
        }
    }
}

pub(super) struct Slab {
    chunks: Vec<Box<[Entry]>>,
    free: u32,
    used: u32,
    limit: u32,
    wheel: Box<[u32]>,
    /// The second up to which the wheel has turned.
    second: u64,
}

impl Slab {
    pub fn new(limit: u32, second: u64) -> Slab {
        let limit = limit.min(MAX_SESSIONS);
        let wheel = vec![NONE; BUCKETS].into_boxed_slice();
        Slab { chunks: Vec::new(), free: NONE, used: 0, limit, wheel, second }
    }

    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit.min(MAX_SESSIONS);
    }

    pub fn len(&self) -> u32 {
        self.used
    }

    /// The session in a place, if there can be one.
    pub fn get(&self, slot: Slot) -> Option<&Entry> {
        let at = slot.checked_sub(1)? as usize;
        self.chunks.get(at / CHUNK)?.get(at % CHUNK).filter(|entry| entry.stage != Stage::Free)
    }

    /// The session in a place, if there can be one.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        let at = slot.checked_sub(1)? as usize;
        self.chunks.get_mut(at / CHUNK)?.get_mut(at % CHUNK).filter(|entry| entry.stage != Stage::Free)
    }

    /// A place for a candidate, `None` when all are taken.
    pub fn insert(&mut self, principal: u64, path: Path, keys: Keys, interval: u16) -> Option<Slot> {
        if self.used >= self.limit {
            return None;
        }
        if self.free == NONE {
            self.grow();
        }
        let slot = self.free;
        let heard = self.second as u16;
        let entry = self.raw(slot);
        let (after, generation, birth) = (entry.after, entry.generation, entry.birth);
        *entry = Entry {
            keys,
            principal: [(principal >> 32) as u32, principal as u32],
            heard,
            interval,
            generation,
            birth,
            stage: Stage::Candidate,
            ..Entry::free()
        };
        entry.set_path(path);
        self.free = after;
        self.used += 1;
        self.arm(slot, u64::from(super::CANDIDATE_SECONDS));
        Some(slot)
    }

    /// Frees a place.
    pub fn remove(&mut self, slot: Slot) {
        self.disarm(slot);
        let free = self.free;
        let entry = self.raw(slot);
        *entry = Entry {
            generation: entry.generation.wrapping_add(1),
            birth: entry.birth.wrapping_add(1),
            after: free,
            ..Entry::free()
        };
        self.free = slot;
        self.used -= 1;
    }

    /// The next generation that a place will have, for the connection id of who comes there.
    pub fn next_generation(&mut self) -> Option<(Slot, u8)> {
        if self.used >= self.limit {
            return None;
        }
        if self.free == NONE {
            self.grow();
        }
        let slot = self.free;
        Some((slot, self.raw(slot).generation))
    }

    /// Looks at a session again so many seconds from now.
    pub fn arm(&mut self, slot: Slot, seconds: u64) {
        self.disarm(slot);
        let seconds = seconds.clamp(1, BUCKETS as u64 - 1);
        let bucket = (self.second + seconds) as usize % BUCKETS;
        let first = std::mem::replace(&mut self.wheel[bucket], slot);
        if first != NONE {
            self.raw(first).before = slot;
        }
        let entry = self.raw(slot);
        (entry.before, entry.after) = (FIRST | bucket as u32, first);
    }

    /// Turns the wheel. The sessions to be looked at leave it.
    pub fn turn(&mut self, second: u64) -> Vec<Slot> {
        let mut due = Vec::new();
        let from = self.second.max(second.saturating_sub(BUCKETS as u64 - 1));
        for passed in from + 1..=second {
            self.second = passed;
            while self.wheel[passed as usize % BUCKETS] != NONE {
                let slot = self.wheel[passed as usize % BUCKETS];
                self.disarm(slot);
                due.push(slot);
            }
        }
        self.second = self.second.max(second);
        due
    }

    /// The second up to which the wheel has turned.
    pub fn second(&self) -> u64 {
        self.second
    }

    fn disarm(&mut self, slot: Slot) {
        let entry = self.raw(slot);
        let (before, after) = (entry.before, entry.after);
        if before == NONE {
            return;
        }
        (entry.before, entry.after) = (NONE, NONE);
        match before & FIRST {
            0 => self.raw(before).after = after,
            _ => self.wheel[(before & !FIRST) as usize] = after,
        }
        if after != NONE {
            self.raw(after).before = before;
        }
    }

    fn grow(&mut self) {
        let first = (self.chunks.len() * CHUNK) as u32 + 1;
        self.chunks.push((0..CHUNK).map(|_| Entry::free()).collect());
        for slot in (first..first + CHUNK as u32).rev() {
            let free = self.free;
            self.raw(slot).after = free;
            self.free = slot;
        }
    }

    fn raw(&mut self, slot: Slot) -> &mut Entry {
        let at = slot as usize - 1;
        &mut self.chunks[at / CHUNK][at % CHUNK]
    }
}

/// Connection ids: a keyed permutation of place and generation, so that no table by id is needed and ids tell nobody how
/// many there are. A Feistel network of four rounds; not meant to keep a secret.
pub(super) struct Ids {
    keys: [u32; 4],
}

impl Ids {
    pub fn new(seed: [u8; 16]) -> Ids {
        let (keys, _) = seed.as_chunks::<4>();
        Ids { keys: [0, 1, 2, 3].map(|at| u32::from_be_bytes(keys[at])) }
    }

    /// The id of a place and generation; never 0, which is the handshake's.
    pub fn id(&self, slot: Slot, generation: u8) -> u32 {
        match self.permute(slot | u32::from(generation) << 24) {
            0 => self.permute(0),
            id => id,
        }
    }

    /// Place and generation of an id.
    pub fn place(&self, id: u32) -> (Slot, u8) {
        let value = match self.invert(id) {
            0 => self.invert(0),
            value => value,
        };
        (value & 0xff_ffff, (value >> 24) as u8)
    }

    fn permute(&self, value: u32) -> u32 {
        let (mut left, mut right) = (value >> 16, value & 0xffff);
        for key in self.keys {
            (left, right) = (right, left ^ mix(right, key));
        }
        left << 16 | right
    }

    fn invert(&self, value: u32) -> u32 {
        let (mut left, mut right) = (value >> 16, value & 0xffff);
        for key in self.keys.iter().rev() {
            (left, right) = (right ^ mix(left, *key), left);
        }
        left << 16 | right
    }
}

fn mix(half: u32, key: u32) -> u32 {
    let mut x = (half ^ key).wrapping_mul(0x85eb_ca6b);
    x ^= x >> 13;
    x = x.wrapping_mul(0xc2b2_ae35).wrapping_add(key);
    (x >> 16) & 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Entropy, Seeded};
    use std::collections::BTreeMap;

    const HERE: Path = Path::Stream(1);

    #[test]
    fn an_idle_session_is_small() {
        println!("size of a session: {} octets", size_of::<Entry>());
        assert!(size_of::<Entry>() <= 150, "{}", size_of::<Entry>());
    }

    #[test]
    fn ids_are_a_permutation_without_zero() {
        let mut rng = Seeded::new(1);
        for _ in 0..50 {
            let mut seed = [0; 16];
            rng.fill(&mut seed);
            let ids = Ids::new(seed);
            for _ in 0..1000 {
                let (slot, generation) = (1 + rng.below(MAX_SESSIONS), rng.next_u16() as u8);
                let id = ids.id(slot, generation);
                assert_ne!(id, 0);
                assert_eq!(ids.place(id), (slot, generation));
            }
            let zero = ids.invert(0);
            let place = (zero & 0xff_ffff, (zero >> 24) as u8);
            if place != (0, 0) {
                assert_eq!(ids.place(ids.id(place.0, place.1)), place);
            }
        }
    }

    #[test]
    fn the_wheel_agrees_with_a_map() {
        let mut rng = Seeded::new(2);
        let mut slab = Slab::new(10_000, 5);
        let mut model: BTreeMap<Slot, u64> = BTreeMap::new();
        let mut second = 5;
        for _ in 0..20_000 {
            match rng.below(5) {
                0 | 1 => {
                    let slot = slab.insert(7, HERE, Keys::NONE, 10).unwrap();
                    assert!(model.insert(slot, second + 10).is_none());
                }
                2 => {
                    if let Some(slot) = model.keys().nth(rng.below(1 + model.len() as u32) as usize).copied()
                    {
                        let ahead = 1 + u64::from(rng.below(5400));
                        slab.arm(slot, ahead);
                        model.insert(slot, second + ahead);
                    }
                }
                3 => {
                    if let Some(slot) = model.keys().nth(rng.below(1 + model.len() as u32) as usize).copied()
                    {
                        slab.remove(slot);
                        model.remove(&slot);
                    }
                }
                _ => {
                    second += u64::from(rng.below(4));
                    let mut due = slab.turn(second);
                    due.sort_unstable();
                    let expected: Vec<Slot> =
                        model.iter().filter(|(_, at)| **at <= second).map(|(slot, _)| *slot).collect();
                    assert_eq!(due, expected);
                    due.into_iter().for_each(|slot| {
                        model.remove(&slot);
                        slab.remove(slot);
                    });
                }
            }
            assert_eq!(slab.len() as usize, model.len());
        }
        assert_eq!(slab.turn(second + 100_000).len(), model.len(), "a jump of the clock misses none");
    }

    #[test]
    fn the_slab_has_a_bound_and_uses_places_again_under_other_ids() {
        let mut slab = Slab::new(3, 0);
        let slots: Vec<Slot> = (0..3).map(|_| slab.insert(1, HERE, Keys::NONE, 10).unwrap()).collect();
        assert_eq!(slab.insert(1, HERE, Keys::NONE, 10), None);
        assert_eq!(slab.next_generation(), None);
        let before = slab.get(slots[1]).unwrap().generation;
        slab.remove(slots[1]);
        assert!(slab.get(slots[1]).is_none());
        assert_eq!(slab.next_generation(), Some((slots[1], before + 1)));
        assert_eq!(slab.insert(1, HERE, Keys::NONE, 10), Some(slots[1]));
        assert!(slab.get(0).is_none() && slab.get(MAX_SESSIONS).is_none());
    }
}
