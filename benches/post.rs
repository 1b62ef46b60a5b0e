//! The hub on SQLite: durable messages a second beside SQLite itself, handing over at login, octets on the disk (DESIGN.md 9).
//!
//! `cargo bench --bench post`. Everything on one thread, on the disk of the temporary directory (`TMPDIR`).

use std::{
    path::Path,
    time::{Duration, Instant},
};

use hailpost::{
    post::{
        Inbox, Seat,
        hub::{Hub, HubConfig, HubOutput, Open, Rights, Sender},
    },
    rng::Seeded,
    store::{Memory, Sqlite, Store},
    time::Time,
    wire::{
        app::{Address, Kind, Message, To},
        post::{Frame, Sequence},
    },
};
use rusqlite::Connection;

/// Messages in all, each for one of so many devices that are away.
const MESSAGES: u64 = 100_000;
const DEVICES: u64 = 1000;
/// Senders that each wait for their answer.
const SENDERS: u64 = 100;
const BODY: usize = 200;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let anchor = sqlite(&dir.path().join("anchor.db"));
    println!("{:<44}{anchor:>12.0} a second", "SQLite, 100 rows of 200 octets a commit");

    let path = dir.path().join("office.db");
    let mut office = Office::open(&path);
    let senders = office.enrol();
    let begun = Instant::now();
    let commits = office.commits;
    for round in 0..MESSAGES / SENDERS {
        for (number, sender) in senders.iter().enumerate() {
            let device = (round * SENDERS + number as u64) % DEVICES;
            office.hub.take(Time::ZERO, sender, message(round, device));
        }
        office.settle();
    }
    assert_eq!(office.answered, MESSAGES);
    let rate = MESSAGES as f64 / begun.elapsed().as_secs_f64();
    println!(
        "{:<44}{rate:>12.0} a second, {:.2} of SQLite",
        "messages acknowledged, 100 senders",
        rate / anchor
    );
    println!("{:<44}{:>12}", "commits", office.commits - commits);

    drop(office);
    let octets: u64 = ["office.db", "office.db-wal"]
        .iter()
        .map(|name| std::fs::metadata(dir.path().join(name)).map_or(0, |file| file.len()))
        .sum();
    println!("{:<44}{:>12.0} octets a message", "on the disk, everything", octets as f64 / MESSAGES as f64);

    let begun = Instant::now();
    let mut office = Office::open(&path);
    println!("{:<44}{:>12.0} ms", "opening on all of them", begun.elapsed().as_secs_f64() * 1e3);
    let begun = Instant::now();
    let inboxes: Vec<Inbox> = (0..DEVICES).map(|device| Inbox((SENDERS + device) as u32 + 1)).collect();
    for some in inboxes.chunks(100) {
        for inbox in some {
            office.hub.online(Time::ZERO, *inbox, Seat(inbox.0));
        }
        office.settle();
        while !office.handed.is_empty() {
            let mut handed = std::mem::take(&mut office.handed);
            handed.sort();
            for of_one in handed.chunk_by(|one, next| one.0 == next.0) {
                let sequences: Vec<Sequence> = of_one.iter().map(|(_, sequence)| *sequence).collect();
                office.hub.confirm(Time::ZERO, of_one[0].0, &sequences);
            }
            office.settle();
        }
    }
    assert_eq!(office.confirmed(), MESSAGES);
    let rate = MESSAGES as f64 / begun.elapsed().as_secs_f64();
    println!("{:<44}{rate:>12.0} a second", "read, handed over, confirmed, deleted");
    for (devices, text) in
        [(10_000, "memory, 100 wait for a device"), (1_000_000, "memory, one waits for a device")]
    {
        println!("{text:<44}{:>12.0} octets a message", memory(devices));
    }
}

/// Octets of memory for each message that waits: resident memory before and after a million, on a store that keeps nothing.
fn memory(devices: u64) -> f64 {
    const COUNT: u64 = 1_000_000;
    let mut store = Memory::default();
    let open = Open { now: Time::ZERO, unix: 1_700_000_000, rng: Box::new(Seeded::new(1)) };
    let config = HubConfig { max_known: 1, max_messages: u32::MAX, max_cached: 64, ..HubConfig::default() };
    let mut hub = Hub::open(config, open, &store).expect("a hub");
    let rights = Rights { send: true, ..Rights::default() };
    hub.add_app("app", rights).expect("it is new");
    for number in 0..devices {
        hub.add_user(&format!("user{number}")).expect("it is new");
        hub.add_device(&format!("user{number}"), [1; 16], 0).expect("a device");
        if number % 1000 == 999 {
            settle(&mut hub, &mut store, true);
        }
    }
    let sender = Sender::App { name: "app".into(), rights, seat: Seat(1) };
    let before = resident();
    for id in 0..COUNT {
        hub.take(Time::ZERO, &sender, message(id, id % devices));
        settle(&mut hub, &mut store, false);
    }
    assert_eq!(hub.waiting_count() as u64, COUNT);
    (resident() - before) as f64 / COUNT as f64
}

