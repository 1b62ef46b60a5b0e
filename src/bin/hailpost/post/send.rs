//! `hailpost send`

use std::{
    io::Read,
    time::{Duration, Instant},
};

use hailpost::{
    node::{EventKind, Field},
    wire::app::{Address, MAX_BODY, MAX_RECEIVERS, To},
};
use serde_json::json;

use super::{Credential, Phone};
use crate::{
    failure::{Done, Failure},
    terminal::Out,
};

/// Sends a message as a device.
///
/// It is kept in the device's outbox first. Ends when the office has it; if that takes too long it stays in the outbox, and
/// goes out the next time that the device is there.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  hailpost send user:anna 'dinner is ready' --credential ben.line
  hailpost send user:anna,user:carl - --credential ben.line --type image/png <cat.png")]
pub struct Args {
    /// To whom: user:NAME or app:NAME, several with commas
    to: String,
    /// What; - for standard input
    body: String,
    #[command(flatten)]
    credential: Credential,
    /// Only for who is there now
    #[arg(long)]
    drop: bool,
    /// Seconds until it is stale
    #[arg(long, value_name = "N", default_value_t = 604_800)]
    ttl: u32,
    /// What it is
    #[arg(long = "type", value_name = "MIME", default_value = "text/plain")]
    content_type: String,
    /// How long to wait for the office, in seconds; 0 leaves it in the outbox
    #[arg(long, value_name = "N", default_value_t = 30)]
    wait: u64,
}

pub fn run(args: &Args, out: &mut Out) -> Done {
    let to = receivers(&args.to)?;
    let body = match args.body.as_str() {
        "-" => {
            let mut body = Vec::new();
            std::io::stdin().lock().take(MAX_BODY as u64 + 1).read_to_end(&mut body)?;
            body
        }
        text => text.as_bytes().to_vec(),
    };
    let mut phone = Phone::open(&args.credential)?;
    let (keep, ttl) = (!args.drop, args.ttl);
    let number = phone.with(|node, now| node.put(now, to, keep, ttl, &args.content_type, body))??;
    let durable = Instant::now() + Duration::from_secs(30);
    while phone.wait_for(EventKind::Stored, durable)?.u64(Field::Number) != Some(number) {}
    let until = Instant::now() + Duration::from_secs(args.wait);
    let ended = loop {
        let Some(event) = phone.next(Some(until))? else { break None };
        let is_ours = event.u64(Field::Number) == Some(number);
        match event.kind() {
            EventKind::Accepted | EventKind::Rejected | EventKind::Expired if is_ours => break Some(event),
            EventKind::Refused => {
                let text = event.text(Field::Text).unwrap_or_default();
                return Err(Failure { code: 3, text: format!("the office refused this device: {text}") });
            }
            _ => {}
        }
    };
    phone.close()?;
    match ended {
        None if args.wait == 0 => {
            Ok(out.either(&json!({ "number": number, "state": "outbox" }), "in the outbox")?)
        }
        None => Err(Failure::new(
            "the office does not answer; the message is in the outbox and goes out the next time the device is there",
        )),
        Some(event) if event.kind() == EventKind::Accepted => {
            let state = event.text(Field::State).unwrap_or_default().to_owned();
            Ok(out.either(&json!({ "number": number, "state": state }), state)?)
        }
        Some(event) if event.kind() == EventKind::Expired => {
            Err(Failure::new("its time was over before the office had it"))
        }
        Some(event) => {
            let why = match event.u64(Field::Code).unwrap_or_default() {
                403 => "this user may not send it".to_owned(),
                404 => format!("{} is not known to the office", args.to),
                code => format!("the office answered {code}"),
            };
            Err(Failure { code: 3, text: why })
        }
    }
}

fn receivers(text: &str) -> Result<To, Failure> {
    let named: Result<Vec<Address>, _> = text.split(',').map(|one| one.trim().parse()).collect();
    match named {
        Ok(named) if named.len() <= MAX_RECEIVERS => Ok(To::Named(named)),
        _ => Err(Failure::usage(format!("{text}: write user:NAME or app:NAME, up to 1000 with commas"))),
    }
}
