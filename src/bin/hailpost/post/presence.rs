//! `hailpost presence`

use std::time::{Duration, Instant};

use hailpost::node::{EventKind, Field};

use super::{Credential, Phone};
use crate::{
    failure::Done,
    terminal::{Out, Table},
};

/// How long the office may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Says which users are there.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  hailpost presence anna ben --credential carl.line")]
pub struct Args {
    /// Their names
    #[arg(required = true)]
    users: Vec<String>,
    #[command(flatten)]
    credential: Credential,
}

pub fn run(args: &Args, out: &mut Out) -> Done {
    let mut phone = Phone::open(&args.credential)?;
    let until = Instant::now() + PATIENCE;
    phone.wait_for(EventKind::LoggedIn, until)?;
    phone.with(|node, _| node.query(args.users.clone()))??;
    let mut table = Table::new(["user", "state", "since"]);
    for _ in &args.users {
        let event = phone.wait_for(EventKind::Presence, until)?;
        if out.is_json() {
            out.json(&hailpost::codec::event(&event))?;
            continue;
        }
        let user = event.text(Field::User).unwrap_or_default().to_owned();
        let state = match event.u64(Field::Online) {
            Some(1) => out.paint().good("● online"),
            _ => out.paint().faint("○ offline"),
        };
        let since = match event.u64(Field::Since) {
            None | Some(0) => "-".to_owned(),
            Some(since) => format!("{since} (Unix seconds)"),
        };
        table.row([user, state, since]);
    }
    if !out.is_json() {
        table.lines(out.paint()).into_iter().try_for_each(|line| out.line(line))?;
    }
    phone.close()
}
