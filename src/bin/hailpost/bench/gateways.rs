//! Many gateways on one back end process, over loopback TCP, from another process.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::Report;
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
    let empty = memory(serve.id())?;
    let mut command = program()?;
    command.args(["bench", "load", "--json", "--backend", &url, "--count", &args.count.to_string()]);
    command.args(["--heartbeat", &args.heartbeat.to_string()]);
    let mut load = Process::start(command)?;
    let begun = Instant::now();
    let cpu_before = cpu(serve.id())?;
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
    let (connecting, connecting_cpu) = (begun.elapsed(), cpu(serve.id())? - cpu_before);

    // What connecting stirred up settles first.
    thread::sleep(Duration::from_millis(u64::from(args.heartbeat)));
    load.skip_old();
    let (before, cpu_before, begun) = (load.next()?, cpu(serve.id())?, Instant::now());
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
    let (after, used, wall) = (load.next()?, cpu(serve.id())? - cpu_before, begun.elapsed());
    let full = memory(serve.id())?;
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

/// A process that is killed when it is no longer needed.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn start(mut command: Command) -> Result<Process, Failure> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            thread::spawn(move || lines.into_iter().try_for_each(|line| sender.send(line)));
        }
        Ok(Process { child, lines })
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    fn next(&mut self) -> Result<Value, Failure> {
        let line = self.lines.recv().map_err(|_| Failure::new("a process of the bench ended early"))?;
        serde_json::from_str(&line).map_err(|error| Failure::new(format!("{line}: {error}")))
    }

    /// Forgets what came while nobody listened.
    fn skip_old(&mut self) {
        while self.lines.try_recv().is_ok() {}
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Result<Command, Failure> {
    Ok(Command::new(env::current_exe()?))
}

/// Processor time of all threads of a process.
fn cpu(pid: u32) -> Result<Duration, Failure> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        nanos += text.split(' ').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(Duration::from_nanos(nanos))
}

/// Octets of memory that a process has.
fn memory(pid: u32) -> Result<u64, Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
    Ok(kib * 1024)
}
