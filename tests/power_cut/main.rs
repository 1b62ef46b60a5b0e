//! A hub on SQLite, and the power cut at every moment: files are rebuilt from recorded writes as a disk could hold them,
//! what was not synced torn and out of order. Whatever was acknowledged before the cut is there (DECISIONS.md 14).
//!
//! kill -9 shows nothing of this: the kernel keeps what a process wrote.

#![cfg(target_os = "linux")]

mod disk;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use disk::{Disk, Record};
use hailpost::{
    post::{
        Inbox, Seat,
        hub::{Hub, HubConfig, HubOutput, Open, Rights, Sender},
    },
    rng::Seeded,
    store::{Sqlite, Store},
    time::Time,
    wire::{
        app::{Address, Kind, Message, To},
        post::{Frame, Sequence},
    },
};

/// Turns of the hub, each a commit. Enough that the log is written back to the database several times.
const TURNS: u64 = 350;
const UNIX: u64 = 1_700_000_000;
/// The file in which the child says what it told its users, one line each.
const TOLD: &str = "told";

#[test]
fn a_power_cut_at_any_moment_loses_nothing_acknowledged() {
    let records = record(false);
    let cuts = judge(&records).unwrap_or_else(|why| panic!("{why}"));
    println!("{} records, {cuts} cuts", records.len());
    assert!(cuts > 1000, "only {cuts} cuts");
}

/// The same test without syncs, which is what `synchronous=OFF` comes to, finds what is lost.
#[test]
fn without_syncs_it_is_lost_and_found_out() {
    let why = judge(&record(true)).expect_err("a disk that was never told to sync kept everything");
    println!("{why}");
}

/// Runs a hub in a process of its own, under the shim.
fn record(lies: bool) -> Vec<Record> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let shim = dir.path().join("shim.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/power_cut/shim.c");
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut built = Command::new(cc);
    built.args(["-shared", "-fPIC", "-O1", "-o"]).args([&shim, Path::new(source)]).arg("-ldl");
    assert!(built.status().expect("a C compiler").success());
    let (files, trace) = (dir.path().join("files"), dir.path().join("trace"));
    std::fs::create_dir(&files).expect("a directory");
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child.args(["--exact", "child", "--ignored", "--test-threads=1"]).env("LD_PRELOAD", &shim);
    child.env("POWER_CUT_DIR", &files).env("POWER_CUT_TRACE", &trace);
    if lies {
        child.env("POWER_CUT_LIES", "1");
    }
    let output = child.output().expect("this test runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    disk::read(&std::fs::read(trace).expect("the trace"))
}

/// The process that is recorded: sends, hands over, confirms, and says what it told.
#[test]
#[ignore = "run by the tests above, under the shim"]
fn child() {
    use std::io::Write;
    let Some(dir) = std::env::var_os("POWER_CUT_DIR").map(PathBuf::from) else { return };
    let mut store = Sqlite::open(&dir.join("office.db")).expect("a store");
    let mut told = std::fs::File::create(dir.join(TOLD)).expect("a file");
    let open = Open { now: Time::ZERO, unix: UNIX, rng: Box::new(Seeded::new(1)) };
    let mut hub = Hub::open(HubConfig::default(), open, &store).expect("a hub");
    let rights = Rights { send: true, ..Rights::default() };
    hub.add_app("news", rights).expect("it is new");
    for name in ["anna", "ben"] {
        hub.add_user(name).expect("it is new");
        hub.add_device(name, [1; 16], 0).expect("a device");
    }
    let app = Sender::App { name: "news".into(), rights, seat: Seat::here(1) };
    let mut handed: Vec<(Inbox, Sequence)> = Vec::new();
    for turn in 0..TURNS {
        if turn > 0 {
            let named = if turn % 3 == 0 { vec!["anna", "ben"] } else { vec!["anna"] };
            hub.take(Time::ZERO, &app, message(turn, &named));
        }
        if turn == 20 {
            hub.online(Time::ZERO, Inbox(2), Seat::here(2));
        }
        if turn % 5 == 0 && !handed.is_empty() {
            let (inbox, sequence) = handed.remove(0);
            // From here on it may be gone.
            told.write_all(format!("confirmed {} {}\n", inbox.0, sequence.0).as_bytes())
                .expect("it is written");
            hub.confirm(Time::ZERO, inbox, &[sequence]);
        }
        loop {
            while let Some(output) = hub.poll_output(Time::ZERO) {
                match output {
                    HubOutput::Store(batch) => store.submit(batch),
                    HubOutput::Fetch(fetch) => store.ask(fetch),
                    HubOutput::Answered { id, answer, .. } if answer.code == 200 => {
                        told.write_all(format!("acknowledged {id}\n").as_bytes()).expect("it is written");
                    }
                    HubOutput::Send { inbox, frame: Frame::Deliver(one), .. } => {
                        handed.push((inbox, one.sequence))
                    }
                    _ => {}
                }
                while let Some(fetched) = store.answer() {
                    hub.fetched(Time::ZERO, fetched);
                }
            }
            if !store.is_dirty() {
                break;
            }
            let through = store.commit().expect("the disk works");
            hub.stored(Time::ZERO, through);
        }
    }
}

