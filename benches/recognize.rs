//! What recognition costs: nanoseconds a packet and octets an open flow, over captures merged and repeated in memory.
//!
//! ```text
//! cargo bench --bench recognize -- [--rules FILE] [--captures DIR] [--repeat N] [--write MERGED.pcap]
//! ```
//!
//! Each repetition has other addresses, so its flows are new. `--write` writes what was fed, for other programs to be
//! measured on. Without captures there is nothing to measure, which is said.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use hailpost::{
    recognize::{Config, How, Limits, Recognizer, RuleSet, RulesFile, Stage},
    time::Time,
    wire::{capture::CaptureReader, packet::LinkType},
};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("HAILPOST_SHARED").map_or(root.join("../shared"), PathBuf::from);
    let home = root.join("rules/home.toml");
    let fixture = root.join("tests/fixtures/rules.toml");
    let mut rules = if home.exists() { home } else { fixture };
    let mut captures = shared.join("captures/pcap");
    let (mut repeat, mut write) = (16, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--rules" => rules = value()?.into(),
            "--captures" => captures = value()?.into(),
            "--repeat" => repeat = value()?.parse()?,
            "--write" => write = Some(value()?),
            "--bench" => {}
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    if !captures.exists() {
        println!("no captures at {}: nothing measured", captures.display());
        return Ok(());
    }
    let file = RulesFile::parse(&fs::read_to_string(&rules)?, Limits::default())?;
    let frames = merged(&captures, repeat)?;
    if let Some(path) = write {
        fs::write(path, pcap(&frames))?;
    }
    println!("rules: {} of {}, {} KiB compiled", file.set.len(), rules.display(), file.set.memory() / 1024);
    println!("{} packets, {repeat} repetitions", frames.ends.len());

    let set = Arc::new(file.set);
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let mut recognizer = Recognizer::new(Arc::clone(&set), Config::default());
        let mut settled = 0;
        let started = cpu_time();
        for (time, frame) in frames.iter() {
            let _ = recognizer.feed(time, LinkType::ETHERNET, frame);
            while let Some(verdict) = recognizer.poll_verdict() {
                settled += usize::from(verdict.stage == Stage::Settled && verdict.how == How::Rule);
            }
        }
        let took = cpu_time() - started;
        best = best.min(took);
        println!(
            "{:6.1} ns a packet, {settled} flows settled by rules while open",
            took.as_nanos() as f64 / frames.ends.len() as f64
        );
    }
    println!("best {:.1} ns a packet", best.as_nanos() as f64 / frames.ends.len() as f64);
    memory(&set, &frames);
    Ok(())
}

/// What this process has used of a processor, so that others on the machine do not count; a clock where the system
/// does not say.
fn cpu_time() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    let used = fs::read_to_string("/proc/self/schedstat").ok();
    let nanos = used.and_then(|used| used.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

/// Frames one after the other in memory, as a ring of a network card has them.
struct Frames {
    octets: Vec<u8>,
    /// The time of each frame and where it ends.
    ends: Vec<(Time, usize)>,
}

impl Frames {
    fn iter(&self) -> impl Iterator<Item = (Time, &[u8])> {
        let mut begin = 0;
        self.ends.iter().map(move |(time, end)| {
            let frame = &self.octets[begin..*end];
            begin = *end;
            (*time, frame)
        })
    }
}

/// A pass of its own, since asking takes time.
fn memory(set: &Arc<RuleSet>, frames: &Frames) {
    let mut recognizer = Recognizer::new(Arc::clone(set), Config::default());
    let (mut most, mut pool) = (0, 0);
    for (at, (time, frame)) in frames.iter().enumerate() {
        let _ = recognizer.feed(time, LinkType::ETHERNET, frame);
        while recognizer.poll_verdict().is_some() {}
        most = most.max(recognizer.open_flows());
        if at % 64 == 0 {
            pool = pool.max(recognizer.memory().pool);
        }
    }
    let memory = recognizer.memory();
    println!(
        "{most} flows open at most: {:.0} octets a flow (table {}, pool at most {pool})",
        (memory.flows + pool) as f64 / most as f64,
        memory.flows,
    );
    println!("automaton {} KiB; {:?}", memory.automaton / 1024, recognizer.counters());
}

/// All frames of all captures by their time since the capture's start, several times with other addresses.
fn merged(captures: &Path, repeat: u8) -> Result<Frames, Box<dyn Error>> {
    let mut frames: Vec<(Time, Vec<u8>)> = Vec::new();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(captures)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "pcap")) {
        let octets = fs::read(path)?;
        let mut reader = CaptureReader::new(&octets[..])?;
        let mut start = None;
        while let Some(record) = reader.next_record()? {
            let start = *start.get_or_insert(record.time);
            let since = record.time.since(start);
            for repetition in 0..repeat {
                let later = Duration::from_millis(u64::from(repetition) * 250);
                frames.push((Time::ZERO + since + later, moved(record.frame, repetition)));
            }
        }
    }
    frames.sort_by_key(|(time, _)| *time);
    Ok(Frames {
        ends: frames
            .iter()
            .scan(0, |end, (time, frame)| {
                *end += frame.len();
                Some((*time, *end))
            })
            .collect(),
        octets: frames.into_iter().flat_map(|(_, frame)| frame).collect(),
    })
}

/// The frame with other IP addresses. Checksums are not kept.
fn moved(frame: &[u8], repetition: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let places = match frame.get(12..14) {
        Some([8, 0]) => [27, 31],
        Some([0x86, 0xdd]) => [24, 40],
        _ => return frame,
    };
    for place in places {
        if let Some(octet) = frame.get_mut(place) {
            *octet ^= repetition;
        }
    }
    frame
}

fn pcap(frames: &Frames) -> Vec<u8> {
    let mut out = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    for (time, frame) in frames.iter() {
        let micros = time.as_micros();
        for word in [micros / 1_000_000, micros % 1_000_000, frame.len() as u64, frame.len() as u64] {
            out.extend((word as u32).to_le_bytes());
        }
        out.extend(frame);
    }
    out
}
