//! Which counters of a session came already, and which counter a 16-bit sequence means.

/// Counters below the highest that are still told apart.
pub const WIDTH: u64 = 128;

/// The replay window of one direction: 22 octets, since a million of them are kept.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// One past the highest that opened: 48 bits, which a rekey after 2^32 keeps far away.
    next: [u16; 3],
    /// Bit `n` is set when `next - 1 - n` opened.
    seen: [u32; 4],
}

impl Window {
    /// Nothing came.
    pub const NEW: Window = Window { next: [0; 3], seen: [0; 4] };

    /// One past the highest that opened.
    pub fn next(&self) -> u64 {
        let [low, middle, high] = self.next.map(u64::from);
        high << 32 | middle << 16 | low
    }

    /// The counter that a sequence means: the nearest to one past the highest.
    pub fn rebuild(&self, sequence: u16) -> u64 {
        let next = self.next();
        let ahead = sequence.wrapping_sub(next as u16);
        // Below half the circle it is ahead or the next; else it is behind, unless that would be before the beginning.
        match ahead < 0x8000 {
            true => next + u64::from(ahead),
            false => {
                let behind = 0x1_0000 - u64::from(ahead);
                next.checked_sub(behind).unwrap_or(next + u64::from(ahead))
            }
        }
    }

    /// Whether a counter did not come yet, as far as can be told.
    pub fn is_fresh(&self, counter: u64) -> bool {
        let next = self.next();
        if counter >= next {
            return counter < 1 << 48;
        }
        let back = next - 1 - counter;
        back < WIDTH && self.bits() >> back & 1 == 0
    }

    /// Notes a counter that opened. Returns whether it is the newest.
    pub fn note(&mut self, counter: u64) -> bool {
        let next = self.next();
        let mut bits = self.bits();
        let newest = counter >= next;
        if newest {
            let by = counter + 1 - next;
            bits = if by < WIDTH { bits << by } else { 0 } | 1;
            let value = counter + 1;
            self.next = [value as u16, (value >> 16) as u16, (value >> 32) as u16];
        } else if next - 1 - counter < WIDTH {
            bits |= 1 << (next - 1 - counter);
        }
        self.seen = [0, 32, 64, 96].map(|shift| (bits >> shift) as u32);
        newest
    }

    fn bits(&self) -> u128 {
        self.seen.iter().rev().fold(0, |bits, word| bits << 32 | u128::from(*word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Entropy, Seeded};
    use std::collections::BTreeSet;

    #[test]
    fn each_counter_opens_once_and_only_within_the_window() {
        let mut window = Window::NEW;
        assert!(window.is_fresh(0));
        assert!(window.note(0));
        assert!(!window.is_fresh(0));
        assert!(window.note(200));
        assert!(!window.is_fresh(72) && window.is_fresh(73));
        assert!(!window.note(73));
        assert!(!window.is_fresh(73) && window.is_fresh(74));
        assert!(window.note(327));
        assert!(!window.is_fresh(200) && window.is_fresh(201));
        assert!(window.note(10_000) && window.is_fresh(9_999) && !window.is_fresh(327));
        assert!(!window.is_fresh(1 << 48));
    }

    #[test]
    fn it_agrees_with_a_set() {
        let mut rng = Seeded::new(1);
        let (mut window, mut seen, mut highest) = (Window::NEW, BTreeSet::new(), 0u64);
        for _ in 0..20_000 {
            let counter = (highest + u64::from(rng.below(160))).saturating_sub(140);
            let fresh = !seen.contains(&counter) && counter + WIDTH > highest;
            assert_eq!(window.is_fresh(counter), fresh || (seen.is_empty()), "{counter} of {highest}");
            if window.is_fresh(counter) {
                window.note(counter);
                seen.insert(counter);
                highest = highest.max(counter);
            }
        }
    }

    #[test]
    fn a_sequence_means_the_nearest_counter() {
        let mut window = Window::NEW;
        assert_eq!(window.rebuild(5), 5);
        assert_eq!(window.rebuild(0xffff), 0xffff, "nothing is before the beginning");
        window.note(0x1_fffe);
        assert_eq!(window.rebuild(0xffff), 0x1_ffff);
        assert_eq!(window.rebuild(0), 0x2_0000);
        assert_eq!(window.rebuild(0xfff0), 0x1_fff0);
        assert_eq!(window.rebuild(0x7ffe), 0x2_7ffe);
        assert_eq!(window.rebuild(0x7fff), 0x1_7fff);
    }
}
