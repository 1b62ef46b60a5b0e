//! Many devices in session with one office process, from this one.

use std::{
    env, fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hailpost::{
    io::{Output, Service},
    net::{Listen, ListenTransport, Loop, NodeId, SystemEntropy, url::Url},
    node::{Node, OfficeConfig, OfficeNode},
    rng::Entropy,
    store::Sqlite,
    time::Time,
};

use super::{
    Report,
    fleet::{Credential, Fleet, Seen},
    process::{Process, program},
};
use crate::{failure::Failure, terminal::Progress};

/// Sockets of the devices.
const SOCKETS: usize = 64;
/// Users enrolled in a transaction.
const PART: usize = 2000;
/// Without any login for so long, the rest will not come either.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// Devices, each of a user of its own
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,
    /// From one heartbeat to the next, in seconds
    #[arg(long, default_value_t = 30, value_name = "S", value_parser = clap::value_parser!(u16).range(10..=1800))]
    heartbeat: u16,
    /// How long to measure heartbeats, in seconds, rounded up to whole beats; 0 measures logins and memory alone
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

pub fn run(args: &Args, report: &mut Report) -> Result<(), Failure> {
    report.about("sessions");
    let dir = env::temp_dir().join(format!("hailpost-bench-{}", std::process::id()));
    let measured = measure(args, &dir, report);
    // What cannot be removed is only temporary files.
    let _ = fs::remove_dir_all(&dir);
    measured
}

fn measure(args: &Args, dir: &Path, report: &mut Report) -> Result<(), Failure> {
    let data = crate::data::DataDir::at(dir.to_owned());
    data.make()?;
    let credentials = enrol(args.count as usize, &data.office_store())?;
    let mut command = program()?;
    command.args(["serve", "--json", "--listen", "tcp://127.0.0.1:0", "--devices", "hail://127.0.0.1:0"]);
    command.args(["--apps", "tcp://127.0.0.1:0", "--data"]).arg(dir);
    let mut serve = Process::start(command)?;
    let url = loop {
        let line = serve.next()?;
        if line["for"] == "devices" {
            break line["url"].as_str().unwrap_or_default().to_owned();
        }
    };
    let url: Url = url.parse()?;
    let (Some(server), Some(key)) = (url.socket_address(), url.key) else {
        return Err(Failure::new("the office does not say where it is"));
    };
    let empty = serve.memory()?;
    let mut fleet = Crowd::new(Fleet::new(server, key.0, args.heartbeat, credentials, SystemEntropy))?;

    let (begun, cpu_before) = (Instant::now(), serve.cpu()?);
    fleet.gather(args.count as usize)?;
    let (logging_in, logging_in_cpu) = (begun.elapsed(), serve.cpu()? - cpu_before);

    let count = f64::from(args.count);
    if args.seconds > 0 {
        // What logging in stirred up settles first.
        let beat = Duration::from_secs(args.heartbeat.into());
        fleet.stay("settling", beat)?;
        let (before, cpu_before, begun) = (fleet.seen(), serve.cpu()?, Instant::now());
        fleet.stay("measuring", beat * args.seconds.div_ceil(args.heartbeat.into()))?;
        let (after, used, wall) = (fleet.seen(), serve.cpu()? - cpu_before, begun.elapsed().as_secs_f64());
        let beats = (after.asked - before.asked) as f64;
        report.row("heartbeats, answered", beats / wall, "a second");
        report.row("heartbeats lost", (after.lost - before.lost) as f64, "");
        report.row("the office", used.as_secs_f64() / wall * 100.0, "% of a core");
        report.row("a heartbeat", used.as_secs_f64() * 1e6 / beats.max(1.0), "µs of processor");
    }
    let (seen, full) = (fleet.seen(), serve.memory()?);
    report.row("sessions", seen.up as f64, "");
    report.row("sessions lost", seen.down as f64, "");
    report.row("a session", full.saturating_sub(empty) as f64 / count, "octets");
    report.row("the office, memory", full as f64 / 1048576.0, "MiB");
    report.row("without sessions", empty as f64 / 1048576.0, "MiB");
    report.row("logging in", count / logging_in.as_secs_f64(), "a second");
    report.row("a login", logging_in_cpu.as_secs_f64() * 1e6 / count, "µs of processor");
    Ok(())
}

/// Fills an office's store with users, each with a device.
fn enrol(count: usize, store: &Path) -> Result<Vec<Credential>, Failure> {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (config, store) = (OfficeConfig::default(), Box::new(Sqlite::open(store)?));
    let mut office = OfficeNode::open(config, (Time::ZERO, unix), SystemEntropy, store)?;
    let mut progress = Progress::new("enrolling", Some(count as u64));
    let mut credentials = Vec::with_capacity(count);
    while credentials.len() < count {
        for at in credentials.len()..count.min(credentials.len() + PART) {
            let user = format!("user{at}");
            office.add_user(&user)?;
            let mut device = [0; 16];
            SystemEntropy.fill(&mut device);
            let enrolled = office.add_device(&user, device, 0)?;
            credentials.push((enrolled.session.0, enrolled.secret));
        }
        drain(&mut office);
        while office.flush(Time::ZERO) {
            drain(&mut office);
        }
        progress.at(credentials.len() as u64);
    }
    Ok(credentials)
}

/// Nobody is told anything yet.
fn drain(office: &mut OfficeNode) {
    while let Some(output) = office.poll_output(Time::ZERO) {
        debug_assert!(matches!(output, Output::Event(_)), "an office without peers sends nothing");
    }
}

/// The fleet on a loop of its own.
struct Crowd {
    net: Loop,
    id: NodeId,
}

impl Crowd {
    fn new(fleet: Fleet) -> Result<Crowd, Failure> {
        let mut net = Loop::new()?;
        let id = net.add(Box::new(fleet), Vec::new());
        for _ in 0..SOCKETS {
            let listen = Listen {
                address: SocketAddr::from(([127, 0, 0, 1], 0)),
                transport: ListenTransport::Datagram,
                networks: None,
                services: vec![Service::Link],
            };
            net.listen(id, listen)?;
        }
        Ok(Crowd { net, id })
    }

    fn seen(&self) -> Seen {
        self.net.get::<Fleet>(self.id).map(Fleet::seen).unwrap_or_default()
    }

    /// Until so many have a session.
    fn gather(&mut self, count: usize) -> Result<(), Failure> {
        let mut progress = Progress::new("logging in", Some(count as u64));
        let (mut most, mut since) = (0, Instant::now());
        while most < count {
            self.net.wait(Some(Duration::from_millis(100)))?;
            let up = self.seen().up;
            if up > most {
                (most, since) = (up, Instant::now());
                progress.at(up as u64);
            }
            if since.elapsed() > PATIENCE {
                return Err(Failure::new(format!("only {up} devices of {count} have a session")));
            }
        }
        Ok(())
    }

    fn stay(&mut self, what: &'static str, length: Duration) -> Result<(), Failure> {
        let mut progress = Progress::new(what, Some(length.as_millis() as u64));
        let begun = Instant::now();
        while begun.elapsed() < length {
            self.net.wait(Some(Duration::from_millis(100)))?;
            progress.at(begun.elapsed().as_millis() as u64);
        }
        Ok(())
    }
}
