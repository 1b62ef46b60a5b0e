//! The only clock, and the system's randomness.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[cfg(feature = "gateway")]
use crate::rng::Seeded;
use crate::{rng::Entropy, time::Time};

/// Counts from its making.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub fn new() -> Clock {
        Clock { origin: Instant::now() }
    }

    pub fn now(&self) -> Time {
        Time::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

impl Clock {
    /// Microseconds from the origin of this clock to 1970, backwards: what changes when the wall clock is set.
    pub fn offset(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        wall.saturating_sub_unsigned(self.now().as_micros())
    }
}

/// Seconds since 1970, for what is opened. Inside a turn nobody asks: [`Input::Clock`](crate::io::Input) tells who has to know.
#[cfg(any(feature = "backend", feature = "device"))]
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The system's random octets.
#[derive(Clone, Copy, Debug)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, octets: &mut [u8]) {
        getrandom::fill(octets).expect("a kernel that this library runs on has random octets");
    }
}

#[cfg(feature = "gateway")]
impl SystemEntropy {
    /// A source for jitter and tags.
    pub fn seeded(mut self) -> Seeded {
        Seeded::new(self.next_u64())
    }
}
