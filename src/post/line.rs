//! One end of an inner link: frames in both directions, beats, and a window, so that neither end is sent more than it takes.
//!
//! Whoever has the connection gives it what comes, sends what [`Line::poll`] says, and closes when [`Line::handle_deadline`]
//! says that nobody is there.

use std::{collections::VecDeque, time::Duration};

use crate::{
    time::Time,
    wire::inner::{Broken, Deframer, Message, Wrong},
};

/// Between two beats, and what passes without any after which the other end is not there.
pub const BEAT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(15);
/// Octets on their way that the other end has not taken. As many as a stream holds without minding, so that two ends never
/// wait for each other to read.
const WINDOW: u64 = 192 * 1024;
/// Octets that come until the other end is told at once that they were taken.
const TELL: u64 = WINDOW / 4;
/// Octets that wait, past which nothing that can be left out should be added.
const ROOM: usize = 16 << 20;
/// Octets that wait, past which the line is given up, and nothing more is kept for it.
const LIMIT: usize = 64 << 20;
/// What a frame that waits costs besides its octets: most have few.
const EACH: usize = 128;

/// Why a line is of no more use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// What came is no frame.
    Frame(Broken),
    /// What came is no message of its type, or takes back what was taken.
    Message,
    /// Nothing came for three beats.
    Silent,
    /// The other end takes so little that too much waits for it.
    Full,
}

/// One end.
#[derive(Debug)]
pub struct Line {
    deframer: Deframer,
    heard: Time,
    beat: Time,
    /// Octets that came, and as many as were told of.
    taken: u64,
    told: u64,
    /// Octets that went, and as many as the other end took.
    sent: u64,
    acked: u64,
    queue: VecDeque<Vec<u8>>,
    queued: usize,
    unknown: u64,
}

impl Line {
    /// The connection is there.
    pub fn new(now: Time) -> Line {
        Line {
            deframer: Deframer::default(),
            heard: now,
            beat: now + BEAT,
            taken: 0,
            told: 0,
            sent: 0,
            acked: 0,
            queue: VecDeque::new(),
            queued: 0,
            unknown: 0,
        }
    }

    /// The next message of what came, with its correlation. Takes what it used off the front of `octets`; beats stay here.
    ///
    /// # Errors
    /// When the other end is not to be listened to any more.
    pub fn next(&mut self, now: Time, octets: &mut &[u8]) -> Option<Result<(u64, Message), Cut>> {
        loop {
            let before = octets.len();
            let frame = self.deframer.next(octets);
            self.taken += (before - octets.len()) as u64;
            let frame = match frame? {
                Ok(frame) => frame,
                Err(broken) => return Some(Err(Cut::Frame(broken))),
            };
            self.heard = now;
            match Message::decode(&frame) {
                Ok(Message::Beat { taken }) if (self.acked..=self.sent).contains(&taken) => {
                    self.acked = taken
                }
                Ok(Message::Beat { .. }) | Err(Wrong::Value(_)) => return Some(Err(Cut::Message)),
                Err(Wrong::Unknown) => self.unknown += 1,
                Ok(message) => return Some(Ok((frame.correlation, message))),
            }
        }
    }

    /// Whether something may be added that can be left out.
    pub const fn has_room(&self) -> bool {
        self.queued < ROOM
    }

    /// Adds a message, which goes out behind all before it.
    pub fn send(&mut self, message: &Message, correlation: u64) {
        // Whoever is on it has to say all again in another: no frame is missed on its own.
        if self.queued > LIMIT {
            return;
        }
        let octets = message.encode(correlation);
        self.queued += EACH + octets.len();
        self.queue.push_back(octets);
    }

    /// What is to be sent now, until there is nothing.
    pub fn poll(&mut self, now: Time) -> Option<Vec<u8>> {
        if self.beat <= now || self.taken - self.told >= TELL {
            self.told = self.taken;
            self.beat = now + BEAT;
            let beat = Message::Beat { taken: self.taken }.encode(0);
            self.sent += beat.len() as u64;
            return Some(beat);
        }
        let on_the_way = self.sent - self.acked;
        let next = self.queue.front()?;
        if on_the_way > 0 && on_the_way + next.len() as u64 > WINDOW {
            return None;
        }
        let octets = self.queue.pop_front()?;
        self.queued -= EACH + octets.len();
        self.sent += octets.len() as u64;
        Some(octets)
    }

    /// When [`Line::handle_deadline`] is wanted, and [`Line::poll`] after it.
    pub fn deadline(&self) -> Time {
        if self.queued > LIMIT { self.heard } else { self.beat.min(self.heard + SILENCE) }
    }

    /// The deadline may have come.
    ///
    /// # Errors
    /// When the line is to be given up.
    pub fn handle_deadline(&mut self, now: Time) -> Result<(), Cut> {
        if self.queued > LIMIT {
            return Err(Cut::Full);
        }
        if self.heard + SILENCE <= now { Err(Cut::Silent) } else { Ok(()) }
    }

