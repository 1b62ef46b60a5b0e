//! Messages for devices that are away: made durable, and handed over at login. The hub in this thread and SQLite in
//! one of its own, as in a server, on the disk of the temporary directory.

use std::{
    collections::VecDeque,
    env, fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use hailpost::{
    post::{
        Inbox, Seat,
        hub::{Hub, HubConfig, HubOutput, Open, Rights, Sender},
    },
    rng::Seeded,
    status::{Fault, Status},
    store::{Deferred, Memory, Sqlite, Store, StoreThread},
    time::Time,
    wire::{
        app::{Address, Kind, Message, To},
        post::{Frame, Sequence},
    },
};
use rusqlite::Connection;

use super::{Report, process::resident};
use crate::{failure::Failure, terminal::Progress};

/// Devices that the messages are for, in turn.
const DEVICES: u64 = 1000;
/// Rows in a commit of what is measured beside.
const ROWS: u64 = 100;
/// Senders that each wait for their answer: while some wait for a commit, others are heard.
const SENDERS: u64 = 200;
const BODY: usize = 200;
/// How often both are measured, in turn: what the disk has to spare changes from second to second, and the median counts.
const ROUNDS: u64 = 5;
/// How long SQLite alone is measured in a round.
const ANCHOR: Duration = Duration::from_secs(1);
const UNIX: u64 = 1_700_000_000;

#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// Messages, rounded up to hundreds
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,
}

/// Durable messages a second, beside SQLite with nothing around it.
pub fn store(args: &Args, report: &mut Report) -> Result<(), Failure> {
    report.about("store");
    let dir = Dir::new()?;
    let (mut rates, mut anchors, mut all, mut commits) = (Vec::new(), Vec::new(), 0, 0);
    for round in 0..ROUNDS {
        let (ours, alone) = (dir.file(&office(round)), dir.file(&format!("anchor{round}.db")));
        anchors.push(sqlite(&alone).map_err(|error| Failure::new(error.to_string()))?);
        let (took, in_commits, count) = Office::open(&ours)?.fill(args.count)?;
        rates.push(count as f64 / took.as_secs_f64());
        all += count;
        commits += in_commits;
    }
    let shares = rates.iter().zip(&anchors).map(|(rate, anchor)| rate / anchor).collect();
    report.row("messages acknowledged, 200 senders", median(rates), "a second");
    report.row("SQLite alone, 100 rows a commit", median(anchors), "a second");
    report.row("of SQLite alone", median(shares), "");
    report.row("messages a commit", all as f64 / commits as f64, "");
    let (count, last) = (all / ROUNDS, office(ROUNDS - 1));
    let octets: u64 = [&last, &format!("{last}-wal")]
        .iter()
        .map(|name| fs::metadata(dir.file(name)).map_or(0, |file| file.len()))
        .sum();
    report.row("on the disk, everything", octets as f64 / count as f64, "octets a message");
    let begun = Instant::now();
    Office::open(&dir.file(&last))?;
    report.row("opening on all of them", begun.elapsed().as_secs_f64() * 1e3, "ms");
    for (devices, what) in
        [(10_000, "memory, where 100 wait for a device"), (1_000_000, "memory, where one waits for a device")]
    {
        report.row(what, memory(devices)?, "octets a message");
    }
    Ok(())
}

/// What waits is read, handed over, confirmed and deleted.
pub fn replay(args: &Args, report: &mut Report) -> Result<(), Failure> {
    report.about("replay");
    let dir = Dir::new()?;
    let mut office = Office::open(&dir.file("office.db"))?;
    let (_, _, count) = office.fill(args.count)?;
    drop(office);
    let mut office = Office::open(&dir.file("office.db"))?;
    let mut progress = Progress::new("handing over", Some(count));
    let begun = Instant::now();
    let inboxes: Vec<Inbox> = (0..DEVICES).map(|device| Inbox((SENDERS + device) as u32 + 1)).collect();
    for some in inboxes.chunks(SENDERS as usize) {
        for inbox in some {
            office.hub.online(Time::ZERO, *inbox, Seat::here(inbox.0));
        }
        office.settle()?;
        while !office.handed.is_empty() {
            let mut handed = std::mem::take(&mut office.handed);
            handed.sort_unstable();
            for of_one in handed.chunk_by(|one, next| one.0 == next.0) {
                let sequences: Vec<Sequence> = of_one.iter().map(|(_, sequence)| *sequence).collect();
                office.hub.confirm(Time::ZERO, of_one[0].0, &sequences);
            }
            office.settle()?;
        }
        progress.at(office.hub.counters().confirmed);
    }
    let (took, confirmed) = (begun.elapsed(), office.hub.counters().confirmed);
    if confirmed != count {
        return Err(Failure::new(format!("{confirmed} messages of {count} were handed over")));
    }
    report.row("read, handed over, confirmed, deleted", count as f64 / took.as_secs_f64(), "a second");
    Ok(())
}

