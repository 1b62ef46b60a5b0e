//! Any octets as a capture file, and its frames to the recogniser with the rules that ship.
#![no_main]

use std::sync::{Arc, LazyLock};

use hailpost::{
    net::HOME_RULES,
    recognize::{Config, Limits, Recognizer, RuleSet, RulesFile},
    time::Time,
    wire::{capture::CaptureReader, packet::LinkType},
};
use libfuzzer_sys::fuzz_target;

static RULES: LazyLock<Arc<RuleSet>> = LazyLock::new(|| {
    Arc::new(RulesFile::parse(HOME_RULES, Limits::default()).expect("the rules that ship are right").set)
});

fuzz_target!(|octets: &[u8]| {
    let mut recognizer = Recognizer::new(RULES.clone(), Config { max_flows: 64, ..Config::default() });
    if let Ok(mut reader) = CaptureReader::new(octets) {
        while let Ok(Some(frame)) = reader.next_record() {
            let _ = recognizer.feed(frame.time, frame.link_type, frame.frame);
            while recognizer.poll_verdict().is_some() {}
        }
    }
    for (at, frame) in octets.chunks(200).enumerate() {
        let _ = recognizer.feed(Time::from_micros(at as u64), LinkType::ETHERNET, frame);
        while recognizer.poll_verdict().is_some() {}
    }
    recognizer.finish();
    while recognizer.poll_verdict().is_some() {}
});
