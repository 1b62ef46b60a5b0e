//! `hailpost recognize`

use std::{
    collections::{HashMap, hash_map::Entry},
    fs,
    path::PathBuf,
    sync::Arc,
};

use hailpost::{
    net::HOME_RULES,
    recognize::{AppId, Config, FiveTuple, How, Limits, Recognizer, RulesFile, Stage, Verdict},
    time::Time,
};
use serde_json::json;

use crate::{
    capture,
    failure::{Done, Failure},
    terminal::{Out, Progress, Table, grouped, warn},
};

/// Says which application each flow of a capture belongs to.
///
/// Prints a line for every five-tuple, in the order of their first packets, with the rules for home networks that ship
/// unless others are given. Reads pcap and pcapng. A capture that is cut short gives the flows that it has, a warning
/// with the octet on standard error, and exit code 0.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  hailpost recognize evening.pcap
  tcpdump -w - -c 10000 | hailpost recognize - --json | jq -r .app | sort | uniq -c

A line of --json: {\"proto\":\"TCP\",\"src\":\"192.168.1.7\",\"sport\":53105,\"dst\":\"203.0.113.9\",\"dport\":443,
\"app\":\"netflix\",\"how\":\"rule\",\"packets\":37,\"bytes\":9285}. `src` began the flow; `app` is null when it is not known;
`how` is rule, model, shared or none; `bytes` counts from the IP header on.")]
pub struct Args {
    /// The capture; - for standard input
    #[arg(value_name = "F.pcap")]
    file: PathBuf,
    /// Recognise by the rules of this file (docs/rules.md)
    #[arg(long, value_name = "F.toml")]
    rules: Option<PathBuf>,
    /// Flows followed at once; past it the one silent longest is ended
    #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..))]
    max_flows: u32,
    /// Print how many flows, packets and octets each application had, instead of the flows
    #[arg(long)]
    summary: bool,
}

pub fn run(args: &Args, out: &mut Out) -> Done {
    let rules = match &args.rules {
        None => RulesFile::parse(HOME_RULES, Limits::default())
            .map_err(|error| Failure::new(format!("the rules that ship: {error}")))?,
        Some(path) => {
            let text = fs::read_to_string(path)
                .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
            RulesFile::parse(&text, Limits::default())
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?
        }
    };
    let names: HashMap<AppId, String> = rules.names().map(|(app, name)| (app, name.to_owned())).collect();
    let mut capture = capture::open(&args.file)?;
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| Failure::new(format!("no randomness: {error}")))?;
    let config =
        Config { max_flows: args.max_flows as usize, seed: u64::from_ne_bytes(seed), ..Config::default() };
    let mut recognizer = Recognizer::new(Arc::new(rules.set), config);
    let mut flows = Flows::default();
    let mut progress = Progress::new("recognize", capture.len);
    let mut frames = 0u64;
    let cut = loop {
        match capture.reader.next_record() {
            Ok(Some(record)) => {
                // What is no IP packet is counted by the recogniser; it stops nothing.
                let _ = recognizer.feed(record.time, record.link_type, record.frame);
                flows.take(&mut recognizer);
                frames += 1;
                if frames.is_multiple_of(4096) {
                    progress.at(record.offset);
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    drop(progress);
    recognizer.finish();
    flows.take(&mut recognizer);
    let rows = flows.in_order();
    match args.summary {
        true => summary(&rows, &names, out)?,
        false => print(&rows, &names, out)?,
    }
    out.flush()?;
    if let Some(error) = cut {
        warn(format!("{}: {error}; the flows before it are there", args.file.display()));
    }
    Ok(())
}

/// One line.
struct Row {
    flow: FiveTuple,
    app: Option<AppId>,
    how: How,
    first: Time,
    packets: u64,
    octets: u64,
}

/// Flows by five-tuple. A tuple that was used again counts as the one it was.
#[derive(Default)]
struct Flows {
    rows: Vec<Row>,
    places: HashMap<FiveTuple, usize>,
}

impl Flows {
    fn take(&mut self, recognizer: &mut Recognizer) {
        while let Some(verdict) = recognizer.poll_verdict() {
            if verdict.stage == Stage::Ended {
                self.ended(&verdict);
            }
        }
    }

    fn ended(&mut self, verdict: &Verdict) {
        let turned = FiveTuple {
            initiator: verdict.flow.responder,
            responder: verdict.flow.initiator,
            ..verdict.flow
        };
        let known = self.places.get(&turned).copied();
        let place = match (known, self.places.entry(verdict.flow)) {
            (Some(place), _) => place,
            (None, Entry::Occupied(entry)) => *entry.get(),
            (None, Entry::Vacant(entry)) => {
                entry.insert(self.rows.len());
                self.rows.push(Row {
                    flow: verdict.flow,
                    app: verdict.app,
                    how: verdict.how,
                    first: verdict.first,
                    packets: verdict.packets.into(),
                    octets: verdict.octets,
                });
                return;
            }
        };
        let row = &mut self.rows[place];
        if row.app.is_none() {
            (row.app, row.how) = (verdict.app, verdict.how);
        }
        if verdict.first < row.first {
            (row.first, row.flow) = (verdict.first, verdict.flow);
        }
        row.packets += u64::from(verdict.packets);
        row.octets += verdict.octets;
    }

    fn in_order(mut self) -> Vec<Row> {
        self.rows.sort_by_key(|row| row.first);
        self.rows
    }
}

fn print(rows: &[Row], names: &HashMap<AppId, String>, out: &mut Out) -> Done {
    let paint = out.paint();
    for row in rows {
        let (source, destination) = (row.flow.initiator, row.flow.responder);
        let app = row.app.and_then(|app| names.get(&app));
        let (proto, how) = (proto(row), how(row.how));
        if out.is_json() {
            out.json(&json!({
                "proto": proto,
                "src": source.ip().to_string(),
                "sport": source.port(),
                "dst": destination.ip().to_string(),
                "dport": destination.port(),
                "app": app,
                "how": how,
                "packets": row.packets,
                "bytes": row.octets,
            }))?;
            continue;
        }
        let name = match app {
            Some(name) => paint.name(format!("{name:<12}")),
            None => paint.faint(format!("{:<12}", "-")),
        };
        out.line(format!(
            "{proto}  {name} {how:<6} {source} -> {destination}  {}",
            paint.faint(format!("{} packets, {} bytes", row.packets, row.octets))
        ))?;
    }
    Ok(())
}

fn summary(rows: &[Row], names: &HashMap<AppId, String>, out: &mut Out) -> Done {
    let mut sums: HashMap<Option<&str>, (u64, u64, u64)> = HashMap::new();
    for row in rows {
        let app = row.app.and_then(|app| names.get(&app)).map(String::as_str);
        let sum = sums.entry(app).or_default();
        *sum = (sum.0 + 1, sum.1 + row.packets, sum.2 + row.octets);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(app, (_, _, octets))| (std::cmp::Reverse(*octets), *app));
    let mut table = Table::new(["app", "flows", "packets", "bytes"]);
    for (app, (flows, packets, octets)) in sums {
        if out.is_json() {
            out.json(&json!({ "app": app, "flows": flows, "packets": packets, "bytes": octets }))?;
        }
        table.row([app.unwrap_or("-").to_owned(), grouped(flows), grouped(packets), grouped(octets)]);
    }
    if !out.is_json() {
        table.lines(out.paint()).into_iter().try_for_each(|line| out.line(line))?;
    }
    Ok(())
}

fn proto(row: &Row) -> &'static str {
    if row.flow.protocol == 6 { "TCP" } else { "UDP" }
}

fn how(how: How) -> &'static str {
    match how {
        How::Rule => "rule",
        How::Model => "model",
        How::Shared => "shared",
        How::None => "none",
    }
}