/// Octets of memory for each message that waits: resident memory before and after a million, on a store that keeps nothing.
fn memory(devices: u64) -> Result<f64, Failure> {
    const COUNT: u64 = 1_000_000;
    let config = HubConfig { max_known: 1, max_messages: u32::MAX, max_cached: 64, ..HubConfig::default() };
    let mut office = Office::on(Memory::default(), config)?;
    let rights = Rights { send: true, ..Rights::default() };
    office.hub.add_app("app", rights)?;
    for number in 0..devices {
        office.hub.add_user(&format!("user{number}"))?;
        office.hub.add_device(&format!("user{number}"), [1; 16], 0)?;
        if number % 1000 == 999 {
            office.settle()?;
        }
    }
    office.forgets = true;
    let sender = Sender::App { name: "app".into(), rights, seat: Seat::here(1) };
    let before = resident()?;
    let mut progress = Progress::new("memory", Some(COUNT));
    for id in 0..COUNT {
        office.hub.take(Time::ZERO, &sender, message(id, id % devices));
        office.settle()?;
        progress.at(id);
    }
    Ok((resident()? - before) as f64 / COUNT as f64)
}

fn office(round: u64) -> String {
    format!("office{round}.db")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What SQLite does with nothing around it.
fn sqlite(path: &Path) -> rusqlite::Result<f64> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA locking_mode = EXCLUSIVE;
         CREATE TABLE row (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    )?;
    let (body, mut written) = (vec![0x55u8; BODY], 0);
    let mut progress = Progress::new("SQLite alone", Some(ANCHOR.as_millis() as u64));
    let begun = Instant::now();
    while begun.elapsed() < ANCHOR {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..ROWS {
            connection.prepare_cached("INSERT INTO row (body) VALUES (?1)")?.execute([&body])?;
        }
        connection.execute_batch("COMMIT")?;
        written += ROWS;
        progress.at(begun.elapsed().as_millis() as u64);
    }
    Ok(written as f64 / begun.elapsed().as_secs_f64())
}

/// A hub and its store.
struct Office<S> {
    hub: Hub,
    store: S,
    /// What is to be stored is said to be, and is not.
    forgets: bool,
    through: u64,
    /// Questions that the store has not answered.
    asked: u64,
    /// Who was answered since somebody looked.
    answered: VecDeque<usize>,
    acknowledged: u64,
    commits: u64,
    handed: Vec<(Inbox, Sequence)>,
}

impl Office<Deferred<StoreThread<Sqlite>>> {
    fn open(path: &Path) -> Result<Self, Fault> {
        let caller = thread::current();
        let thread = StoreThread::start(Sqlite::open(path)?, move || caller.unpark())?;
        Office::on(Deferred::new(thread), HubConfig::default())
    }
}

impl<S: Store> Office<S> {
    fn on(store: S, config: HubConfig) -> Result<Self, Fault> {
        let open = Open { now: Time::ZERO, unix: UNIX, rng: Box::new(Seeded::new(1)) };
        let hub = Hub::open(config, open, &store)?;
        Ok(Office {
            hub,
            store,
            forgets: false,
            through: 0,
            asked: 0,
            answered: VecDeque::new(),
            acknowledged: 0,
            commits: 0,
            handed: Vec::new(),
        })
    }

