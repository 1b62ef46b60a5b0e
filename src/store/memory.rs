//! Rows in memory. Several handles can share one set of rows, so the simulator can crash a node and start another on
//! what the first had committed.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Batch, Fetch, Fetched, Op, Row, Store, Table, Wanted};
use crate::status::Fault;

type Rows = BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>;

#[cfg(any(feature = "sqlite", feature = "system-sqlite"))]
use super::{
    Copied, Sqlite,
    copy::{NewFile, PIECE},
};
#[cfg(any(feature = "sqlite", feature = "system-sqlite"))]
use crate::status::Status;

/// The engine in memory. A clone shares the durable rows and starts with nothing queued.
#[derive(Default)]
pub struct Memory {
    durable: Arc<Mutex<Rows>>,
    queued: VecDeque<Batch>,
    asked: VecDeque<Fetch>,
    committed: u64,
    #[cfg(any(feature = "sqlite", feature = "system-sqlite"))]
    copying: Option<Box<Copying>>,
}

/// Rows on their way into a file.
#[cfg(any(feature = "sqlite", feature = "system-sqlite"))]
struct Copying {
    rows: std::vec::IntoIter<Op>,
    /// Closed before its file gets its name.
    copy: Sqlite,
    file: NewFile,
    copied: Copied,
    ticket: u64,
}

#[cfg(any(feature = "sqlite", feature = "system-sqlite"))]
impl Copying {
    fn step(mut self: Box<Self>) -> Result<(Copied, Option<Box<Copying>>), Fault> {
        let mut octets = 0;
        let mut ops = Vec::new();
        while octets < PIECE
            && let Some(op) = self.rows.next()
        {
            octets += size(&op);
            ops.push(op);
        }
        self.copied.octets += octets as u64;
        if !ops.is_empty() {
            self.ticket += 1;
            self.copy.submit(Batch { ticket: self.ticket, ops });
            self.copy.commit()?;
            return Ok((self.copied, Some(self)));
        }
        let Copying { copy, file, copied, .. } = *self;
        drop(copy);
        file.finish()?;
        Ok((Copied { done: true, ..copied }, None))
    }
}

#[cfg(any(feature = "sqlite", feature = "system-sqlite"))]
fn size(op: &Op) -> usize {
    match op {
        Op::Put { key, value, .. } => key.len() + value.len(),
        _ => 0,
    }
}

impl Clone for Memory {
    fn clone(&self) -> Memory {
        Memory { durable: self.durable.clone(), ..Memory::default() }
    }
}

impl Memory {
    /// Rows change one at a time and whole, so those that a panic left behind can be used.
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn submit(&mut self, batch: Batch) {
        self.queued.push_back(batch);
    }

    fn commit(&mut self) -> Result<u64, Fault> {
        let queued = std::mem::take(&mut self.queued);
        self.committed = queued.back().map_or(self.committed, |last| last.ticket);
        let mut rows = self.rows();
        for op in queued.into_iter().flat_map(|batch| batch.ops) {
            match op {
                Op::Put { table, key, value } => {
                    rows.entry(table).or_default().insert(key, value);
                }
                Op::Delete { table, key } => {
                    rows.entry(table).or_default().remove(&key);
                }
                Op::DeleteRange { table, from, to } => {
                    let rows = rows.entry(table).or_default();
                    let gone: Vec<_> = range(rows, &from, &to).map(|(key, _)| key.clone()).collect();
                    gone.iter().for_each(|key| drop(rows.remove(key)));
                }
            }
        }
        Ok(self.committed)
    }

    fn is_dirty(&self) -> bool {
        !self.queued.is_empty()
    }

    fn ask(&mut self, fetch: Fetch) {
        self.asked.push_back(fetch);
    }

    fn answer(&mut self) -> Option<Fetched> {
        let Fetch { ticket, table, wanted } = self.asked.pop_front()?;
        let rows = self.rows();
        let row = |(key, value): (&Vec<u8>, &Vec<u8>)| Row { key: key.clone(), value: value.clone() };
        let found = match (rows.get(&table), wanted) {
            (None, _) => Vec::new(),
            (Some(rows), Wanted::Range { from, to, limit }) => {
                range(rows, &from, &to).take(limit).map(row).collect()
            }
            (Some(rows), Wanted::Keys(keys)) => {
                keys.iter().filter_map(|key| rows.get_key_value(key)).map(row).collect()
            }
        };
        Some(Fetched { ticket, rows: Ok(found) })
    }

    fn load(&self, table: Table, row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        if let Some(rows) = self.rows().get(&table) {
            rows.iter().for_each(|(key, value)| row(key, value));
        }
        Ok(())
    }

    #[cfg(any(feature = "sqlite", feature = "system-sqlite"))]
    fn backup(&mut self, to: &std::path::Path) -> Result<(), Fault> {
        if self.copying.is_some() {
            return Err(Fault::new(Status::State, "a copy is under way: wait for its end"));
        }
        let file = NewFile::create(to)?;
        let copy = Sqlite::open(file.part())?;
        let put = |table: Table| {
            move |(key, value): (&Vec<u8>, &Vec<u8>)| Op::Put {
                table,
                key: key.clone(),
                value: value.clone(),
            }
        };
        let rows: Vec<Op> =
            self.rows().iter().flat_map(|(table, rows)| rows.iter().map(put(*table))).collect();
        let copied = Copied { of: rows.iter().map(|op| size(op) as u64).sum(), ..Copied::default() };
        self.copying = Some(Box::new(Copying { rows: rows.into_iter(), copy, file, copied, ticket: 0 }));
        Ok(())
    }

    #[cfg(any(feature = "sqlite", feature = "system-sqlite"))]
    fn backup_step(&mut self) -> Result<Copied, Fault> {
        let copying = self.copying.take();
        let copying = copying.ok_or_else(|| Fault::new(Status::State, "no copy is under way"))?;
        let (copied, rest) = copying.step()?;
        self.copying = rest;
        Ok(copied)
    }

    #[cfg(any(feature = "sqlite", feature = "system-sqlite"))]
    fn backup_cancel(&mut self) {
        self.copying = None;
    }
}

/// The rows from one key to another; none where the first is after the last, for which a map would panic.
fn range<'a>(
    rows: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    from: &'a [u8],
    to: &'a [u8],
) -> impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)> {
    let bounds = (Bound::Included(from), Bound::Included(to.max(from)));
    rows.range::<[u8], _>(bounds).filter(move |(key, _)| key.as_slice() <= to)
}
