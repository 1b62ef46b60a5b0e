//! Events as lines.

use std::{
    collections::HashMap,
    io,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use hailpost::{
    codec,
    node::{Event, EventKind, Field},
};
use serde_json::{Value, json};

use crate::terminal::{Out, Paint, grouped};

/// Prints events, one a line: for people with the seconds since the start, for scripts with the time of day.
pub struct Printer {
    begun: Instant,
    /// What people call applications.
    names: HashMap<u64, String>,
}

impl Printer {
    /// Seconds count from now.
    pub fn new(names: HashMap<u64, String>) -> Printer {
        Printer { begun: Instant::now(), names }
    }

    /// Prints an event, unless it tells people nothing.
    pub fn print(&self, event: &Event, out: &mut Out) -> io::Result<()> {
        if out.is_json() {
            let mut value = codec::event(event);
            stamp(&mut value);
            return out.json(&value);
        }
        match self.describe(event, out.paint()) {
            Some(text) => self.line(&text, out),
            None => Ok(()),
        }
    }

    /// Prints something that is no event of the library.
    pub fn note(&self, name: &str, text: &str, out: &mut Out) -> io::Result<()> {
        if out.is_json() {
            let mut value = json!({ "event": name, "text": text });
            stamp(&mut value);
            return out.json(&value);
        }
        let line = format!("{:<12} {text}", out.paint().strong(name));
        self.line(&line, out)
    }

    fn line(&self, text: &str, out: &mut Out) -> io::Result<()> {
        let since = format!("{:9.3}", self.begun.elapsed().as_secs_f64());
        out.line(format!("{}  {text}", out.paint().faint(since)))
    }

    /// An event in words.
    fn describe(&self, event: &Event, paint: Paint) -> Option<String> {
        let text = |field| event.text(field).unwrap_or_default().to_owned();
        let number = |field| event.u64(field).unwrap_or_default();
        let remote = || {
            let protocol = match number(Field::Protocol) {
                1 => "tcp",
                2 => "udp",
                _ => "other",
            };
            let (address, port) = (text(Field::RemoteAddress), number(Field::RemotePort));
            match address.contains(':') {
                true => format!("{protocol} [{address}]:{port}"),
                false => format!("{protocol} {address}:{port}"),
            }
        };
        let who = || {
            let (name, group) = (text(Field::Name), text(Field::Group));
            format!("{} {}", paint.name(name), paint.faint(format!("({group})")))
        };
        let app = || {
            let number = number(Field::App);
            match event.text(Field::AppName).or_else(|| self.names.get(&number).map(String::as_str)) {
                Some(name) => paint.name(name),
                None => format!("application {number}"),
            }
        };
        let key = || match event.bytes(Field::Key) {
            Some(key) => format!("key {}", codec::to_hex(key)),
            None => "somebody without a key".to_owned(),
        };
        let good = |word: &str| paint.good(format!("{word:<12}"));
        let bad = |word: &str| paint.bad(format!("{word:<12}"));
        let plain = |word: &str| format!("{word:<12}");
        Some(match event.kind() {
            EventKind::Registered => format!("{} with the back end", good("registered")),
            EventKind::Refused => {
                format!("{} {}", bad("refused"), advice(number(Field::Reason), &text(Field::Text)))
            }
            EventKind::Down => format!("{} {}; trying again", bad("down"), text(Field::Text)),
            EventKind::Synced => {
                format!("{} all that the back end holds for this group is here", good("synced"))
            }
            EventKind::Result => match number(Field::App) {
                0 => format!("{} {} is no longer told", plain("result"), remote()),
                _ => format!("{} {} is {}", plain("result"), remote(), app()),
            },
            EventKind::Rules => {
                format!("{} {} of the back end hold", plain("rules"), grouped(number(Field::Count)))
            }
            EventKind::Parameters => format!("{} a trained rule for {}", good("parameters"), app()),
            EventKind::Acknowledged => {
                format!("{} {} is {}, durable at the back end", plain("acknowledged"), remote(), app())
            }
            EventKind::Writable => return None,
            EventKind::Deregistered => match number(Field::ByBackend) {
                0 => format!("{} left the back end", plain("deregistered")),
                _ => format!("{} taken off by the operator", bad("deregistered")),
            },
            EventKind::FeaturesAcknowledged => {
                format!("{} of a flow of {}, durable", plain("features"), app())
            }
            EventKind::Recognised => {
                format!("{} {} is {} ({})", plain("recognised"), remote(), app(), text(Field::How))
            }
            EventKind::Flow => {
                let known = event.u64(Field::App).map_or_else(|| paint.faint("not known"), |_| app());
                let (how, packets) = (text(Field::How), grouped(number(Field::Packets)));
                format!("{} {} is {known} ({how}), {packets} packets", plain("flow"), remote())
            }
            EventKind::RuleRejected => format!("{} for {}: {}", bad("rule"), app(), text(Field::Text)),
            EventKind::ReportDropped => format!("{} report on {}", bad("dropped"), remote()),
            EventKind::FeaturesDropped => format!("{} features of {}", bad("dropped"), app()),
            EventKind::GatewayRegistered => format!("{} {}", good("registered"), who()),
            EventKind::GatewaySynced => format!("{} {}", good("synced"), who()),
            EventKind::GatewayRefused => format!(
                "{} {}: {}",
                bad("refused"),
                key(),
                match event.u64(Field::Reason) {
                    Some(1) =>
                        "not enrolled; `hailpost gateway add NAME --group G --key KEY` lets it in".to_owned(),
                    _ => text(Field::Text),
                }
            ),
            EventKind::GatewayGone => format!("{} {}: {}", bad("gone"), who(), text(Field::Text)),
            EventKind::GatewayDeregistered => match number(Field::ByBackend) {
                0 => format!("{} {} left", plain("deregistered"), who()),
                _ => format!("{} {} was taken off", bad("deregistered"), who()),
            },
            EventKind::Identified => format!("{} {}: {} is {}", plain("identified"), who(), remote(), app()),
            EventKind::Features => format!("{} {}: a flow of {}", plain("features"), who(), app()),
            EventKind::Durable => return None,
            EventKind::Trained => {
                let what = format!("{} in group {}: {}", app(), text(Field::Group), text(Field::Text));
                match number(Field::Accepted) {
                    0 => format!("{} {what}", plain("not trained")),
                    _ => format!("{} {what}", good("trained")),
                }
            }
            EventKind::StoreFailing => format!("{} {}", bad("store"), text(Field::Text)),
            EventKind::StoreRecovered => format!("{} works again", good("store")),
            EventKind::LoggedIn => format!("{} at the office", good("logged in")),
            EventKind::Welcome => match (number(Field::Waiting), number(Field::Missed)) {
                (0, 0) => return None,
                (waiting, 0) => format!("{} {} messages", plain("waiting"), grouped(waiting)),
                (waiting, missed) => format!(
                    "{} {} messages are gone, because they were too many or too old; {} follow",
                    bad("missed"),
                    grouped(missed),
                    grouped(waiting)
                ),
            },
            EventKind::Message => {
                let body = event.bytes(Field::Body).unwrap_or_default();
                let again = if number(Field::Redelivered) == 0 { "" } else { " (again)" };
                let sender = paint.name(text(Field::Sender));
                match std::str::from_utf8(body).ok().filter(|text| !text.contains(|c: char| c.is_control())) {
                    Some(body) => format!("{} {sender}{again}: {body}", good("message")),
                    None => {
                        format!("{} {sender}{again}: {} octets", good("message"), grouped(body.len() as u64))
                    }
                }
            }
            EventKind::Stored => format!("{} {} in the outbox", plain("stored"), number(Field::Number)),
            EventKind::Accepted => {
                format!(
                    "{} {} by the office: {}",
                    good("accepted"),
                    number(Field::Number),
                    text(Field::State)
                )
            }
            EventKind::Rejected => {
                format!(
                    "{} {} by the office: {}",
                    bad("rejected"),
                    number(Field::Number),
                    number(Field::Code)
                )
            }
            EventKind::Expired => {
                format!("{} {} before the office had it", bad("expired"), number(Field::Number))
            }
            EventKind::Answer => format!("{} {}", plain("answer"), number(Field::Code)),
            EventKind::Presence => {
                let state = if number(Field::Online) == 0 { plain("offline") } else { good("online") };
                format!("{state} {}", paint.name(text(Field::User)))
            }
            EventKind::Answered => match number(Field::Code) {
                200 => format!("{} {} {}", good("answered"), text(Field::Id), text(Field::State)),
                code => format!("{} {}: {code} {}", bad("refused"), text(Field::Id), text(Field::Text)),
            },
            EventKind::Draining => format!("{} the office is about to stop", plain("draining")),
            EventKind::Suspended => {
                let knows =
                    if number(Field::Told) == 1 { "the office knows" } else { "the office does not know" };
                format!("{} {knows}", plain("suspended"))
            }
            EventKind::DeviceOnline => format!("{} device {}", good("online"), number(Field::Inbox)),
            EventKind::DeviceOffline => {
                format!("{} device {}: {}", plain("offline"), number(Field::Inbox), text(Field::Text))
            }
            // Who serves asks an authentication server, or nobody.
            EventKind::Authenticate => return None,
            EventKind::Stale => format!(
                "{} too much waited for device {}, or it was silent for too long: {} messages are gone",
                bad("stale"),
                number(Field::Inbox),
                grouped(number(Field::Missed))
            ),
            EventKind::BrokerUp => format!("{} broker {}", good("up"), paint.name(text(Field::Name))),
            EventKind::BrokerDown => {
                format!("{} broker {}: {}", bad("down"), paint.name(text(Field::Name)), text(Field::Text))
            }
            EventKind::Confirmed | EventKind::Failed => return None,
            EventKind::Warning => format!("{} {}", bad("warning"), text(Field::Text)),
        })
    }
}

fn stamp(value: &mut Value) {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    value["time"] = json!(unix.as_millis() as f64 / 1000.0);
}

/// What a refused gateway's owner can do.
fn advice(reason: u64, text: &str) -> String {
    match reason {
        1 => format!("{text}: have the operator run `hailpost gateway add NAME --group G --key KEY`"),
        8 => format!("{text}: have the operator run `hailpost gateway allow NAME`"),
        _ => text.to_owned(),
    }
}
