//! A disk that keeps what was synced, and of the rest whatever it likes.

use std::collections::BTreeMap;

use hailpost::rng::{Entropy, Seeded};

/// Files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What a disk writes whole.
const SECTOR: usize = 512;

/// Something that was done to a file.
#[derive(Clone, Debug)]
pub struct Record {
    pub kind: u8,
    pub name: String,
    pub offset: u64,
    pub data: Vec<u8>,
}

/// Reads a trace.
pub fn read(mut octets: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut take = |count: usize| {
        let (taken, rest) = octets.split_at_checked(count)?;
        octets = rest;
        Some(taken.to_vec())
    };
    while let Some(head) = take(2) {
        let name = take(head[1].into()).expect("a whole trace");
        let number = |octets: Vec<u8>| u64::from_le_bytes(octets.try_into().expect("eight octets"));
        let offset = number(take(8).expect("a whole trace"));
        let length = number(take(8).expect("a whole trace"));
        let data = take(length as usize).expect("a whole trace");
        records.push(Record { kind: head[0], name: String::from_utf8(name).expect("a name"), offset, data });
    }
    records
}

/// What was synced, and what was done since.
#[derive(Default)]
pub struct Disk {
    synced: Files,
    since: Vec<Record>,
}

impl Disk {
    pub fn apply(&mut self, record: &Record) {
        if record.kind != b'S' {
            return self.since.push(record.clone());
        }
        // A sync makes one file durable, and that it is there; that of a directory, what is there and what is not.
        let is_synced = |one: &Record| match record.name.as_str() {
            "." => matches!(one.kind, b'C' | b'U' | b'R'),
            name => one.name == name,
        };
        let (synced, since) = std::mem::take(&mut self.since).into_iter().partition(is_synced);
        self.since = since;
        let synced: Vec<Record> = synced;
        synced.iter().for_each(|one| change(&mut self.synced, one));
    }

    /// The disk had written nothing since.
    pub fn nothing(&self) -> Files {
        self.synced.clone()
    }

    /// It had written all.
    pub fn everything(&self) -> Files {
        let mut files = self.synced.clone();
        self.since.iter().for_each(|one| change(&mut files, one));
        files
    }

    /// It had written some, sector by sector, in an order of its own.
    pub fn torn(&self, rng: &mut Seeded) -> Files {
        let mut files = self.synced.clone();
        for one in &self.since {
            if one.kind != b'W' {
                if rng.below(2) == 0 {
                    change(&mut files, one);
                }
                continue;
            }
            for (number, sector) in one.data.chunks(SECTOR).enumerate() {
                if rng.below(2) == 0 {
                    let offset = one.offset + (number * SECTOR) as u64;
                    change(&mut files, &Record { offset, data: sector.to_vec(), ..one.clone() });
                }
            }
        }
        files
    }
}

fn change(files: &mut Files, record: &Record) {
    match record.kind {
        b'C' => drop(files.entry(record.name.clone()).or_default()),
        b'U' => drop(files.remove(&record.name)),
        b'R' => {
            if let Some(file) = files.remove(&record.name) {
                files.insert(String::from_utf8_lossy(&record.data).into_owned(), file);
            }
        }
        b'T' => files.entry(record.name.clone()).or_default().resize(record.offset as usize, 0),
        b'W' => {
            let file = files.entry(record.name.clone()).or_default();
            let end = record.offset as usize + record.data.len();
            if file.len() < end {
                file.resize(end, 0);
            }
            file[record.offset as usize..end].copy_from_slice(&record.data);
        }
        other => panic!("record {other}"),
    }
}
