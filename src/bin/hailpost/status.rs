//! `status`: a live view of a back end.

use std::{
    io::IsTerminal,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::{Value, json};

use crate::{
    control,
    gateway::row,
    output::{Failure, Output},
    rule::count,
};

/// A live view of a back end: groups, gateways, rates. On a terminal it refreshes until Ctrl-C.
#[derive(Args)]
#[command(
    after_help = "Example:\n  hailpost status --data office\n  hailpost status --data office --json | jq .counters"
)]
pub struct Status {
    /// The back end's data directory
    #[arg(long, value_name = "DIR", default_value = "hailpost-data")]
    data: PathBuf,
    /// One JSON object, once
    #[arg(long)]
    json: bool,
    /// Once, also on a terminal
    #[arg(long)]
    once: bool,
}

/// What is shown as a rate.
const RATES: [(&str, &str); 4] = [
    ("messages", "messages in"),
    ("reports", "reports"),
    ("results_sent", "results out"),
    ("rules_sent", "rules out"),
];

impl Status {
    pub fn run(self) -> Result<(), Failure> {
        let request = json!({ "do": "status" });
        let mut out = Output::new();
        let status = control::ask(&self.data, &request)?;
        if self.json {
            out.json(&status)?;
            return out.flush();
        }
        out.line(&view(&status, None))?;
        out.flush()?;
        if self.once || !std::io::stdout().is_terminal() {
            return Ok(());
        }
        let mut before = (Instant::now(), status);
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let status = control::ask(&self.data, &request)?;
            let seconds = before.0.elapsed().as_secs_f64();
            // Home, draw over what stands there, clear the rest: no flicker.
            let text = view(&status, Some((&before.1, seconds))).replace('\n', "\x1b[K\n");
            out.line(&format!("\x1b[H{text}\x1b[J"))?;
            out.flush()?;
            before = (Instant::now(), status);
        }
    }
}

fn view(status: &Value, before: Option<(&Value, f64)>) -> String {
    let mut text = String::from("group                 gateways    results      rules     models\n");
    for group in status["groups"].as_array().into_iter().flatten() {
        let name = group["name"].as_str().filter(|name| !name.is_empty()).unwrap_or("(all groups)");
        text += &format!(
            "{name:<20} {:>9} {:>10} {:>10} {:>10}\n",
            count(group, "gateways"),
            count(group, "results"),
            count(group, "rules"),
            count(group, "models")
        );
    }
    text += "\nenrolled gateway     group            state      key\n";
    for gateway in status["gateways"].as_array().into_iter().flatten().take(40) {
        text += &row(gateway);
        text.push('\n');
    }
    let counters = &status["counters"];
    text += "\n";
    for (name, label) in RATES {
        let total = count(counters, name);
        let rate = before.map_or_else(String::new, |(old, seconds)| {
            let grown = total.saturating_sub(count(&old["counters"], name));
            format!("{:>10.1} a second", grown as f64 / seconds)
        });
        text += &format!("{label:<20} {total:>12} {rate}\n");
    }
    let troubles: Vec<String> = ["refused", "gone", "malformed", "overloaded", "unanswered", "turned_away"]
        .iter()
        .filter(|name| count(counters, name) > 0)
        .map(|name| format!("{} {name}", count(counters, name)))
        .collect();
    if !troubles.is_empty() {
        text += &format!("since the start: {}\n", troubles.join(", "));
    }
    text.trim_end().to_owned()
}
