//! Seeded pseudo-random numbers for training: the same seed gives the same model.

use crate::rng::{Entropy, Seeded};

/// Numbers that nobody needs to be kept from foreseeing.
#[derive(Clone, Debug)]
pub(super) struct Random(Seeded);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(Seeded::new(seed))
    }

    /// Evenly in `0..bound`; 0 when `bound` is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound as u32) as usize
    }

    /// Evenly in -1 to 1.
    pub(super) fn signed(&mut self) -> f32 {
        (self.0.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// A hash of `words` under `seed`. Whoever does not know the seed cannot choose the outcome.
pub(super) fn hash(seed: u64, words: impl Iterator<Item = u32>) -> u64 {
    words.fold(mix(seed ^ 0x6a09_e667_f3bc_c908), |h, w| mix(h ^ u64::from(w)).wrapping_add(seed))
}

fn mix(value: u64) -> u64 {
    let z = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_numbers_in_range() {
        let (mut a, mut b) = (Random::new(4), Random::new(4));
        let mut sum = 0.0;
        for _ in 0..1000 {
            let x = a.signed();
            assert_eq!(x, b.signed());
            assert!((-1.0..1.0).contains(&x));
            sum += x;
            assert!(a.below(7) < 7 && b.below(7) < 7);
        }
        assert!(sum.abs() < 60.0);
        assert_eq!(a.below(0), 0);
    }

    #[test]
    fn hash_depends_on_seed_and_words() {
        assert_eq!(hash(1, [1, 2].into_iter()), hash(1, [1, 2].into_iter()));
        assert_ne!(hash(1, [1, 2].into_iter()), hash(2, [1, 2].into_iter()));
        assert_ne!(hash(1, [1, 2].into_iter()), hash(1, [2, 1].into_iter()));
    }
}
