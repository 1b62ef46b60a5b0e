//! What the two sealed octets of a heartbeat say: its type, and flags.

/// Type of a heartbeat that asks.
pub const ASK: u8 = 1;
/// Type of one that answers. One that answers nothing asks for nothing: it is a sign of life alone.
pub const ANSWER: u8 = 2;
/// In an answer's flags: the server drains.
pub const DRAINS: u8 = 1;
/// Feature of a welcome: the server heeds what the flags of asks say.
pub const HEEDS_RHYTHM: u16 = 1;

/// Seconds of one step of an interval.
const STEP: u16 = 8;
/// The code of the longest interval, 30 minutes.
const LONGEST: u8 = 225;

/// What the flags of an ask say of the time until the device's next sign of life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rhythm {
    /// What held so far still holds.
    Same,
    /// At most so many seconds, from now on.
    Every(u16),
}

impl Rhythm {
    /// As octet. An interval is rounded up to the next of 8, 16, 24 and so on to 1800 s.
    pub const fn code(self) -> u8 {
        match self {
            Rhythm::Same => 0,
            Rhythm::Every(seconds) => {
                let steps = seconds.div_ceil(STEP);
                if steps == 0 {
                    1
                } else if steps > LONGEST as u16 {
                    LONGEST
                } else {
                    steps as u8
                }
            }
        }
    }

    /// From an octet. One that this version does not know changes nothing.
    pub const fn of(code: u8) -> Rhythm {
        match code {
            1..=LONGEST => Rhythm::Every(code as u16 * STEP),
            _ => Rhythm::Same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_rounded_up_and_within_half_an_hour() {
        for (seconds, known) in
            [(0, 8), (1, 8), (8, 8), (9, 16), (10, 16), (30, 32), (300, 304), (1800, 1800)]
        {
            assert_eq!(Rhythm::of(Rhythm::Every(seconds).code()), Rhythm::Every(known));
        }
        assert_eq!(Rhythm::of(Rhythm::Every(u16::MAX).code()), Rhythm::Every(1800));
        assert_eq!(Rhythm::of(Rhythm::Same.code()), Rhythm::Same);
        assert_eq!(Rhythm::of(255), Rhythm::Same);
    }
}
