//! `rule`: the rules that a back end sends its gateways.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    control,
    gateway::At,
    output::{Failure, Output},
};

/// The rules that a back end sends its gateways (docs/rules.md).
#[derive(Args)]
#[command(after_help = "Example:\n  hailpost rule add 22 '^SSH-2\\.0-' --data office")]
pub struct Rule {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Add a rule
    Add {
        /// AppID
        app: u32,
        /// What to look for
        pattern: String,
        /// Only for this group
        #[arg(long)]
        group: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Remove a rule, or all of an application
    Remove {
        /// AppID
        app: u32,
        /// Which; without it, all
        pattern: Option<String>,
        /// Of this group
        #[arg(long)]
        group: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// The rules that hold
    List {
        /// For this group
        #[arg(long)]
        group: Option<String>,
        #[command(flatten)]
        at: At,
    },
}

impl Rule {
    pub fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Add { app, pattern, group, at } => {
                let request = json!({ "do": "rule.add", "app": app, "pattern": pattern, "group": group });
                control::ask(&at.data, &request).map(drop)
            }
            Verb::Remove { app, pattern, group, at } => {
                let request = json!({ "do": "rule.remove", "app": app, "pattern": pattern, "group": group });
                control::ask(&at.data, &request).map(drop)
            }
            Verb::List { group, at } => {
                let rules = control::ask(&at.data, &json!({ "do": "rule.list", "group": group }))?;
                let mut out = Output::new();
                for rule in rules.as_array().into_iter().flatten() {
                    match at.json {
                        true => out.json(rule)?,
                        false => out.line(&format!(
                            "{:>10} {}",
                            rule["app"],
                            rule["pattern"].as_str().unwrap_or_default()
                        ))?,
                    }
                }
                out.flush()
            }
        }
    }
}

/// A count of a status.
pub fn count(status: &Value, name: &str) -> u64 {
    status.get(name).and_then(Value::as_u64).unwrap_or_default()
}
