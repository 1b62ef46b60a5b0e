//! Frames whose capture says any time, among live ones: whatever it says, what is live falls silent in time.
//!
//! A piece has ten octets: what it is and a flow's port, then a time of the capture's.
#![no_main]

use std::time::Duration;

use hailpost::{
    io::Input,
    node::{Node, Recognition, RecognizerNode},
    recognize::{Config, Limits},
    time::Time,
    wire::packet::LinkType,
};
use libfuzzer_sys::fuzz_target;

/// The longest that a flow is followed in silence.
const PATIENCE: Duration = Duration::from_secs(3600);

fn datagram(port: u8) -> [u8; 28] {
    let mut packet = [0; 28];
    packet[..4].copy_from_slice(&[0x45, 0, 0, 28]);
    packet[8..10].copy_from_slice(&[64, 17]);
    packet[12..20].copy_from_slice(&[192, 168, 1, 2, 192, 0, 2, 1]);
    packet[20..26].copy_from_slice(&[1, port, 0, 9, 0, 8]);
    packet
}

fuzz_target!(|octets: &[u8]| {
    let config = Config { max_flows: 64, ..Config::default() };
    let recognition =
        Recognition::new(None, Limits::default(), config, Vec::new()).expect("no rules are good rules");
    let mut node = RecognizerNode::new(recognition);
    let mut now = Time::ZERO;
    for piece in octets.chunks_exact(10) {
        let [what, port, time @ ..] = piece else { continue };
        let captured = Time::from_micros(time.iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet)));
        match what & 7 {
            0..4 => drop(node.feed(now, Some(captured), LinkType::RAW, &datagram(*port))),
            4 => drop(node.feed(now, None, LinkType::RAW, &datagram(*port))),
            5 => now += Duration::from_millis(u64::from(*port)),
            6 => now += Duration::from_secs(u64::from(*port)),
            _ => node.finish(now),
        }
        if node.deadline().is_some_and(|due| due <= now) {
            node.handle(now, Input::Deadline);
        }
        while node.poll_output(now).is_some() {}
        assert!(node.deadline().is_none_or(|due| due <= now + PATIENCE), "nobody waits for longer");
    }
    now += PATIENCE;
    let mut turns = 0;
    while let Some(due) = node.deadline() {
        now = now.max(due);
        node.handle(now, Input::Deadline);
        while node.poll_output(now).is_some() {}
        turns += 1;
        assert!(turns < 100, "a deadline without an end");
    }
    assert_eq!(node.recognition().recognizer().open_flows(), 0);
});
