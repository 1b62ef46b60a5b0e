//! `recognize`.

use std::{collections::HashMap, io::IsTerminal, path::PathBuf, sync::Arc};

use clap::Args;
use hailpost::{
    net::HOME_RULES,
    recognize::{Config, How, Limits, Recognizer, RulesFile, Stage, Verdict},
    status::{Fault, Status},
};
use serde_json::json;

use crate::{
    capture,
    output::{Failure, Output, endpoint},
};

/// What is in a capture (pcap or pcapng): one line a flow, in order of their first packets.
///
/// With --json, one object a line: proto, src, sport, dst, dport (the initiator first), app (or null), how (rule, model,
/// shared, none), packets, bytes.
#[derive(Args)]
#[command(after_help = "Example:\n  hailpost recognize evening.pcap --json | jq -r .app | sort | uniq -c")]
pub struct Recognize {
    /// The capture; - reads standard input
    capture: PathBuf,
    /// A rules file instead of the rules that ship (docs/rules.md)
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Recognize {
    pub fn run(self) -> Result<(), Failure> {
        let text = match &self.rules {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| Failure::io(&format!("reading {}", path.display()), &error))?,
            None => HOME_RULES.to_owned(),
        };
        let rules = RulesFile::parse(&text, Limits::default())
            .map_err(|error| Fault::new(Status::Pattern, format!("rules: {error}")))?;
        let names: HashMap<_, _> = rules.names().map(|(app, name)| (app, name.to_owned())).collect();
        let config = Config { max_flows: 1 << 20, max_verdicts: 1 << 16, seed: seed(), ..Config::default() };
        let mut recognizer = Recognizer::new(Arc::new(rules.set), config);
        let mut reader = capture::open(&self.capture)?;
        let mut flows = Vec::new();
        let mut take = |recognizer: &mut Recognizer| {
            flows.extend(
                std::iter::from_fn(|| recognizer.poll_verdict())
                    .filter(|verdict| verdict.stage == Stage::Ended),
            );
        };
        let mut progress = Progress::new();
        let cut = loop {
            match reader.next_record() {
                Ok(Some(record)) => {
                    progress.octet(record.offset);
                    // A frame that is not IP is counted by the recogniser, and of no flow.
                    let _ = recognizer.feed(record.time, record.link_type, record.frame);
                    take(&mut recognizer);
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        recognizer.finish();
        take(&mut recognizer);
        progress.done();
        flows.sort_by_key(|verdict| verdict.first);
        let mut out = Output::new();
        for verdict in &merge(flows) {
            let name = verdict.app.and_then(|app| names.get(&app));
            match self.json {
                true => out.json(&to_json(verdict, name))?,
                false => out.line(&to_text(verdict, name))?,
            }
        }
        out.flush()?;
        match cut {
            None => Ok(()),
            // What stood before the cut is printed: scripts see it, and that something is missing.
            Some(error) => Err(capture::wrong(&self.capture, &error)),
        }
    }
}

/// One line a five-tuple: a flow that ended and began again is one.
fn merge(flows: Vec<Verdict>) -> Vec<Verdict> {
    let mut places: HashMap<_, usize> = HashMap::with_capacity(flows.len());
    let mut merged: Vec<Verdict> = Vec::with_capacity(flows.len());
    for verdict in flows {
        match places.get(&verdict.flow) {
            Some(&at) => {
                let known = &mut merged[at];
                known.packets += verdict.packets;
                known.octets += verdict.octets;
                known.last = verdict.last;
                if known.app.is_none() {
                    (known.app, known.how, known.rule) = (verdict.app, verdict.how, verdict.rule);
                }
            }
            None => {
                places.insert(verdict.flow, merged.len());
                merged.push(verdict);
            }
        }
    }
    merged
}

fn to_json(verdict: &Verdict, name: Option<&String>) -> serde_json::Value {
    json!({
        "proto": protocol(verdict),
        "src": verdict.flow.initiator.ip().to_canonical().to_string(),
        "sport": verdict.flow.initiator.port(),
        "dst": verdict.flow.responder.ip().to_canonical().to_string(),
        "dport": verdict.flow.responder.port(),
        "app": name,
        "how": how(verdict),
        "packets": verdict.packets,
        "bytes": verdict.octets,
    })
}

fn to_text(verdict: &Verdict, name: Option<&String>) -> String {
    let end = |end: std::net::SocketAddr| endpoint(&end.ip().to_canonical().to_string(), end.port().into());
    format!(
        "{:<12} {} {:<24} -> {:<24} {:>6} packets {:>9} octets  {}",
        name.map_or("-", String::as_str),
        protocol(verdict),
        end(verdict.flow.initiator),
        end(verdict.flow.responder),
        verdict.packets,
        verdict.octets,
        how(verdict)
    )
}

fn protocol(verdict: &Verdict) -> &'static str {
    if verdict.flow.protocol == 6 { "TCP" } else { "UDP" }
}

fn how(verdict: &Verdict) -> &'static str {
    match verdict.how {
        How::Rule => "rule",
        How::Model => "model",
        How::Shared => "shared",
        How::None => "none",
    }
}

/// Keeps who made a capture from choosing which flows share a place in the table.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// A line on standard error while there is much to read, on a terminal.
struct Progress {
    shown: bool,
    next: u64,
}

impl Progress {
    fn new() -> Progress {
        let is_watched = std::io::stderr().is_terminal();
        Progress { shown: false, next: if is_watched { 64 << 20 } else { u64::MAX } }
    }

    fn octet(&mut self, offset: u64) {
        if offset >= self.next {
            self.next = offset + (16 << 20);
            self.shown = true;
            eprint!("\r{} MB read ", offset >> 20);
        }
    }

    fn done(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}
