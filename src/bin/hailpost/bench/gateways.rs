//! Many gateways on one back end process, over loopback TCP, from another process.

use std::{
    env, fs, thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Report,
    process::{Process, program},
};
use crate::{failure::Failure, serve, terminal::Progress};

/// How long connecting all of them may take.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// Gateways
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    count: u32,
    /// From one heartbeat to the next
    #[arg(long, default_value_t = 3000, value_name = "MS")]
    heartbeat: u32,
    /// How long to measure, rounded up to whole beats
    #[arg(long, default_value_t = 15)]
    seconds: u32,
}

pub fn run(args: &Args, report: &mut Report) -> Result<(), Failure> {
    report.about("gateways");
    // Both processes inherit it.
    serve::raise_descriptors(u64::from(args.count) + 100);
    let dir = env::temp_dir().join(format!("hailpost-bench-{}", std::process::id()));
    let measured = measure(args, &dir, report);
    // What cannot be removed is only temporary files.
    let _ = fs::remove_dir_all(&dir);
    measured
}

fn measure(args: &Args, dir: &std::path::Path, report: &mut Report) -> Result<(), Failure> {
    let heartbeat = format!("heartbeat_ms={}", args.heartbeat);
    let gateways = format!("max_gateways={}", args.count + 100);
    let mut command = program()?;
    command
        .args(["serve", "--only", "backend", "--json", "--listen", "tcp://127.0.0.1:0", "--data"])
        .arg(dir);
    for option in ["open_group=bench", &heartbeat, &gateways] {
        command.args(["--set", option]);
    }
    let mut serve = Process::start(command)?;
    let url = serve.next()?["url"].as_str().unwrap_or_default().to_owned();
    let empty = serve.memory()?;
    let mut command = program()?;
    command.args(["bench", "load", "--json", "--backend", &url, "--count", &args.count.to_string()]);
    command.args(["--heartbeat", &args.heartbeat.to_string()]);
    let mut load = Process::start(command)?;
    let begun = Instant::now();
    let cpu_before = serve.cpu()?;
    let mut progress = Progress::new("connecting", Some(args.count.into()));
    loop {
        let active = load.next()?["active"].as_u64().unwrap_or_default();
        progress.at(active);
        if active == u64::from(args.count) {
            break;
        }
        if begun.elapsed() > PATIENCE {
            return Err(Failure::new(format!("only {active} gateways of {} are registered", args.count)));
        }
    }
    drop(progress);
    let (connecting, connecting_cpu) = (begun.elapsed(), serve.cpu()? - cpu_before);

    // What connecting stirred up settles first.
    thread::sleep(Duration::from_millis(u64::from(args.heartbeat)));
    load.skip_old();
    let (before, cpu_before, begun) = (load.next()?, serve.cpu()?, Instant::now());
    // Gateways that registered together beat together: a whole number of beats is measured.
    let beats = (u64::from(args.seconds) * 1000).div_ceil(u64::from(args.heartbeat)).max(1);
    let length = Duration::from_millis(beats * u64::from(args.heartbeat));
    let mut progress = Progress::new("measuring", Some(length.as_millis() as u64));
    while begun.elapsed() < length {
        progress.at(begun.elapsed().as_millis() as u64);
        thread::sleep((length - begun.elapsed().min(length)).min(Duration::from_millis(100)));
    }
    drop(progress);
    load.skip_old();
    let (after, used, wall) = (load.next()?, serve.cpu()? - cpu_before, begun.elapsed());
    let full = serve.memory()?;
    let grown = |name: &str| {
        let counted = |line: &Value| line[name].as_u64().unwrap_or_default();
        counted(&after).saturating_sub(counted(&before)) as f64
    };

    let count = f64::from(args.count);
    report.row("gateways", count, "");
    report.row("heartbeats", grown("heartbeats") / wall.as_secs_f64(), "a second");
    report.row("links lost", grown("down"), "");
    report.row("back end", used.as_secs_f64() / wall.as_secs_f64() * 100.0, "% of a core");
    report.row(
        "a heartbeat, answered",
        used.as_secs_f64() * 1e6 / grown("heartbeats").max(1.0),
        "µs of processor",
    );
    report.row("back end, memory", full as f64 / 1048576.0, "MiB");
    report.row("without gateways", empty as f64 / 1048576.0, "MiB");
    report.row("a connected gateway", (full.saturating_sub(empty)) as f64 / count, "octets");
    report.row("connecting and registering all", connecting.as_secs_f64(), "s");
    report.row("of it, the back end", connecting_cpu.as_secs_f64(), "s of processor");
    Ok(())
}
