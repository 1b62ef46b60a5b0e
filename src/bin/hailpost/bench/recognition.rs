//! What recognition costs.

use std::{path::Path, sync::Arc, time::Duration};

use hailpost::{
    net::HOME_RULES,
    recognize::{Config, Limits, Recognizer, RulesFile, Stage},
};

use super::{Report, cpu, frames::Frames};
use crate::{failure::Failure, terminal::Progress};

/// Measures on these captures; writes what was fed to a file, if that is wanted.
pub fn run(
    pcap: Option<&Path>,
    repeat: u8,
    write: Option<&Path>,
    report: &mut Report,
) -> Result<(), Failure> {
    report.about("recognize");
    let begun = cpu();
    let rules = RulesFile::parse(HOME_RULES, Limits::default())
        .map_err(|error| Failure::new(format!("the rules that ship: {error}")))?;
    report.row("compiling the rules that ship", (cpu() - begun).as_secs_f64() * 1e3, "ms");
    report.row("rules", rules.set.len() as f64, "");
    let frames = Frames::merged(pcap, repeat)?;
    if let Some(path) = write {
        frames.write(path)?;
    }
    let set = Arc::new(rules.set);
    let mut best = Duration::MAX;
    let mut progress = Progress::new("recognize", Some(5));
    for round in 0..5 {
        let mut recognizer = Recognizer::new(Arc::clone(&set), Config::default());
        let begun = cpu();
        for (at, link, frame) in frames.iter() {
            // What is no IP packet costs its time too.
            let _ = recognizer.feed(at, link, frame);
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
        let _ = recognizer.feed(at, link, frame);
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