/// Has the hub told that all is durable; kept, or not.
fn settle(hub: &mut Hub, store: &mut Memory, keep: bool) {
    loop {
        let mut through = None;
        while let Some(output) = hub.poll_output(Time::ZERO) {
            match output {
                HubOutput::Store(batch) => {
                    through = Some(batch.ticket);
                    if keep {
                        store.submit(batch);
                    }
                }
                HubOutput::Fetch(fetch) => store.ask(fetch),
                _ => {}
            }
            while let Some(fetched) = store.answer() {
                hub.fetched(Time::ZERO, fetched);
            }
        }
        let Some(through) = through else { return };
        store.commit().expect("memory never fails");
        hub.stored(Time::ZERO, through);
    }
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// What SQLite does with nothing around it.
fn sqlite(path: &Path) -> f64 {
    let connection = Connection::open(path).expect("a database");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA locking_mode = EXCLUSIVE;
             CREATE TABLE row (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
        )
        .expect("a table");
    let begun = Instant::now();
    let body = vec![0x55u8; BODY];
    let mut written = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        connection.execute_batch("BEGIN IMMEDIATE").expect("a transaction");
        for _ in 0..SENDERS {
            let mut insert =
                connection.prepare_cached("INSERT INTO row (body) VALUES (?1)").expect("a statement");
            insert.execute([&body]).expect("a row");
        }
        connection.execute_batch("COMMIT").expect("a commit");
        written += SENDERS;
    }
    written as f64 / begun.elapsed().as_secs_f64()
}

struct Office {
    hub: Hub,
    store: Sqlite,
    answered: u64,
    commits: u64,
    handed: Vec<(Inbox, Sequence)>,
}

impl Office {
    fn open(path: &Path) -> Office {
        let store = Sqlite::open(path).expect("a store");
        let open = Open { now: Time::ZERO, unix: 1_700_000_000, rng: Box::new(Seeded::new(1)) };
        let hub = Hub::open(HubConfig::default(), open, &store).expect("a hub");
        Office { hub, store, answered: 0, commits: 0, handed: Vec::new() }
    }

    /// Applications first, then users with a device each: inboxes are given in that order.
    fn enrol(&mut self) -> Vec<Sender> {
        let rights = Rights { send: true, ..Rights::default() };
        let app = |number: u64| Sender::App { name: format!("app{number}"), rights, seat: Seat(1) };
        for number in 0..SENDERS {
            self.hub.add_app(&format!("app{number}"), rights).expect("it is new");
        }
        for number in 0..DEVICES {
            self.hub.add_user(&format!("user{number}")).expect("it is new");
            self.hub.add_device(&format!("user{number}"), [1; 16], 0).expect("a device");
        }
        self.settle();
        (0..SENDERS).map(app).collect()
    }

    fn confirmed(&self) -> u64 {
        self.hub.counters().confirmed
    }

    fn settle(&mut self) {
        loop {
            while let Some(output) = self.hub.poll_output(Time::ZERO) {
                match output {
                    HubOutput::Store(batch) => self.store.submit(batch),
                    HubOutput::Fetch(fetch) => self.store.ask(fetch),
                    HubOutput::Answered { answer, .. } => {
                        assert_eq!(answer.code, 200);
                        self.answered += 1;
                    }
                    HubOutput::Send { inbox, frame: Frame::Deliver(one), .. } => {
                        self.handed.push((inbox, one.sequence));
                    }
                    _ => {}
                }
                while let Some(fetched) = self.store.answer() {
                    self.hub.fetched(Time::ZERO, fetched);
                }
            }
            if !self.store.is_dirty() {
                return;
            }
            self.commits += 1;
            let through = self.store.commit().expect("the disk works");
            self.hub.stored(Time::ZERO, through);
        }
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
