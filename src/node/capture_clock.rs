//! The clock that flows are aged by, between a capture's and the driver's.

use std::time::Duration;

use crate::time::Time;

/// The most that one frame moves the clock: no flow is kept over a longer silence, so more would change nothing but how
/// far a file that says it comes from the end of time can push it.
const MAX_STEP: Duration = Duration::from_secs(3600);
/// Frames that are out of order by no more than this are those of one clock. Less than any flow's patience.
const MAX_DISORDER: Duration = Duration::from_secs(60);

/// Places captured frames on a clock of its own, which flows are aged by: the first at the time when it is fed, each other
/// as long after it as it was captured after it. So a capture of last year is as good as a live one, and a file that is
/// read in a moment looks as it did on the wire. What it answers never goes back, whatever a capture's clock does.
///
/// A capture that is read faster than it was made puts this clock before the driver's, by hours or years. From then on it
/// goes with the driver's, as far before it as it is: what is live falls silent after its patience all the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct CaptureClock {
    /// A time of the capture's clock, and the one of ours that it is.
    tie: Option<(Time, Time)>,
    /// The capture's clock at its last frame.
    captured: Time,
    latest: Time,
    /// How far it is before the driver's.
    ahead: Duration,
}

impl CaptureClock {
    /// When a frame was captured: now, unless the capture has a clock of its own.
    pub fn at(&mut self, now: Time, captured: Option<Time>) -> Time {
        match captured {
            None => self.latest = self.latest.max(self.now(now)),
            Some(captured) => {
                let (first, at) = self.tie(now, captured);
                self.tie = Some((first, at));
                self.captured = captured;
                self.latest = self.latest.max(at + captured.since(first));
                self.ahead = self.latest.since(now);
            }
        }
        self.latest
    }

    /// What it shows at a time of the driver's.
    pub fn now(&self, now: Time) -> Time {
        now + self.ahead
    }

    /// When it will show `time`, by the driver's clock.
    pub fn due(&self, time: Time) -> Time {
        Time::ZERO + time.since(Time::ZERO + self.ahead)
    }

    /// Another capture begins: its first frame ties its clock anew.
    pub fn begin(&mut self) {
        self.tie = None;
    }

    /// What ties the capture's clock to ours: as before, unless that jumped.
    fn tie(&self, now: Time, captured: Time) -> (Time, Time) {
        match self.tie {
            None => (captured, self.latest.max(self.now(now))),
            Some(_) if captured.since(self.captured) > MAX_STEP => (captured, self.latest + MAX_STEP),
            Some(_) if self.captured.since(captured) > MAX_DISORDER => (captured, self.latest),
            Some(tie) => tie,
        }
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
        assert_eq!(
            clock.at(seconds(5), Some(seconds(131))),
            seconds(36),
            "out of order, and no time is lost"
        );
        assert_eq!(
            clock.at(seconds(6), None),
            seconds(37),
            "a frame of now, as far before as the capture is"
        );
        assert_eq!(
            clock.at(seconds(60), Some(seconds(132))),
            seconds(37),
            "and one of the capture, behind it"
        );
        assert_eq!(clock.at(seconds(61), None), seconds(61), "which is before no more");
    }

    #[test]
    fn another_capture_is_tied_anew() {
        let mut clock = CaptureClock::default();
        clock.at(seconds(5), Some(seconds(100)));
        clock.at(seconds(5), Some(seconds(160)));
        clock.begin();
        // Where the one before would be by now, since that is later than now.
        assert_eq!(clock.at(seconds(6), Some(seconds(3))), seconds(66));
        assert_eq!(clock.at(seconds(6), Some(seconds(4))), seconds(67));
    }

    #[test]
    fn a_capture_from_the_end_of_time_moves_it_by_an_hour() {
        let mut clock = CaptureClock::default();
        assert_eq!(clock.at(seconds(5), Some(seconds(100))), seconds(5));
        assert_eq!(clock.at(seconds(5), Some(Time::MAX)), seconds(3605));
        // Its next frame is right again; so is the one after, by its own clock.
        assert_eq!(clock.at(seconds(5), Some(seconds(101))), seconds(3605));
        assert_eq!(clock.at(seconds(5), Some(seconds(104))), seconds(3608));
        assert_eq!(clock.now(seconds(6)), seconds(3609));
        assert_eq!(clock.due(seconds(3609)), seconds(6));
        assert_eq!(clock.due(seconds(3)), Time::ZERO);
    }

    #[test]
    fn a_clock_that_was_set_back_goes_on_from_there() {
        let mut clock = CaptureClock::default();
        clock.at(seconds(5), Some(seconds(10_000)));
        assert_eq!(clock.at(seconds(6), Some(seconds(6400))), seconds(5));
        assert_eq!(clock.at(seconds(26), Some(seconds(6420))), seconds(25));
    }
}
