//! How long a device may be silent before what is between it and the server forgets it: found by trying, each time a little
//! longer, and kept to with a margin.

use std::time::Duration;

use crate::{time::Time, wire::link::Rhythm};

/// The shortest interval, in seconds.
const SHORTEST: u16 = 10;
/// The longest, as the server heeds them.
const LONGEST: u16 = 1800;
/// Heartbeats that were answered between two tries.
const STABLE: u8 = 2;
/// Heartbeats after which the interval in use is tried again, since nothing else shows that a network has changed its ways.
const CHECK: u8 = 8;
/// How long it is believed that a silence is too long.
const DOUBT: Duration = Duration::from_secs(86_400);

/// What a network was seen to do, in seconds; 0 where nothing is known.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Silences {
    /// The longest silence after which the server's datagrams still arrived.
    pub lasted: u16,
    /// The shortest after which they did not.
    pub failed: u16,
}

/// When the next heartbeat is due, and how it is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    /// Seconds of silence before it.
    pub after: u16,
    /// Whether from beside, which shows whether the server's datagrams still arrive after that silence.
    pub beside: bool,
}

/// The interval of a device, over its sessions.
pub(super) struct Pace {
    /// As agreed at login.
    base: u16,
    /// Where the search ends.
    longest: u16,
    known: Silences,
    /// Whether the server heeds another interval than was agreed.
    heeded: bool,
    /// Whether there is another port to try from, and tries from it arrive.
    able: bool,
    /// When it is tried again what failed.
    doubted: Time,
    /// Heartbeats answered since the last try.
    beats: u8,
    /// Whether what is sent is paid for: nothing is tried then.
    metered: bool,
    /// Whether the server may have been told of another interval than was agreed.
    strayed: bool,
}

impl Pace {
    pub fn new(base: u16, longest: u16, known: Silences) -> Pace {
        let longest = longest.clamp(SHORTEST, LONGEST);
        let doubted = Time::ZERO + DOUBT;
        Pace {
            base,
            longest,
            known,
            heeded: false,
            able: true,
            doubted,
            beats: 0,
            metered: false,
            strayed: false,
        }
    }

    /// A session is there, at this interval.
    pub fn agreed(&mut self, base: u16, heeded: bool) {
        self.base = base.max(1);
        self.heeded = heeded;
        self.beats = 0;
        self.strayed = self.interval() != self.base;
    }

    /// The network is another.
    pub fn forget(&mut self, now: Time, known: Silences) {
        let fresh = Pace::new(self.base, self.longest, known);
        let Pace { heeded, metered, strayed, .. } = *self;
        *self = Pace { heeded, metered, strayed, doubted: now + DOUBT, ..fresh };
        self.strayed |= self.interval() != self.base;
    }

    /// There is no other port to try from.
    pub fn disable(&mut self) {
        self.able = false;
    }

    /// What is known of the network is kept to, and nothing is tried while this holds.
    pub fn set_metered(&mut self, metered: bool) {
        self.metered = metered;
        self.beats = 0;
    }

    pub const fn known(&self) -> Silences {
        self.known
    }

    /// The interval in use, in seconds.
    pub fn interval(&self) -> u16 {
        let Silences { lasted, failed } = self.known;
        match (lasted, failed) {
            _ if !self.is_open() => self.base,
            (0, 0) => self.base,
            (0, failed) => (failed / 2).clamp(SHORTEST, self.base.max(SHORTEST)),
            // What is forgotten after just that long need not be remembered as long the next time.
            (lasted, _) => (lasted - lasted / 8).max(lasted.min(self.base)).clamp(SHORTEST, self.longest),
        }
    }

    /// What the server is told of it.
    pub fn said(&self) -> Rhythm {
        match self.interval() {
            interval if self.strayed => Rhythm::Every(interval),
            _ => Rhythm::Same,
        }
    }

    /// What comes next.
    pub fn plan(&self) -> Plan {
        let interval = self.interval();
        if self.is_open() && self.able && !self.metered {
            if let Some(after) = self.next().filter(|_| self.beats >= STABLE) {
                return Plan { after, beside: true };
            }
            if self.beats >= CHECK {
                return Plan { after: interval, beside: true };
            }
        }
        Plan { after: interval, beside: false }
    }

    /// A heartbeat was answered.
    pub fn answered(&mut self, now: Time) {
        self.beats = self.beats.saturating_add(1);
        if self.known.failed > 0 && now >= self.doubted {
            self.known.failed = 0;
        }
    }

    /// The server's datagrams arrived after a silence of so many seconds.
    pub fn lasted(&mut self, seconds: u16) {
        self.beats = 0;
        self.known.lasted = self.known.lasted.max(seconds);
        if self.known.failed <= self.known.lasted {
            self.known.failed = 0;
        }
        self.strayed |= self.interval() != self.base;
    }

    /// They did not, and the server is there.
    pub fn failed(&mut self, now: Time, seconds: u16) {
        self.beats = 0;
        self.known.failed = seconds.max(1);
        if self.known.lasted >= seconds {
            self.known.lasted = 0;
        }
        self.doubted = now + DOUBT;
        self.strayed |= self.interval() != self.base;
    }

