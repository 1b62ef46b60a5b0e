//! Round-trip time and congestion window (RFC 9002 §5 and §7), counted in datagrams.

use std::time::Duration;

use crate::time::Time;

/// Before the first sample (RFC 9002 §6.2.2).
const INITIAL_RTT: Duration = Duration::from_millis(333);
/// The longest that a receiver waits with an acknowledgement.
pub(super) const MAX_ACK_DELAY: Duration = Duration::from_millis(25);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(200);
/// The same where a piece that is sent in vain is paid for (RFC 8085 §3.1.1 has a second where nothing is known).
const FRUGAL_TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);
const INITIAL_WINDOW: usize = 10;
const LEAST_WINDOW: usize = 2;
const MOST_WINDOW: usize = 512;

pub(super) struct Recovery {
    smoothed: Option<Duration>,
    variation: Duration,
    least: Duration,
    window: usize,
    threshold: usize,
    /// Acknowledged since the window last grew, beyond the threshold.
    credit: usize,
    /// What was sent until then does not shrink the window again.
    recovering: Option<Time>,
}

impl Recovery {
    pub fn new() -> Recovery {
        Recovery {
            smoothed: None,
            variation: INITIAL_RTT / 2,
            least: Duration::MAX,
            window: INITIAL_WINDOW,
            threshold: usize::MAX,
            credit: 0,
            recovering: None,
        }
    }

    /// Datagrams that may be under way.
    pub fn window(&self) -> usize {
        self.window
    }

    /// A round trip took that long, of which the peer says that it waited `delay`.
    pub fn sample(&mut self, took: Duration, delay: Duration) {
        self.least = self.least.min(took);
        let delay = delay.min(MAX_ACK_DELAY);
        let took = if took >= self.least + delay { took - delay } else { took };
        match self.smoothed {
            None => {
                self.smoothed = Some(took);
                self.variation = took / 2;
            }
            Some(smoothed) => {
                self.variation = self.variation * 3 / 4 + smoothed.abs_diff(took) / 4;
                self.smoothed = Some(smoothed * 7 / 8 + took / 8);
            }
        }
    }

    /// How long to wait for an acknowledgement, after so many waits in vain.
    pub fn timeout(&self, vain: u32, frugal: bool) -> Duration {
        let shortest = if frugal { FRUGAL_TIMEOUT } else { SHORTEST_TIMEOUT };
        let base = self.smoothed.unwrap_or(INITIAL_RTT) + 4 * self.variation + MAX_ACK_DELAY;
        (base.max(shortest) * (1 << vain.min(8))).min(LONGEST_TIMEOUT)
    }

    /// A datagram sent at `sent` was acknowledged while the window was in use.
    pub fn arrived(&mut self, sent: Time) {
        if self.recovering.is_some_and(|since| sent <= since) {
            return;
        }
        if self.window < self.threshold {
            self.window += 1;
        } else {
            self.credit += 1;
            if self.credit >= self.window {
                self.credit = 0;
                self.window += 1;
            }
        }
        self.window = self.window.min(MOST_WINDOW);
    }

    /// A datagram sent at `sent` is lost.
    pub fn lost(&mut self, now: Time, sent: Time) {
        if self.recovering.is_some_and(|since| sent <= since) {
            return;
        }
        self.recovering = Some(now);
        self.window = (self.window / 2).max(LEAST_WINDOW);
        self.threshold = self.window;
        self.credit = 0;
    }

    /// Nothing arrives at all.
    pub fn collapse(&mut self) {
        self.threshold = (self.window / 2).max(LEAST_WINDOW).min(self.threshold);
        self.window = LEAST_WINDOW;
        self.recovering = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_timeout_follows_the_round_trip_and_doubles() {
        let mut recovery = Recovery::new();
        assert_eq!(recovery.timeout(0, false), 333 * MS + 2 * 333 * MS + 25 * MS);
        for _ in 0..100 {
            recovery.sample(50 * MS, Duration::ZERO);
        }
        assert_eq!(recovery.timeout(0, false), 200 * MS);
        assert_eq!(recovery.timeout(3, false), 1600 * MS);
        assert_eq!(recovery.timeout(3, true), 8000 * MS);
        assert_eq!(recovery.timeout(40, false), LONGEST_TIMEOUT);
        for _ in 0..100 {
            recovery.sample(500 * MS, 400 * MS);
        }
        assert!(
            (475 * MS..530 * MS).contains(&recovery.timeout(0, false)),
            "no more than 25 ms of a delay are believed"
        );
    }

    #[test]
    fn the_window_grows_halves_once_a_round_trip_and_collapses() {
        let at = |ms| Time::ZERO + ms * MS;
        let mut recovery = Recovery::new();
        (0..20).for_each(|_| recovery.arrived(at(1)));
        assert_eq!(recovery.window(), 30);
        recovery.lost(at(10), at(5));
        recovery.lost(at(11), at(6));
        assert_eq!(recovery.window(), 15);
        recovery.arrived(at(7));
        (0..15).for_each(|_| recovery.arrived(at(12)));
        assert_eq!(recovery.window(), 16);
        recovery.lost(at(20), at(13));
        assert_eq!(recovery.window(), 8);
        recovery.collapse();
        assert_eq!(recovery.window(), 2);
        (0..100_000).for_each(|_| recovery.arrived(at(30)));
        assert!(recovery.window() > 100);
        (0..1_000_000).for_each(|_| recovery.arrived(at(30)));
        assert_eq!(recovery.window(), MOST_WINDOW);
    }
}
