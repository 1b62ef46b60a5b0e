//! Pauses between tries: later and later, and not all at once.

use std::time::Duration;

use crate::rng::Entropy;

/// The pause after the first failure; it doubles up to the longest.
const FIRST: Duration = Duration::from_secs(1);

/// Failures in a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    failures: u32,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::up_to(Duration::from_secs(600))
    }
}

impl Backoff {
    /// One with this longest pause, at most an hour.
    pub const fn up_to(longest: Duration) -> Backoff {
        Backoff { failures: 0, longest }
    }

    /// Failures in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Something went well, or the network is another.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause after another failure. Half of it is by chance, so that devices that failed together do not come back
    /// together.
    pub fn next(&mut self, rng: &mut dyn Entropy) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        let half = longest.as_micros() as u32 / 2;
        Duration::from_micros(u64::from(half) + u64::from(rng.below(half + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seeded;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let (mut rng, mut backoff) = (Seeded::new(1), Backoff::up_to(Duration::from_secs(30)));
        for longest in [1, 2, 4, 8, 16, 30, 30, 30] {
            let pause = backoff.next(&mut rng);
            let longest = Duration::from_secs(longest);
            assert!(pause >= longest / 2 && pause <= longest, "{pause:?} of {longest:?}");
        }
        backoff.reset();
        assert!(backoff.next(&mut rng) <= Duration::from_secs(1));
    }
}