    /// A try from beside had no answer, and the server is there.
    pub fn try_failed(&mut self, now: Time, seconds: u16) {
        match self.known.lasted {
            // Not even the shortest silence lasted: it is the other port that does not get through, and shows nothing.
            0 if seconds <= SHORTEST => {
                self.known = Silences::default();
                self.able = false;
            }
            _ => self.failed(now, seconds),
        }
    }

    fn is_open(&self) -> bool {
        self.heeded && self.longest > self.base
    }

    /// The next silence to try, until it is known well enough how long is too long.
    fn next(&self) -> Option<u16> {
        let Silences { lasted, failed } = self.known;
        // So that with its margin it is the longest.
        let top = self.longest + self.longest.div_ceil(7);
        // In no case so much longer than what is in use that the server gives the session up.
        let longer = lasted.saturating_add(lasted / 2);
        let next = match (lasted, failed) {
            (0, 0) => self.base,
            (0, _) if failed > SHORTEST => (failed / 2).clamp(SHORTEST, self.base.max(SHORTEST)),
            (0, _) => return None,
            (_, 0) => longer,
            _ if failed.saturating_sub(lasted) <= (lasted / 8).max(4) => return None,
            _ => longer.min(lasted + (failed - lasted) / 2),
        };
        (lasted < top).then_some(next.min(top))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(longest: u16) -> Pace {
        let mut pace = Pace::new(30, longest, Silences::default());
        pace.agreed(30, true);
        pace
    }

    /// Tries on a network that forgets after so many seconds; how many tries it took.
    fn search(pace: &mut Pace, forgets: u16) -> usize {
        for tries in 0..40 {
            (0..STABLE).for_each(|_| pace.answered(Time::ZERO));
            match pace.plan() {
                Plan { after, beside: true } if after < forgets => pace.lasted(after),
                Plan { after, beside: true } => pace.try_failed(Time::ZERO, after),
                Plan { beside: false, .. } => return tries,
            }
        }
        panic!("it goes on for ever: {:?}", pace.known());
    }

    #[test]
    fn the_longest_silence_is_found_within_a_dozen_tries_and_kept_to_with_a_margin() {
        for forgets in 12..2100 {
            let mut pace = open(1800);
            let tries = search(&mut pace, forgets);
            let interval = pace.interval();
            assert!(interval < forgets && tries <= 14, "{interval} of {forgets} after {tries}");
            assert!(interval * 4 >= (forgets.min(1800) - 4) * 3 || interval == 10, "{interval} of {forgets}");
        }
    }

    #[test]
    fn no_silence_is_so_long_that_the_server_gives_the_session_up() {
        for known in (0..2100)
            .step_by(7)
            .flat_map(|lasted| (0..2100).step_by(11).map(move |failed| Silences { lasted, failed }))
        {
            let mut pace = Pace::new(30, 1800, known);
            pace.agreed(30, true);
            (0..STABLE).for_each(|_| pace.answered(Time::ZERO));
            assert!(pace.plan().after < 2 * pace.interval(), "{known:?}");
        }
    }

    #[test]
    fn the_search_ends_at_the_longest() {
        let mut pace = open(300);
        search(&mut pace, u16::MAX);
        assert_eq!(pace.interval(), 300);
        assert_eq!(pace.said(), Rhythm::Every(300));
    }

    #[test]
    fn where_no_try_arrives_what_was_agreed_holds() {
        let mut pace = open(1800);
        search(&mut pace, 0);
        assert_eq!((pace.interval(), pace.known()), (30, Silences::default()));
        (0..CHECK).for_each(|_| pace.answered(Time::ZERO));
        assert!(!pace.plan().beside);
    }

    #[test]
    fn nothing_is_tried_of_a_server_that_does_not_heed_it_or_where_nothing_is_to_be_gained() {
        let deaf = {
            let mut pace = open(1800);
            pace.agreed(30, false);
            pace
        };
        for mut pace in [deaf, open(30)] {
            (0..CHECK).for_each(|_| pace.answered(Time::ZERO));
            assert_eq!(pace.plan(), Plan { after: 30, beside: false });
            pace.failed(Time::ZERO, 30);
            assert_eq!((pace.interval(), pace.said()), (30, Rhythm::Same));
        }
    }

    #[test]
    fn tries_come_only_between_answers_and_what_is_in_use_is_tried_again() {
        let mut pace = open(300);
        assert!(!pace.plan().beside, "before anything was answered");
        search(&mut pace, 100);
        let interval = pace.interval();
        assert!(!pace.plan().beside);
        (STABLE..CHECK).for_each(|_| pace.answered(Time::ZERO));
        assert_eq!(pace.plan(), Plan { after: interval, beside: true });
        pace.lasted(interval);
        assert_eq!((pace.interval(), pace.plan().beside), (interval, false));
    }

    #[test]
    fn what_failed_in_use_is_left_at_once_and_what_failed_is_tried_again_after_a_day() {
        let mut pace = open(300);
        search(&mut pace, 200);
        let before = pace.interval();
        pace.failed(Time::ZERO, before);
        assert!(pace.interval() <= before / 2);
        search(&mut pace, 60);
        let narrow = pace.interval();
        assert!(narrow < 60);
        pace.answered(Time::ZERO + DOUBT);
        search(&mut pace, 200);
        assert!(pace.interval() >= 150, "{}", pace.interval());
    }
}
