//! Seeded pseudo-random numbers for training: the same seed gives the same model.

/// SplitMix64. Not for secrets.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Evenly in `0..most`; 0 when `most` is 0.
    pub(super) fn below(&mut self, most: usize) -> usize {
        ((self.next() >> 32) * most as u64 >> 32) as usize
    }

    /// Evenly in -1 to 1.
    pub(super) fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
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
