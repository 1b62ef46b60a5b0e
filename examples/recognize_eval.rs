//! Recognises every flow of a directory of labelled captures and prints how well that went.
//!
//! ```text
//! recognize_eval [--errors] [--none] [--hold-out] CAPTURES RULES.toml...
//! ```
//!
//! `CAPTURES` holds `labels.tsv`, `manifest.tsv` and `pcap/`. Several rules files are read as one. With `--errors` each
//! wrong flow is printed, with `--none` each labelled flow that stayed unknown.
//!
//! With `--hold-out` also, for each source corpus, the figures on it alone; the figures on it without the rules that
//! decide flows of no other corpus, which is what remains if everything that only this corpus could have taught is
//! forgotten; and those rules, each of which has to be justified by its protocol.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use hailpost::{
    recognize::{AppId, Config, FiveTuple, Limits, NamedRule, Recognizer, Rule, RuleSet, RulesFile, Stage},
    wire::capture::CaptureReader,
};

fn main() -> Result<(), Box<dyn Error>> {
    let (flags, paths): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let [captures, rules @ ..] = &paths[..] else {
        return Err(USAGE.into());
    };
    if rules.is_empty() {
        return Err(USAGE.into());
    }
    let has = |flag: &str| flags.iter().any(|given| given == flag);
    let mut text = String::new();
    for path in rules {
        text += &fs::read_to_string(path)?;
    }
    let rules = RulesFile::parse(&text, Limits::default())?;
    let captures = Captures::load(Path::new(captures))?;

    let plain = rules.rules.iter().map(|named| named.rule.clone()).collect::<Vec<_>>();
    let found = captures.recognise(&plain)?;
    let mut all = Score::default();
    let mut by_corpus: BTreeMap<&str, Score> = BTreeMap::new();
    let mut by_app: BTreeMap<&str, Score> = BTreeMap::new();
    let mut confusion: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (label, found) in captures.labels.iter().zip(&found) {
        let got = found.and_then(|(app, _)| rules.name(app));
        let corpus = by_corpus.entry(&label.corpus).or_default();
        for score in [&mut all, corpus, by_app.entry(&label.app).or_default()] {
            score.add(&label.app, got);
        }
        if got.unwrap_or("_other") == label.app {
            continue;
        }
        *confusion.entry((&label.app, got.unwrap_or("-"))).or_default() += 1;
        if has(if got.is_some() { "--errors" } else { "--none" }) {
            let (flow, got) = (&label.flow, got.unwrap_or("-"));
            let (from, to, want, note) = (flow.initiator, flow.responder, &label.app, &label.note);
            println!("{} {} {from} -> {to} want {want} got {got} ({note})", label.file, flow.protocol);
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
    if has("--hold-out") {
        let corpora: Vec<&str> = by_corpus.into_keys().collect();
        hold_out(&captures, &rules, &found, &corpora)?;
    }
    Ok(())
}

const USAGE: &str = "usage: recognize_eval [--errors] [--none] [--hold-out] CAPTURES RULES.toml...";

/// The application of a flow and the rule that said so, by its place in the file.
type Found = Option<(AppId, usize)>;

/// What remains of each corpus when the rules that only it asks for are forgotten, and which those are.
fn hold_out(
    captures: &Captures,
    rules: &RulesFile,
    found: &[Found],
    corpora: &[&str],
) -> Result<(), Box<dyn Error>> {
    let mut used: BTreeMap<usize, BTreeMap<&str, usize>> = BTreeMap::new();
    for (label, found) in captures.labels.iter().zip(found) {
        if let Some((_, rule)) = found {
            *used.entry(*rule).or_default().entry(&label.corpus).or_default() += 1;
        }
    }
    println!("\n{} of {} rules decide a flow here", used.len(), rules.rules.len());
    for corpus in corpora {
        let own =
            |rule: usize| used.get(&rule).is_some_and(|used| used.len() == 1 && used.contains_key(corpus));
        let kept: Vec<&NamedRule> =
            rules.rules.iter().enumerate().filter(|(rule, _)| !own(*rule)).map(|(_, named)| named).collect();
        let plain: Vec<Rule> = kept.iter().map(|named| named.rule.clone()).collect();
        let without = captures.recognise(&plain)?;
        let mut scores = [Score::default(), Score::default()];
        for ((label, found), without) in captures.labels.iter().zip(found).zip(&without) {
            if label.corpus == *corpus {
                for (score, found) in scores.iter_mut().zip([found, without]) {
                    score.add(&label.app, found.and_then(|(app, _)| rules.name(app)));
                }
            }
        }
        println!();
        scores[0].print(corpus);
        scores[1].print("  its own out");
        for (rule, named) in rules.rules.iter().enumerate().filter(|(rule, _)| own(*rule)) {
            let pattern: String = named.rule.text.chars().take(90).collect();
            println!("    {:>4} line {:>4} {:<12} {pattern}", used[&rule][corpus], named.line, named.name);
        }
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

/// Captures in memory and what is known about their flows.
struct Captures {
    labels: Vec<Label>,
    files: BTreeMap<String, Vec<u8>>,
}

struct Label {
    file: String,
    corpus: String,
    flow: FiveTuple,
    app: String,
    note: String,
}

impl Captures {
    fn load(directory: &Path) -> Result<Captures, Box<dyn Error>> {
        let corpora: HashMap<String, String> = table(&directory.join("manifest.tsv"))?
            .into_iter()
            .map(|row| (row["pcap"].clone(), row["source_corpus"].clone()))
            .collect();
        let mut labels = Vec::new();
        let mut files = BTreeMap::new();
        for row in table(&directory.join("labels.tsv"))? {
            let file = row["pcap"].clone();
            if !files.contains_key(&file) {
                files.insert(file.clone(), fs::read(directory.join("pcap").join(&file))?);
            }
            labels.push(Label {
                corpus: corpora[&file].clone(),
                flow: five_tuple(&row)?,
                app: row["app"].clone(),
                note: format!("{} {}", row["ndpi_label"], row["hostname"]),
                file,
            });
        }
        Ok(Captures { labels, files })
    }

    /// What `rules` make of every labelled flow.
    fn recognise(&self, rules: &[Rule]) -> Result<Vec<Found>, Box<dyn Error>> {
        let rules = Arc::new(RuleSet::compile(rules, Limits::default())?);
        let mut found = HashMap::new();
        for (file, octets) in &self.files {
            found.insert(file, recognise(octets, &rules)?);
        }
        let one = |label: &Label| {
            let flows = &found[&label.file];
            let FiveTuple { protocol, initiator, responder } = label.flow;
            let turned = FiveTuple { protocol, initiator: responder, responder: initiator };
            flows.get(&label.flow).or_else(|| flows.get(&turned)).copied().flatten()
        };
        Ok(self.labels.iter().map(one).collect())
    }
}

/// One application for each five-tuple: the first that was found.
fn recognise(octets: &[u8], rules: &Arc<RuleSet>) -> Result<HashMap<FiveTuple, Found>, Box<dyn Error>> {
    let mut recognizer = Recognizer::new(Arc::clone(rules), Config::default());
    let mut flows = HashMap::new();
    let mut take = |recognizer: &mut Recognizer| {
        while let Some(verdict) = recognizer.poll_verdict() {
            if verdict.stage == Stage::Ended {
                let found = flows.entry(verdict.flow).or_insert(None);
                *found = found.or(verdict.app.zip(verdict.rule));
            }
        }
    };
    let mut reader = CaptureReader::new(octets)?;
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
