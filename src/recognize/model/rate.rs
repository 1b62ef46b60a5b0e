//! A count allowed per interval.

use crate::time::Time;
use std::time::Duration;

/// How much of the current interval is used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    start: Time,
    used: u32,
}

impl Window {
    /// Whether one more is allowed at `now`; if so it is counted. An interval starts with its first use.
    pub(super) fn admit(&mut self, now: Time, interval: Duration, most: u32) -> bool {
        if self.is_over(now, interval) {
            *self = Window { start: now, used: 0 };
        }
        let allowed = self.used < most;
        self.used += u32::from(allowed);
        allowed
    }

    /// Whether nothing of it is left to remember.
    pub(super) fn is_over(&self, now: Time, interval: Duration) -> bool {
        self.used == 0 || now.since(self.start) >= interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_an_interval_and_again_after_it() {
        let (interval, second) = (Duration::from_secs(10), Duration::from_secs(1));
        let mut window = Window::default();
        let mut now = Time::from_micros(5);
        let mut admitted = 0;
        for _ in 0..30 {
            admitted += u32::from(window.admit(now, interval, 2));
            now += second;
        }
        assert_eq!(admitted, 6);
        assert!(!Window::default().admit(now, interval, 0));
    }
}
