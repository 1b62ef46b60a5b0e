//! `hailpost listen`

use std::collections::HashMap;

use hailpost::node::{EventKind, Field};

use super::{Credential, Phone};
use crate::{
    events::Printer,
    failure::{Done, Failure},
    terminal::Out,
};

/// Prints the messages of a device, until Ctrl-C.
///
/// A message is confirmed once it is printed: the office forgets it then, and it is never printed again. What could not be
/// printed before a crash is printed again, and says so.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  hailpost listen --credential anna.line
  hailpost listen --credential anna.line --json --count 1 | jq -r 'select(.event == \"message\").body'")]
pub struct Args {
    #[command(flatten)]
    credential: Credential,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Follow this application: what it sends to its subscribers comes too; may be repeated
    #[arg(long, value_name = "APP")]
    follow: Vec<String>,
    /// Do not confirm: the messages come again the next time
    #[arg(long)]
    peek: bool,
}

pub fn run(args: &Args, out: &mut Out) -> Done {
    let mut phone = Phone::open(&args.credential)?;
    let printer = Printer::new(HashMap::new());
    let (mut shown, mut confirming) = (0, 0);
    let enough = |shown| args.count.is_some_and(|count| shown >= count);
    while !(enough(shown) && confirming == 0) {
        let Some(event) = phone.next(None)? else { break };
        if event.kind() == EventKind::Message && enough(shown) {
            continue;
        }
        printer.print(&event, out)?;
        out.flush()?;
        match event.kind() {
            EventKind::LoggedIn => {
                for app in &args.follow {
                    phone.with(|node, _| node.subscribe(app, true))??;
                }
            }
            EventKind::Message => {
                shown += 1;
                // It is printed: only now it is dealt with.
                if !args.peek {
                    let sequence = event.u64(Field::Sequence).unwrap_or_default();
                    phone.with(|node, _| node.confirm(sequence))??;
                    confirming += 1;
                }
            }
            EventKind::Confirmed => confirming -= 1,
            EventKind::Refused => {
                let text = event.text(Field::Text).unwrap_or_default();
                return Err(Failure { code: 3, text: format!("the office refused this device: {text}") });
            }
            _ => {}
        }
    }
    phone.close()
}
