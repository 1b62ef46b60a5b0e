//! The wall clock, which may be set while the hub works.
//!
//! Nobody can tell whether it was wrong before or is now. So what a jump forward would end has a grace, in which the clock may be
//! put back without harm; after a jump back nothing lives longer than what begins now may.

use super::*;
use crate::wire::app::MAX_TTL;

/// How long what expires goes by the time from before a jump forward.
const GRACE: Duration = Duration::from_secs(3600);

/// Seconds of a jump forward that nobody doubts.
const DOUBTED: u64 = 60;

impl Hub {
    /// The wall clock was set: it is this Unix second now.
    pub fn set_unix(&mut self, now: Time, unix: u64) {
        let (is_back, forward) = (unix < self.unix(now), unix.saturating_sub(self.unix(now)));
        let (before, until) = self.doubted.filter(|(_, until)| now < *until).unwrap_or((self.epoch, now));
        let until = if forward > DOUBTED { now + GRACE } else { until };
        self.epoch = unix.saturating_mul(1_000_000).saturating_sub(now.as_micros());
        self.doubted = (before < self.epoch && now < until).then_some((before, until));
        if is_back {
            self.sweep.turned_back(unix);
        }
    }

    /// The Unix second that it is.
    pub fn unix(&self, now: Time) -> u64 {
        (self.epoch + now.as_micros()) / 1_000_000
    }

    /// The Unix second by which things expire.
    pub(super) fn surely(&self, now: Time) -> u64 {
        match self.doubted {
            Some((epoch, until)) if now < until => (epoch + now.as_micros()) / 1_000_000,
            _ => self.unix(now),
        }
    }
}

/// The latest Unix second at which something may expire that is kept now.
pub(super) fn latest(unix: u64) -> u32 {
    u32::try_from(unix + u64::from(MAX_TTL)).unwrap_or(u32::MAX)
}
