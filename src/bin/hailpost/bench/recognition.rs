//! What recognition costs.

use std::{path::Path, sync::Arc, time::Duration};

use hailpost::{
    net::HOME_RULES,
    recognize::{Config, Limits, Recognizer, RulesFile, Stage},
    time::Time,
    wire::packet::LinkType,
};

use super::{Report, cpu};
use crate::{capture, failure::Failure, terminal::Progress, traffic};

pub fn run(pcap: Option<&Path>, repeat: u8, report: &mut Report) -> Result<(), Failure> {
    report.about("recognize");
    let begun = cpu();
    let rules = RulesFile::parse(HOME_RULES, Limits::default())
        .map_err(|error| Failure::new(format!("the rules that ship: {error}")))?;
    report.row("compiling the rules that ship", (cpu() - begun).as_secs_f64() * 1e3, "ms");
    let frames = frames(pcap, repeat)?;
    let set = Arc::new(rules.set);
    let mut best = Duration::MAX;
    let mut progress = Progress::new("recognize", Some(5));
    for round in 0..5 {
        let mut recognizer = Recognizer::new(Arc::clone(&set), Config::default());
        let begun = cpu();
        for (at, link, frame) in &frames {
            // What is no IP packet costs its time too.
            let _ = recognizer.feed(*at, *link, frame);
            while recognizer.poll_verdict().is_some() {}
        }
        best = best.min(cpu() - begun);
        progress.at(round + 1);
    }
    drop(progress);
    report.row("frames", frames.len() as f64, "");
    report.row("a packet", best.as_nanos() as f64 / frames.len().max(1) as f64, "ns");
    let mut recognizer = Recognizer::new(set, Config::default());
    let (mut open, mut octets, mut known, mut flows) = (0, 0, 0u64, 0u64);
    for (number, (at, link, frame)) in frames.iter().enumerate() {
        let _ = recognizer.feed(*at, *link, frame);
        while let Some(verdict) = recognizer.poll_verdict() {
            if verdict.stage == Stage::Ended {
                known += u64::from(verdict.app.is_some());
                flows += 1;
            }
        }
        if recognizer.open_flows() > open && number % 64 == 0 {
            open = recognizer.open_flows();
            let memory = recognizer.memory();
            octets = memory.flows + memory.pool;
        }
    }
    recognizer.finish();
    while let Some(verdict) = recognizer.poll_verdict() {
        if verdict.stage == Stage::Ended {
            known += u64::from(verdict.app.is_some());
            flows += 1;
        }
    }
    report.row("flows", flows as f64, "");
    report.row("of them known", known as f64, "");
    report.row("open at once at most", open as f64, "flows");
    report.row("an open flow", octets as f64 / open.max(1) as f64, "octets");
    Ok(())
}

type Frame = (Time, LinkType, Vec<u8>);

/// The capture several times over, with other addresses each time.
fn frames(pcap: Option<&Path>, repeat: u8) -> Result<Vec<Frame>, Failure> {
    let mut once: Vec<Frame> = Vec::new();
    match pcap {
        None => {
            let mut evening = traffic::evening();
            once.extend(evening.frames().iter().map(|(at, frame)| (*at, LinkType::ETHERNET, frame.clone())));
        }
        Some(path) => {
            let mut capture = capture::open(path)?;
            while let Some(record) =
                capture.reader.next_record().map_err(|error| Failure::usage(error.to_string()))?
            {
                once.push((record.time, record.link_type, record.frame.to_vec()));
            }
        }
    }
    let mut all = Vec::with_capacity(once.len() * usize::from(repeat));
    for repetition in 0..repeat {
        let later = Duration::from_millis(u64::from(repetition) * 250);
        all.extend(
            once.iter().map(|(at, link, frame)| (*at + later, *link, moved(*link, frame, repetition))),
        );
    }
    all.sort_by_key(|(at, ..)| *at);
    Ok(all)
}

/// The frame with other IP addresses. Checksums are not kept.
fn moved(link: LinkType, frame: &[u8], repetition: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let places = match frame.get(12..14) {
        Some([8, 0]) if link == LinkType::ETHERNET => [27, 31],
        Some([0x86, 0xdd]) if link == LinkType::ETHERNET => [24, 40],
        _ => return frame,
    };
    for place in places {
        if let Some(octet) = frame.get_mut(place) {
            *octet ^= repetition;
        }
    }
    frame
}