    /// Takes so many messages, the next of a sender once it has the answer to its last; how long that took, the commits of it, and
    /// how many they were.
    fn fill(&mut self, count: u32) -> Result<(Duration, u64, u64), Failure> {
        let count = u64::from(count).next_multiple_of(SENDERS);
        let senders = self.enrol()?;
        let mut progress = Progress::new("storing", Some(count));
        let (begun, commits, mut sent) = (Instant::now(), self.commits, 0);
        self.answered = (0..senders.len()).collect();
        while self.acknowledged < count {
            match self.answered.pop_front() {
                Some(number) if sent < count => {
                    self.hub.take(Time::ZERO, &senders[number], message(sent, sent % DEVICES));
                    sent += 1;
                    self.turn()?;
                }
                _ => {
                    self.turn_or_wait()?;
                }
            }
            progress.at(self.acknowledged);
        }
        Ok((begun.elapsed(), self.commits - commits, count))
    }

    /// Applications first, then users with a device each: inboxes are given in that order.
    fn enrol(&mut self) -> Result<Vec<Sender>, Fault> {
        let rights = Rights { send: true, ..Rights::default() };
        for number in 0..SENDERS {
            self.hub.add_app(&format!("app{number}"), rights)?;
        }
        for number in 0..DEVICES {
            self.hub.add_user(&format!("user{number}"))?;
            self.hub.add_device(&format!("user{number}"), [1; 16], 0)?;
        }
        self.settle()?;
        let app =
            |number| Sender::App { name: format!("app{number}"), rights, seat: Seat::here(number as u32) };
        Ok((0..SENDERS).map(app).collect())
    }

    /// Does what the hub wants, until it wants nothing more.
    fn settle(&mut self) -> Result<(), Fault> {
        while self.turn_or_wait()? {}
        Ok(())
    }

    /// As `turn`, and where there is nothing to be done, waits for the store if that is at something. Whether it may go on.
    fn turn_or_wait(&mut self) -> Result<bool, Fault> {
        let is_busy = self.turn()?;
        let waits = self.asked > 0 || self.store.is_dirty();
        if !is_busy && waits {
            thread::park();
        }
        Ok(is_busy || waits)
    }

    /// Does what the hub wants now, and gives the store what is to be durable. Whether there was something.
    fn turn(&mut self) -> Result<bool, Fault> {
        let mut idle = true;
        while let Some(output) = self.hub.poll_output(Time::ZERO) {
            idle = false;
            match output {
                HubOutput::Store(batch) if self.forgets => self.hub.stored(Time::ZERO, batch.ticket),
                HubOutput::Store(batch) => self.store.submit(batch),
                HubOutput::Fetch(fetch) => {
                    self.asked += 1;
                    self.store.ask(fetch);
                }
                HubOutput::Answered { seat, answer, .. } if answer.code == 200 => {
                    self.acknowledged += 1;
                    self.answered.push_back(seat.place as usize);
                }
                HubOutput::Answered { answer, .. } => {
                    return Err(Fault::new(Status::Refused, format!("the answer was {}", answer.code)));
                }
                HubOutput::Send { inbox, frame: Frame::Deliver(one), .. } => {
                    self.handed.push((inbox, one.sequence));
                }
                _ => {}
            }
        }
        while let Some(fetched) = self.store.answer() {
            idle = false;
            self.asked -= 1;
            self.hub.fetched(Time::ZERO, fetched);
        }
        if self.store.is_dirty() {
            let through = self.store.commit()?;
            if through > self.through {
                idle = false;
                self.through = through;
                self.commits += 1;
                self.hub.stored(Time::ZERO, through);
            }
        }
        Ok(!idle)
    }
}

fn message(id: u64, device: u64) -> Message {
    Message {
        id: id.to_string(),
        from: None,
        to: To::Named(vec![Address::User(format!("user{device}"))]),
        kind: Kind::One,
        store: true,
        ttl: 86_400,
        period: None,
        content_type: "text/plain".into(),
        body: vec![0x55; BODY],
    }
}

/// A directory of its own, gone when it is no longer needed.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Result<Dir, Failure> {
        let path = env::temp_dir().join(format!("hailpost-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Dir(path))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // What cannot be removed is only temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
