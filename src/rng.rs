//! Randomness as the parts see it: octets handed in by whoever drives them.
#![forbid(unsafe_code)]

/// A source of random octets.
///
/// In production the driver hands in the system's (`getrandom`), because values drawn here become DNS query ids
/// that an attacker must not foresee (RFC 5452 §9.2). Tests and the simulator hand in a [`Seeded`] one.
pub trait Entropy {
    /// Overwrites the whole of `out` with random octets.
    fn fill(&mut self, out: &mut [u8]);

    /// Sixteen random bits.
    fn next_u16(&mut self) -> u16 {
        let mut octets = [0; 2];
        self.fill(&mut octets);
        u16::from_be_bytes(octets)
    }

    /// Sixty-four random bits.
    fn next_u64(&mut self) -> u64 {
        let mut octets = [0; 8];
        self.fill(&mut octets);
        u64::from_be_bytes(octets)
    }

    /// A number from 0 up to but not including `bound`; 0 when `bound` is 0.
    fn below(&mut self, bound: u32) -> u32 {
        // The high half of a 96-bit product: the bias is under bound / 2^64.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u32
    }
}

impl<E: Entropy + ?Sized> Entropy for Box<E> {
    fn fill(&mut self, out: &mut [u8]) {
        (**self).fill(out);
    }
}

impl<E: Entropy + ?Sized> Entropy for &mut E {
    fn fill(&mut self, out: &mut [u8]) {
        (**self).fill(out);
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): reproducible, and foreseeable by anyone who sees its output.
/// For tests and the simulator only.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// The source whose whole output follows from `seed`.
    pub const fn new(seed: u64) -> Seeded {
        Seeded(seed)
    }
}

impl Entropy for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_be_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_sequence() {
        let mut rng = Seeded::new(1234567);
        assert_eq!(rng.next_u64(), 6457827717110365317);
        assert_eq!(rng.next_u64(), 3203168211198807973);
    }

    #[test]
    fn the_same_seed_gives_the_same_octets() {
        let (mut a, mut b) = ([0; 13], [0; 13]);
        Seeded::new(7).fill(&mut a);
        Seeded::new(7).fill(&mut b);
        assert_eq!(a, b);
        assert_ne!(a, [0; 13]);
    }

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let mut rng = Seeded::new(3);
        let mut seen = [0; 5];
        for _ in 0..500 {
            seen[rng.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|n| *n > 50), "{seen:?}");
        assert_eq!(rng.below(0), 0);
    }
}
