//! Traffic of our own making, the same each time: for the demonstration and the benches, where there is no capture.

mod evening;
mod talk;

pub use evening::{CAMERA, CAMERA_RULE, Camera, EVENING_FLOWS, evening, later};
pub use talk::Talk;

use std::time::Duration;

use hailpost::{
    rng::{Entropy, Seeded},
    time::Time,
};

/// A classic pcap file in memory, its frames in order of their times.
pub struct Pcap {
    frames: Vec<(Time, Vec<u8>)>,
}

impl Pcap {
    /// Nothing captured yet.
    pub fn new() -> Pcap {
        Pcap { frames: Vec::new() }
    }

    /// One more frame.
    pub fn push(&mut self, at: Time, frame: Vec<u8>) {
        self.frames.push((at, frame));
    }

    /// How many frames there are.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// The time of the last frame.
    pub fn end(&self) -> Time {
        self.frames.iter().map(|(at, _)| *at).max().unwrap_or_default()
    }

    /// What a file begins with: microseconds, Ethernet.
    pub const fn header() -> [u8; 24] {
        [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0]
    }

    /// The frames as a file has them after its header.
    pub fn records(&mut self) -> Vec<u8> {
        self.frames.sort_by_key(|(at, _)| *at);
        let mut octets = Vec::new();
        for (at, frame) in &self.frames {
            let (micros, len) = (at.as_micros(), frame.len() as u32);
            let time = [(micros / 1_000_000) as u32, (micros % 1_000_000) as u32];
            [time[0], time[1], len, len].iter().for_each(|word| octets.extend(word.to_le_bytes()));
            octets.extend(frame);
        }
        octets
    }

    /// The whole file.
    pub fn file(&mut self) -> Vec<u8> {
        [&Pcap::header()[..], &self.records()].concat()
    }

    /// The frames with their times.
    pub fn frames(&mut self) -> &[(Time, Vec<u8>)] {
        self.frames.sort_by_key(|(at, _)| *at);
        &self.frames
    }
}

/// Pauses and lengths that vary a little, as in life.
pub struct Chance(Seeded);

impl Chance {
    /// The same chances for the same seed.
    pub fn new(seed: u64) -> Chance {
        Chance(Seeded::new(seed))
    }

    /// A number of this size, give or take a part of it in `share`.
    pub fn about(&mut self, number: u32, share: u32) -> u32 {
        let spread = number / share;
        number - spread / 2 + self.0.below(spread.max(1))
    }

    /// About so many milliseconds.
    pub fn pause(&mut self, millis: u32) -> Duration {
        Duration::from_micros(u64::from(self.about(millis * 1000, 3)))
    }

    /// Octets as encryption makes them.
    pub fn noise(&mut self, len: u32) -> Vec<u8> {
        let mut octets = vec![0; len as usize];
        self.0.fill(&mut octets);
        octets
    }

    /// Octets as text has them.
    pub fn text(&mut self, len: u32) -> Vec<u8> {
        (0..len).map(|_| b"abcdefghijklmnopqrstuvwxyz 0123456789=;:"[self.0.below(40) as usize]).collect()
    }
}
