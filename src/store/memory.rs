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

/// The engine in memory. A clone shares the durable rows and starts with nothing queued.
#[derive(Default)]
pub struct Memory {
    durable: Arc<Mutex<Rows>>,
    queued: VecDeque<Batch>,
    asked: VecDeque<Fetch>,
    committed: u64,
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
