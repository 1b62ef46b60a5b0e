//! `hailpost bench`: the measured numbers.

mod fleet;
mod frames;
mod gateways;
mod handshake;
mod load;
mod mail;
mod process;
mod recognition;
mod records;
mod sessions;
mod sync;

use std::{path::PathBuf, time::Duration};

use clap::Subcommand;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::{
    failure::Done,
    terminal::{Out, Table},
};

/// Measures what this machine does; alone it lists what can be measured.
///
/// Every figure is of this machine and this moment: compare ratios of one run. Build with --release, or the figures are those of a
/// build for tests.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  hailpost bench
  hailpost bench records --json
  hailpost bench gateways --count 1000 --seconds 5

A line of --json: {\"bench\":\"records\",\"what\":\"encode, IPv4\",\"value\":41.5,\"unit\":\"M records/s\"}")]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Encoding and decoding of records
    #[command(after_help = "Example:\n  hailpost bench records")]
    Records,
    /// Recognition: nanoseconds a packet, octets a flow
    #[command(after_help = "Example:\n  hailpost bench recognize --pcap evening.pcap --repeat 50")]
    Recognize {
        /// This capture, or all in this directory, not one of our own making
        #[arg(long, value_name = "PATH")]
        pcap: Option<PathBuf>,
        /// Feed it so many times, with other addresses each time
        #[arg(long, default_value_t = 20)]
        repeat: u8,
        /// Write what was fed, to measure other programs on
        #[arg(long, value_name = "F.pcap")]
        write: Option<PathBuf>,
    },
    /// A sync of many results to many gateways, in this process
    #[command(after_help = "Example:\n  hailpost bench sync --results 60000 --gateways 1000")]
    Sync {
        /// Results that the back end holds
        #[arg(long, default_value_t = 60_000)]
        results: u32,
        /// Gateways that register at once
        #[arg(long, default_value_t = 1000)]
        gateways: u32,
    },
    /// Many connected gateways and their heartbeats: processor and memory of a back end process
    #[command(after_help = "Example:\n  hailpost bench gateways --count 10000 --seconds 20")]
    Gateways(gateways::Args),
    /// Many devices in session, and their heartbeats: processor and memory of an office process
    ///
    /// Each device is enrolled, logs in with a full handshake and is answered; all of them share 64 sockets. A million take
    /// about five minutes and 2 GB of memory, nearly all of it in this process.
    #[command(after_help = "Example:\n  hailpost bench sessions --count 1000000")]
    Sessions(sessions::Args),
    /// The server's end of the link: handshakes, resumes, heartbeats, messages
    #[command(after_help = "Example:\n  hailpost bench handshake --count 20000")]
    Handshake(handshake::Args),
    /// Messages for devices that are away made durable, beside SQLite alone; disk and memory
    #[command(after_help = "Example:\n  hailpost bench store --count 100000")]
    Store(mail::Args),
    /// Messages that wait read, handed over, confirmed and deleted
    #[command(after_help = "Example:\n  hailpost bench replay --count 100000")]
    Replay(mail::Args),
    /// The other side of `gateways`
    #[command(hide = true, after_help = "Example:\n  none: `bench gateways` runs it")]
    Load(load::Args),
}

pub fn run(args: &Args, out: &mut Out) -> Done {
    let mut report = Report { bench: "", rows: Vec::new() };
    match &args.what {
        None => return list(out),
        Some(What::Load(args)) => return load::run(args, out),
        Some(What::Records) => records::run(&mut report),
        Some(What::Recognize { pcap, repeat, write }) => {
            recognition::run(pcap.as_deref(), *repeat, write.as_deref(), &mut report)?;
        }
        Some(What::Sync { results, gateways }) => sync::run(*results, *gateways, &mut report)?,
        Some(What::Gateways(args)) => gateways::run(args, &mut report)?,
        Some(What::Sessions(args)) => sessions::run(args, &mut report)?,
        Some(What::Handshake(args)) => handshake::run(args, &mut report)?,
        Some(What::Store(args)) => mail::store(args, &mut report)?,
        Some(What::Replay(args)) => mail::replay(args, &mut report)?,
    }
    report.print(out)
}

/// Measured figures.
pub struct Report {
    bench: &'static str,
    rows: Vec<(String, f64, &'static str)>,
}

impl Report {
    /// What is measured.
    pub fn about(&mut self, bench: &'static str) {
        self.bench = bench;
    }

    /// One figure.
    pub fn row(&mut self, what: impl Into<String>, value: f64, unit: &'static str) {
        self.rows.push((what.into(), value, unit));
    }

    fn print(&self, out: &mut Out) -> Done {
        if out.is_json() {
            for (what, value, unit) in &self.rows {
                let value = (value * 1000.0).round() / 1000.0;
                out.json(&json!({ "bench": self.bench, "what": what, "value": value, "unit": unit }))?;
            }
            return Ok(());
        }
        let mut table = Table::new([self.bench, "value", "unit"]);
        for (what, value, unit) in &self.rows {
            let shown = match value.abs() {
                0.0..10.0 => format!("{value:.2}"),
                10.0..1000.0 => format!("{value:.1}"),
                _ => crate::terminal::grouped(*value as u64),
            };
            table.row([what.clone(), shown, (*unit).to_owned()]);
        }
        table.lines(out.paint()).into_iter().try_for_each(|line| out.line(line))?;
        if cfg!(debug_assertions) {
            out.line(
                out.paint().bad("a build for tests: `cargo run --release -- bench` measures what ships"),
            )?;
        }
        Ok(())
    }
}

/// Processor time that this thread has used.
fn cpu() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec.unsigned_abs() as u32)
}

fn list(out: &mut Out) -> Done {
    let benches = [
        ("records", "encoding and decoding of records"),
        ("recognize", "recognition: nanoseconds a packet, octets a flow"),
        ("sync", "a sync of 60,000 results to 1,000 gateways, processor time a record"),
        ("gateways", "10,000 connected gateways with heartbeats every 3 s, processor and memory"),
        ("handshake", "the server's end of the link: handshakes, resumes, heartbeats, messages, on one core"),
        ("store", "100,000 messages for devices that are away, made durable; beside SQLite alone"),
        ("replay", "the same messages read, handed over, confirmed and deleted"),
        ("sessions", "100,000 devices in session with heartbeats every 30 s, processor, memory and loss"),
    ];
    for (name, what) in benches {
        out.either(
            &json!({ "bench": name, "what": what }),
            format!("{:<10} {what}", out.paint().strong(name)),
        )?;
    }
    Ok(())
}