    /// Frames of types that this version does not know.
    pub const fn unknown(&self) -> u64 {
        self.unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn down(size: usize) -> Message {
        Message::Down { inbox: 1, seat: 1, octets: vec![7; size] }
    }

    /// All that is to be sent now.
    fn drain(line: &mut Line, now: Time) -> Vec<u8> {
        std::iter::from_fn(|| line.poll(now)).flatten().collect()
    }

    fn read(line: &mut Line, now: Time, mut octets: &[u8]) -> Vec<Result<(u64, Message), Cut>> {
        std::iter::from_fn(|| line.next(now, &mut octets)).take(10_000).collect()
    }

    #[test]
    fn a_message_comes_with_its_correlation_and_behind_those_before_it() {
        let (mut one, mut two) = (Line::new(at(0)), Line::new(at(0)));
        one.send(&down(3), 0);
        one.send(&Message::Found(None), 9);
        let came = read(&mut two, at(0), &drain(&mut one, at(0)));
        assert_eq!(came, [Ok((0, down(3))), Ok((9, Message::Found(None)))]);
    }

    #[test]
    fn no_more_goes_than_the_other_end_takes_and_all_of_it_in_the_end() {
        let (mut one, mut two) = (Line::new(at(0)), Line::new(at(0)));
        (0..100).for_each(|_| one.send(&down(50_000), 0));
        let mut came = 0;
        let first = drain(&mut one, at(0));
        assert!(first.len() as u64 <= WINDOW && first.len() as u64 > WINDOW / 2);
        assert_eq!(drain(&mut one, at(1)), b"", "without a word from the other end nothing more goes");
        let mut octets = first;
        while !octets.is_empty() {
            came += read(&mut two, at(1), &octets).len();
            read(&mut one, at(1), &drain(&mut two, at(1)));
            octets = drain(&mut one, at(1));
        }
        assert_eq!((came, one.queued), (100, 0));
    }

    #[test]
    fn what_is_longer_than_the_window_goes_alone() {
        let mut one = Line::new(at(0));
        one.send(&down(120_000), 0);
        one.send(&down(120_000), 0);
        assert!(drain(&mut one, at(0)).len() < 125_000);
    }

    #[test]
    fn three_beats_without_a_word_and_the_other_end_is_not_there() {
        let (mut one, mut two) = (Line::new(at(0)), Line::new(at(0)));
        assert_eq!(one.deadline(), at(5));
        for second in [5, 10, 15, 20] {
            let beat = drain(&mut two, at(second));
            assert!(!beat.is_empty());
            assert_eq!(read(&mut one, at(second), &beat), []);
            drain(&mut one, at(second));
            assert_eq!(one.handle_deadline(at(second)), Ok(()));
        }
        assert_eq!(two.handle_deadline(at(14)), Ok(()));
        assert_eq!(two.handle_deadline(at(15)), Err(Cut::Silent));
    }

    #[test]
    fn every_bound_is_reached() {
        let mut one = Line::new(at(0));
        while one.has_room() {
            one.send(&down(100_000), 0);
        }
        assert!((ROOM..ROOM + 200_000).contains(&one.queued));
        assert_eq!(one.handle_deadline(at(0)), Ok(()));
        while one.queued <= LIMIT {
            one.send(&down(100_000), 0);
        }
        assert_eq!(one.handle_deadline(at(0)), Err(Cut::Full));
    }

    #[test]
    fn short_frames_count_for_what_they_cost_and_past_the_bound_none_is_kept() {
        let mut one = Line::new(at(0));
        assert_eq!(one.deadline(), at(5));
        for _ in 0..2_000_000 {
            one.send(&Message::Found(None), 7);
        }
        assert!(one.queue.len() < 500_000, "{} frames", one.queue.len());
        // It is given up at once, not with the next beat.
        assert_eq!((one.deadline(), one.handle_deadline(at(1))), (at(0), Err(Cut::Full)));
    }

    #[test]
    fn what_is_not_to_be_believed_cuts_the_line() {
        let beat = |taken| Message::Beat { taken }.encode(0);
        assert_eq!(read(&mut Line::new(at(0)), at(0), &beat(1))[0], Err(Cut::Message), "more than was sent");
        let mut bent = beat(0);
        bent[20] ^= 1;
        assert_eq!(read(&mut Line::new(at(0)), at(0), &bent)[0], Err(Cut::Frame(Broken::Checksum)));
        let mut line = Line::new(at(0));
        let mut later = Message::Found(None).encode(0);
        later[4..6].copy_from_slice(&[9, 9]);
        let covered = later.len() - 4;
        let crc = crc32fast::hash(&later[..covered]).to_be_bytes();
        later[covered..].copy_from_slice(&crc);
        assert_eq!((read(&mut line, at(0), &later), line.unknown()), (vec![], 1));
    }
}
