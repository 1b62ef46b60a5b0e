//! Recognises every flow of a directory of labelled captures and prints how well that went.
//!
//! ```text
//! recognize_eval [--errors] [--none] CAPTURES RULES.toml
//! ```
//!
//! `CAPTURES` holds `labels.tsv`, `manifest.tsv` and `pcap/`. With `--errors` each wrong flow is printed, with `--none`
//! each labelled flow that stayed unknown.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use hailpost::{
    recognize::{Config, FiveTuple, Limits, Recognizer, RulesFile, Stage},
    wire::capture::CaptureReader,
};

fn main() -> Result<(), Box<dyn Error>> {
    let (flags, paths): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let [captures, rules] = &paths[..] else {
        return Err("usage: recognize_eval [--errors] [--none] CAPTURES RULES.toml".into());
    };
    let captures = Path::new(captures);
    let rules = RulesFile::parse(&fs::read_to_string(rules)?, Limits::default())?;
    let names: HashMap<_, _> = rules.names().map(|(app, name)| (app, name.to_owned())).collect();
    let set = Arc::new(rules.set);
    let corpora: HashMap<String, String> = table(&captures.join("manifest.tsv"))?
        .into_iter()
        .map(|row| (row["pcap"].clone(), row["source_corpus"].clone()))
        .collect();
    let labels = table(&captures.join("labels.tsv"))?;

    let mut found: HashMap<String, HashMap<FiveTuple, Option<String>>> = HashMap::new();
    for file in labels.iter().map(|row| &row["pcap"]) {
        if !found.contains_key(file) {
            let flows = recognise(&captures.join("pcap").join(file), &set)?;
            let named = |app| names.get(&app).cloned();
            found.insert(
                file.clone(),
                flows.into_iter().map(|(flow, app)| (flow, app.and_then(named))).collect(),
            );
        }
    }

    let mut all = Score::default();
    let mut by_corpus: BTreeMap<&str, Score> = BTreeMap::new();
    let mut by_app: BTreeMap<&str, Score> = BTreeMap::new();
    let mut confusion: BTreeMap<(String, String), usize> = BTreeMap::new();
    for row in &labels {
        let flow = five_tuple(row)?;
        let flows = &found[&row["pcap"]];
        let turned = FiveTuple { initiator: flow.responder, responder: flow.initiator, ..flow };
        let got = flows.get(&flow).or_else(|| flows.get(&turned)).cloned().flatten();
        let want = row["app"].as_str();
        for score in
            [&mut all, by_corpus.entry(&corpora[&row["pcap"]]).or_default(), by_app.entry(want).or_default()]
        {
            score.add(want, got.as_deref());
        }
        let right = got.as_deref().unwrap_or("_other") == want;
        if !right {
            *confusion.entry((want.to_owned(), got.clone().unwrap_or("-".into()))).or_default() += 1;
        }
        let shown = match &got {
            Some(_) => flags.iter().any(|flag| flag == "--errors"),
            None => flags.iter().any(|flag| flag == "--none"),
        };
        if !right && shown {
            println!(
                "{} {} {} -> {} want {want} got {} ({} {})",
                row["pcap"],
                row["proto"],
                flow.initiator,
                flow.responder,
                got.as_deref().unwrap_or("-"),
                row["ndpi_label"],
                row["hostname"],
            );
        }
    }
    println!("errors (want, got, flows):");
    for ((want, got), count) in &confusion {
        println!("  {want:<12} {got:<12} {count}");
    }
    println!("{:<14} {:>6} {:>9} {:>10} {:>14}", "", "flows", "accuracy", "precision", "other claimed");
    for (name, score) in by_app.iter().chain(&by_corpus).chain([(&"all", &all)]) {
        score.print(name);
    }
    Ok(())
}

#[derive(Default)]
struct Score {
    flows: usize,
    right: usize,
    decided: usize,
    decided_right: usize,
    other: usize,
    other_claimed: usize,
}

impl Score {
    fn add(&mut self, want: &str, got: Option<&str>) {
        self.flows += 1;
        self.right += usize::from(got.unwrap_or("_other") == want);
        self.decided += usize::from(got.is_some());
        self.decided_right += usize::from(got == Some(want));
        self.other += usize::from(want == "_other");
        self.other_claimed += usize::from(want == "_other" && got.is_some());
    }

    fn print(&self, name: &str) {
        let share = |part: usize, whole: usize| match whole {
            0 => "-".to_owned(),
            whole => format!("{:.3}", part as f64 / whole as f64),
        };
        println!(
            "{name:<14} {:>6} {:>9} {:>10} {:>14}",
            self.flows,
            share(self.right, self.flows),
            share(self.decided_right, self.decided),
            share(self.other_claimed, self.other),
        );
    }
}

/// One application for each five-tuple: the first that was found.
fn recognise(
    path: &Path,
    rules: &Arc<hailpost::recognize::RuleSet>,
) -> Result<HashMap<FiveTuple, Option<hailpost::recognize::AppId>>, Box<dyn Error>> {
    let mut recognizer = Recognizer::new(Arc::clone(rules), Config::default());
    let mut flows = HashMap::new();
    let mut take = |recognizer: &mut Recognizer| {
        while let Some(verdict) = recognizer.poll_verdict() {
            if verdict.stage == Stage::Ended {
                let app = flows.entry(verdict.flow).or_insert(None);
                *app = app.or(verdict.app);
            }
        }
    };
    let octets = fs::read(path)?;
    let mut reader = CaptureReader::new(&octets[..])?;
    while let Some(record) = reader.next_record()? {
        // What cannot be taken apart is counted by the recogniser.
        let _ = recognizer.feed(record.time, record.link_type, record.frame);
        take(&mut recognizer);
    }
    recognizer.finish();
    take(&mut recognizer);
    Ok(flows)
}

fn table(path: &Path) -> Result<Vec<HashMap<String, String>>, Box<dyn Error>> {
    let text = fs::read_to_string(path)?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().ok_or("an empty table")?.split('\t').collect();
    let row = |line: &str| {
        header.iter().map(ToString::to_string).zip(line.split('\t').map(str::to_owned)).collect()
    };
    Ok(lines.map(row).collect())
}

fn five_tuple(row: &HashMap<String, String>) -> Result<FiveTuple, Box<dyn Error>> {
    let end = |address: &str, port: &str| -> Result<SocketAddr, Box<dyn Error>> {
        Ok(SocketAddr::new(row[address].parse::<IpAddr>()?, row[port].parse()?))
    };
    Ok(FiveTuple {
        protocol: if row["proto"] == "TCP" { 6 } else { 17 },
        initiator: end("src_ip", "src_port")?,
        responder: end("dst_ip", "dst_port")?,
    })
}