fn message(number: u64, named: &[&str]) -> Message {
    // Of several pages now and then.
    let body = format!("{number} ").repeat(if number.is_multiple_of(7) { 3000 } else { 50 }).into_bytes();
    Message {
        id: number.to_string(),
        from: None,
        to: To::Named(named.iter().map(|name| Address::User((*name).into())).collect()),
        kind: if named.len() == 1 { Kind::One } else { Kind::Directed },
        store: true,
        ttl: 86_400,
        period: None,
        content_type: "text/plain".into(),
        body,
    }
}

/// Cuts the power at every sync and between, and looks at what is left. Answers with the number of cuts.
fn judge(records: &[Record]) -> Result<usize, String> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut disk = Disk::default();
    let mut rng = Seeded::new(7);
    let mut told = String::new();
    let mut cuts = 0;
    for (at, record) in records.iter().enumerate() {
        if record.name == TOLD {
            // What was told is told: it is no file of the disk's.
            told.push_str(&String::from_utf8_lossy(&record.data));
            continue;
        }
        // Before a sync everything since the last one hangs in the air; in between now and then.
        if record.kind == b'S' || at % 16 == 0 {
            for files in [disk.nothing(), disk.everything(), disk.torn(&mut rng), disk.torn(&mut rng)] {
                cuts += 1;
                look(dir.path(), &files, &told).map_err(|why| format!("cut before record {at}: {why}"))?;
            }
        }
        disk.apply(record);
    }
    Ok(cuts)
}

/// Opens what is left, and compares it with what was told.
fn look(dir: &Path, files: &disk::Files, told: &str) -> Result<(), String> {
    for name in ["office.db", "office.db-wal", "office.db-journal", "office.db-shm"] {
        let path = dir.join(name);
        match files.get(name) {
            Some(octets) => std::fs::write(path, octets).expect("it is written"),
            None => drop(std::fs::remove_file(path)),
        }
    }
    let (mut acknowledged, mut confirmed) = (BTreeSet::new(), BTreeSet::new());
    for line in told.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        match words[0] {
            "acknowledged" => drop(acknowledged.insert(number(1))),
            _ => drop(confirmed.insert((number(1), number(2)))),
        }
    }
    if acknowledged.is_empty() && files.is_empty() {
        return Ok(());
    }
    let mut store = Sqlite::open(&dir.join("office.db")).map_err(|fault| fault.to_string())?;
    let open = Open { now: Time::ZERO, unix: UNIX, rng: Box::new(Seeded::new(2)) };
    let config = HubConfig { window: 2 * TURNS as usize, ..HubConfig::default() };
    let mut hub = Hub::open(config, open, &store).map_err(|fault| fault.to_string())?;
    // Everybody comes, and is handed what is left.
    let mut left = BTreeSet::new();
    for inbox in [Inbox(2), Inbox(3)] {
        hub.online(Time::ZERO, inbox, Seat::here(inbox.0));
        while let Some(output) = hub.poll_output(Time::ZERO) {
            match output {
                HubOutput::Fetch(fetch) => store.ask(fetch),
                HubOutput::Send { inbox, frame: Frame::Deliver(one), .. } => {
                    let text = String::from_utf8_lossy(&one.body).into_owned();
                    let number = text.split(' ').next().and_then(|first| first.parse::<u64>().ok());
                    left.insert((inbox.0, number.ok_or("a message is damaged")?));
                }
                _ => {}
            }
            while let Some(fetched) = store.answer() {
                hub.fetched(Time::ZERO, fetched);
            }
        }
    }
    if hub.counters().unreadable > 0 {
        return Err("a row is damaged, or a message is missing".to_owned());
    }
    for number in acknowledged {
        let inboxes: &[u32] = if number % 3 == 0 { &[2, 3] } else { &[2] };
        for inbox in inboxes {
            // The log begins at 1, and a number of it is a message's.
            let sequence = number;
            if !left.contains(&(*inbox, number)) && !confirmed.contains(&(u64::from(*inbox), sequence)) {
                return Err(format!("message {number} was acknowledged, and is gone from inbox {inbox}"));
            }
        }
    }
    Ok(())
}
