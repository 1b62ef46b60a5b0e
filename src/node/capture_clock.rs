//! The clock of a capture, tied to the driver's.

use crate::time::Time;

/// Places captured frames on the driver's clock, which flows are aged by: the first at the time when it is fed, each other
/// as long after it as it was captured after it. So a capture of last year is as good as a live one, and a file that is
/// read in a moment looks as it did on the wire. What it answers never goes back, whatever a capture's clock does.
#[derive(Clone, Copy, Debug, Default)]
pub struct CaptureClock {
    /// A time of the capture's clock, and the one of the driver's that it is.
    tie: Option<(Time, Time)>,
    latest: Time,
}

impl CaptureClock {
    /// When a frame was captured, by the driver's clock: now, unless the capture has a clock of its own.
    pub fn at(&mut self, now: Time, captured: Option<Time>) -> Time {
        let time = match captured {
            None => now,
            Some(captured) => {
                let (first, at) = *self.tie.get_or_insert((captured, now.max(self.latest)));
                at + captured.since(first)
            }
        };
        self.latest = self.latest.max(time);
        self.latest
    }

    /// Another capture begins: its first frame ties its clock anew.
    pub fn begin(&mut self) {
        self.tie = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Time {
        Time::from_micros(count * 1_000_000)
    }

    #[test]
    fn a_capture_keeps_its_pace_from_the_moment_it_is_fed() {
        let mut clock = CaptureClock::default();
        let year = seconds(1_700_000_000);
        assert_eq!(clock.at(seconds(5), Some(year)), seconds(5));
        assert_eq!(clock.at(seconds(5), Some(seconds(1_700_000_060))), seconds(65));
        // The driver's own clock, meanwhile.
        assert_eq!(clock.at(seconds(6), Some(seconds(1_700_000_061))), seconds(66));
    }

    #[test]
    fn time_never_goes_back() {
        let mut clock = CaptureClock::default();
        assert_eq!(clock.at(seconds(5), Some(seconds(100))), seconds(5));
        assert_eq!(clock.at(seconds(5), Some(seconds(130))), seconds(35));
        assert_eq!(clock.at(seconds(5), Some(seconds(90))), seconds(35), "before the first");
        assert_eq!(clock.at(seconds(6), None), seconds(35), "a frame of now, behind the capture");
        assert_eq!(clock.at(seconds(40), None), seconds(40));
        assert_eq!(clock.at(seconds(41), Some(seconds(131))), seconds(40));
        let mut clock = CaptureClock::default();
        clock.at(seconds(5), Some(Time::ZERO));
        assert_eq!(clock.at(seconds(5), Some(Time::MAX)), Time::MAX, "nor over the end");
    }

    #[test]
    fn another_capture_is_tied_anew() {
        let mut clock = CaptureClock::default();
        clock.at(seconds(5), Some(seconds(100)));
        clock.at(seconds(5), Some(seconds(160)));
        clock.begin();
        // Where the one before ended, since that is later than now.
        assert_eq!(clock.at(seconds(6), Some(seconds(3))), seconds(65));
        assert_eq!(clock.at(seconds(6), Some(seconds(4))), seconds(66));
    }
}
