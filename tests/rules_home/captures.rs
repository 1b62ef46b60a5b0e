//! The bars that the rules must hold on labelled captures, where there are any; `recognize_eval` says more.

use std::{collections::HashMap, fs, net::SocketAddr, path::PathBuf, sync::Arc};

use hailpost::{
    recognize::{Config, FiveTuple, Recognizer, RuleSet, RulesFile, Stage},
    wire::capture::CaptureReader,
};

/// Of all labelled flows: how many, how many right, given an application, rightly so; of other protocols, claimed.
#[derive(Debug, Default)]
pub struct Figures {
    pub flows: usize,
    pub right: usize,
    pub decided: usize,
    pub decided_right: usize,
    pub other: usize,
    pub claimed: usize,
}

/// What `rules` make of the captures beside the project; `None` where there are none, which is said.
pub fn figures(rules: &RulesFile, set: &Arc<RuleSet>) -> Option<Figures> {
    let shared = std::env::var_os("HAILPOST_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")), PathBuf::from);
    let captures = shared.join("captures");
    let Ok(labels) = fs::read_to_string(captures.join("labels.tsv")) else {
        eprintln!("SKIPPED: no labelled captures at {}", captures.display());
        return None;
    };
    let mut files: HashMap<&str, HashMap<FiveTuple, Option<String>>> = HashMap::new();
    let mut figures = Figures::default();
    for line in labels.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let end = |at: usize| {
            SocketAddr::new(fields[at].parse().expect("an address"), fields[at + 1].parse().expect("a port"))
        };
        let flow = FiveTuple {
            protocol: if fields[1] == "TCP" { 6 } else { 17 },
            initiator: end(2),
            responder: end(4),
        };
        let turned = FiveTuple { initiator: flow.responder, responder: flow.initiator, ..flow };
        let found = files.entry(fields[0]).or_insert_with(|| {
            recognise(rules, set, &fs::read(captures.join("pcap").join(fields[0])).expect("it is readable"))
        });
        let got = found.get(&flow).or_else(|| found.get(&turned)).and_then(Option::as_deref);
        let (want, other) = (fields[6], fields[6] == "_other");
        figures.flows += 1;
        figures.right += usize::from(got.unwrap_or("_other") == want);
        figures.decided += usize::from(got.is_some());
        figures.decided_right += usize::from(got == Some(want));
        figures.other += usize::from(other);
        figures.claimed += usize::from(other && got.is_some());
    }
    Some(figures)
}

fn recognise(rules: &RulesFile, set: &Arc<RuleSet>, octets: &[u8]) -> HashMap<FiveTuple, Option<String>> {
    let mut recognizer = Recognizer::new(Arc::clone(set), Config::default());
    let mut reader = CaptureReader::new(octets).expect("a capture");
    let mut found = HashMap::new();
    let mut take = |recognizer: &mut Recognizer| {
        while let Some(verdict) = recognizer.poll_verdict() {
            if verdict.stage == Stage::Ended {
                let app = verdict.app.and_then(|app| rules.name(app)).map(str::to_owned);
                let known = found.entry(verdict.flow).or_insert(None);
                *known = known.take().or(app);
            }
        }
    };
    while let Some(record) = reader.next_record().expect("a whole capture") {
        // What cannot be taken apart is counted by the recogniser.
        let _ = recognizer.feed(record.time, record.link_type, record.frame);
        take(&mut recognizer);
    }
    recognizer.finish();
    take(&mut recognizer);
    found
}
