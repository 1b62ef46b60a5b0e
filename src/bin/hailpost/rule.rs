//! `hailpost rule`

use clap::Subcommand;
use serde_json::{Value, json};

use crate::{
    control,
    data::DataArgs,
    failure::{Done, Failure},
    names,
    terminal::{Out, Table},
};

/// Adds, lists and removes rules that the back end sends to gateways.
///
/// A rule says which octets mean which application (docs/rules.md). Without --group it is for every group. Works whether
/// the back end serves or not.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  hailpost rule add ssh '^SSH-2\\.0-' --data office
  hailpost rule list --json
  hailpost rule remove ssh --group flat")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Adds a rule
    #[command(after_help = "Example:\n  hailpost rule add 9001 '^CAM/1' --group flat")]
    Add {
        /// The application: its number, or its name in the rules that ship
        app: String,
        /// The pattern (docs/rules.md)
        pattern: String,
        /// Only for gateways of this group
        #[arg(long)]
        group: Option<String>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Lists the rules
    #[command(after_help = "Example:\n  hailpost rule list --group flat")]
    List {
        /// Only those that hold in this group
        #[arg(long)]
        group: Option<String>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Removes a rule, or all of an application
    #[command(after_help = "Example:\n  hailpost rule remove 9001 --group flat")]
    Remove {
        /// The application: its number, or its name in the rules that ship
        app: String,
        /// Only this pattern
        pattern: Option<String>,
        /// The group that the rule is for; without it, those for every group
        #[arg(long)]
        group: Option<String>,
        #[command(flatten)]
        data: DataArgs,
    },
}

pub fn run(args: &Args, out: &mut Out) -> Done {
    match &args.command {
        Command::Add { app, pattern, group, data } => {
            let request =
                json!({ "do": "rule_add", "app": number(app)?, "pattern": pattern, "group": group });
            let answer = control::ask(&data.dir()?, &request)?;
            Ok(out.either(&answer, "added; gateways are told")?)
        }
        Command::Remove { app, pattern, group, data } => {
            let request =
                json!({ "do": "rule_remove", "app": number(app)?, "pattern": pattern, "group": group });
            let answer = control::ask(&data.dir()?, &request)?;
            Ok(out.either(&answer, "removed; gateways are told")?)
        }
        Command::List { group, data } => {
            let answer = control::ask(&data.dir()?, &json!({ "do": "rule_list", "group": group }))?;
            list(&answer["rules"], out)
        }
    }
}

fn list(rules: &Value, out: &mut Out) -> Done {
    let rules = rules.as_array().map_or(&[][..], |rules| rules);
    if out.is_json() {
        return Ok(rules.iter().try_for_each(|rule| out.json(rule))?);
    }
    if rules.is_empty() {
        return Ok(out.line("there are no rules: `hailpost rule add APP PATTERN` adds one")?);
    }
    let names = names::home()?;
    let mut table = Table::new(["group", "app", "name", "pattern"]);
    for rule in rules {
        let app = rule["app"].as_u64().unwrap_or_default();
        let name = names.get(&app).map_or("-", String::as_str);
        let pattern = match rule["pattern"].as_str() {
            Some(text) => text.to_owned(),
            None => format!("(octets {})", rule["pattern_hex"].as_str().unwrap_or_default()),
        };
        let group = rule["group"].as_str().unwrap_or("(all)").to_owned();
        table.row([group, app.to_string(), name.to_owned(), pattern]);
    }
    Ok(table.lines(out.paint()).into_iter().try_for_each(|line| out.line(line))?)
}

/// An application's number.
fn number(app: &str) -> Result<u64, Failure> {
    if let Ok(number) = app.parse::<u32>() {
        return Ok(number.into());
    }
    names::home()?
        .into_iter()
        .find(|(_, name)| name == app)
        .map(|(number, _)| number)
        .ok_or_else(|| Failure::usage(format!("{app} is neither a number nor a name in the rules that ship")))
}
