//! Pauses between tries: later and later, and not all at once.

use std::time::Duration;

use crate::rng::Entropy;

/// The pause after the first failure; it doubles up to the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

/// Failures in a row.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Backoff(u32);

impl Backoff {
    /// Something went well, or the network is another.
    pub fn reset(&mut self) {
        self.0 = 0;
    }

    /// The pause after another failure. Half of it is by chance, so that devices that failed together do not come back
    /// together.
    pub fn next(&mut self, rng: &mut dyn Entropy) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.0.min(16)).min(LONGEST);
        self.0 += 1;
        let half = longest.as_micros() as u32 / 2;
        Duration::from_micros(u64::from(half) + u64::from(rng.below(half + 1)))
    }
}
