//! What the program prints, and how it fails.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use hailpost::{
    codec,
    node::{Event, EventKind, Field},
    status::{Fault, Status},
};
use serde_json::Value;

/// Why a command ended before it was done.
pub enum Failure {
    /// Said on standard error.
    Fault(Fault),
    /// Who read our output has enough of it.
    Quiet,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure::Fault(fault)
    }
}

impl Failure {
    /// A failure with its text.
    pub fn new(status: Status, detail: impl Into<String>) -> Failure {
        Failure::Fault(Fault::new(status, detail))
    }

    /// A failure to read or write something.
    pub fn io(doing: &str, error: &io::Error) -> Failure {
        Failure::new(Status::Io, format!("{doing}: {error}"))
    }

    /// Says what failed, and answers with the exit code.
    pub fn report(self) -> ExitCode {
        let Failure::Fault(fault) = self else { return ExitCode::SUCCESS };
        let _ = writeln!(io::stderr(), "hailpost: {}", fault.detail);
        ExitCode::from(match fault.status {
            Status::Malformed | Status::Invalid | Status::Config | Status::Pattern => 2,
            Status::Refused | Status::Barred | Status::Identity => 3,
            Status::NotFound => 4,
            _ => 1,
        })
    }
}

/// Standard output, which may be closed any time: then the command is over, and that is no failure.
pub struct Output {
    out: io::BufWriter<io::StdoutLock<'static>>,
}

impl Output {
    pub fn new() -> Output {
        Output { out: io::BufWriter::with_capacity(1 << 16, io::stdout().lock()) }
    }

    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.out, "{line}").map_err(closed)
    }

    pub fn json(&mut self, value: &Value) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value).map_err(|error| closed(error.into()))?;
        self.out.write_all(b"\n").map_err(closed)
    }

    /// To be called where a reader waits for what was printed.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(closed)
    }
}

fn closed(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Quiet,
        _ => Failure::io("writing to standard output", &error),
    }
}

/// Prints an event, and flushes.
pub fn event(out: &mut Output, event: &Event, json: bool) -> Result<(), Failure> {
    match json {
        true => out.json(&codec::event(event))?,
        false => out.line(&describe(event))?,
    }
    out.flush()
}

/// An event in plain words.
pub fn describe(event: &Event) -> String {
    let text = |field| event.text(field).unwrap_or_default();
    let number = |field| event.u64(field).unwrap_or_default();
    let gateway = || format!("gateway {} of {}", text(Field::Name), text(Field::Group));
    let remote = || {
        let protocol = match number(Field::Protocol) {
            1 => "tcp",
            2 => "udp",
            _ => "ip",
        };
        format!("{protocol} {}", endpoint(text(Field::RemoteAddress), number(Field::RemotePort)))
    };
    let app = || match event.text(Field::AppName) {
        Some(name) => name.to_owned(),
        None => format!("application {}", number(Field::App)),
    };
    match event.kind() {
        EventKind::Registered => "registered at the back end".into(),
        EventKind::Refused => format!("the back end refused: {}", text(Field::Text)),
        EventKind::Down => format!("no link: {}; trying again", text(Field::Text)),
        EventKind::Synced => "all that the back end holds for this group is here".into(),
        EventKind::Result if number(Field::App) == 0 => {
            format!("{} is of no known application now", remote())
        }
        EventKind::Result => format!("learned: {} is {}", remote(), app()),
        EventKind::Rules => format!("{} rules of the back end hold", number(Field::Count)),
        EventKind::Parameters => format!("a trained rule came for {}", app()),
        EventKind::Acknowledged => format!("told the back end: {} is {}", remote(), app()),
        EventKind::Writable => "there is room for reports again".into(),
        EventKind::Deregistered if number(Field::ByBackend) == 1 => {
            "the back end took this gateway off".into()
        }
        EventKind::Deregistered => "left the back end".into(),
        EventKind::FeaturesAcknowledged => format!("sent features of a flow of {}", app()),
        EventKind::Flow => {
            let name = event.u64(Field::App).map_or_else(|| "unknown".to_owned(), |_| app());
            let local = endpoint(text(Field::LocalAddress), number(Field::LocalPort));
            format!(
                "{local} -> {} is {name} ({}, {} packets)",
                remote(),
                text(Field::How),
                number(Field::Packets)
            )
        }
        EventKind::RuleRejected => format!("a rule for {} cannot be used: {}", app(), text(Field::Text)),
        EventKind::GatewayRegistered => format!("{} registered", gateway()),
        EventKind::GatewaySynced => format!("{} has all that its group knows", gateway()),
        EventKind::GatewayRefused => format!("refused somebody: {}", text(Field::Text)),
        EventKind::GatewayGone => format!("{} is gone: {}", gateway(), text(Field::Text)),
        EventKind::GatewayDeregistered if number(Field::ByBackend) == 1 => format!("took off {}", gateway()),
        EventKind::GatewayDeregistered => format!("{} left", gateway()),
        EventKind::Identified => format!("{} says that {} is {}", gateway(), remote(), app()),
        EventKind::Features => format!("{} sent features of a flow of {}", gateway(), app()),
        EventKind::Durable => format!("change {} is durable", number(Field::Ticket)),
        EventKind::Trained if number(Field::Accepted) == 1 => {
            format!("trained a rule for {} in {}: {}", app(), text(Field::Group), text(Field::Text))
        }
        EventKind::Trained => {
            format!("training for {} in {} changed nothing: {}", app(), text(Field::Group), text(Field::Text))
        }
        EventKind::StoreFailing => format!("the store fails, nothing is acknowledged: {}", text(Field::Text)),
        EventKind::StoreRecovered => "the store works again".into(),
        _ => codec::event(event).to_string(),
    }
}

/// An address and a port, IPv6 in brackets.
pub fn endpoint(address: &str, port: u64) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}
