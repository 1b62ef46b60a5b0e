//! What the two sealed octets of a heartbeat say: its type, and flags.

/// Type of a heartbeat that asks.
pub const ASK: u8 = 1;
/// Type of one that answers. One that answers nothing asks for nothing: it is a sign of life alone.
pub const ANSWER: u8 = 2;
/// In an answer's flags: the server drains.
pub const DRAINS: u8 = 1;
/// In an answer's flags: the server has it that the device sleeps.
pub const SLEEPS: u8 = 2;
/// Feature of a welcome: the server heeds what the flags of asks say.
pub const HEEDS_RHYTHM: u16 = 1;
/// Feature of a welcome: the server lets devices sleep.
pub const HEEDS_SLEEP: u16 = 2;
/// The longest sleep, in seconds: 15 hours.
pub const LONGEST_SLEEP: u16 = NAP * (u8::MAX - LONGEST) as u16;

/// Seconds of one step of an interval.
const STEP: u16 = 8;
/// The code of the longest interval, 30 minutes.
const LONGEST: u8 = 225;
/// Seconds of one step of a sleep, whose codes are those above.
const NAP: u16 = 1800;

/// What the flags of an ask say of the time until the device's next sign of life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rhythm {
    /// What held so far still holds.
    Same,
    /// At most so many seconds, from now on.
    Every(u16),
    /// None for so many seconds at the most: the device is suspended.
    Asleep(u16),
}

impl Rhythm {
    /// As octet. An interval is rounded up to the next of 8, 16, 24 and so on to 1800 s, a sleep to half hours, at most thirty.
    pub const fn code(self) -> u8 {
        match self {
            Rhythm::Same => 0,
            Rhythm::Every(seconds) => steps(seconds, STEP, LONGEST),
            Rhythm::Asleep(seconds) => LONGEST + steps(seconds, NAP, u8::MAX - LONGEST),
        }
    }

    /// From an octet.
    pub const fn of(code: u8) -> Rhythm {
        match code {
            0 => Rhythm::Same,
            1..=LONGEST => Rhythm::Every(code as u16 * STEP),
            _ => Rhythm::Asleep((code - LONGEST) as u16 * NAP),
        }
    }
}

/// How many steps are as long as that, from 1 to `most`.
const fn steps(seconds: u16, step: u16, most: u8) -> u8 {
    match seconds.div_ceil(step) {
        0 => 1,
        steps if steps > most as u16 => most,
        steps => steps as u8,
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
    }

    #[test]
    fn sleeps_are_rounded_up_to_half_hours_and_every_code_means_what_it_is_made_of() {
        for (seconds, known) in [(0, 1800), (1, 1800), (1801, 3600), (54_000, 54_000), (u16::MAX, 54_000)] {
            assert_eq!(Rhythm::of(Rhythm::Asleep(seconds).code()), Rhythm::Asleep(known));
        }
        assert_eq!(LONGEST_SLEEP, 54_000);
        assert!((0..=255).all(|code| Rhythm::of(code).code() == code));
    }
}
