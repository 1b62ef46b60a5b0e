//! Rows in memory. Several handles can share one set of rows, so the simulator can crash a node and start another on
//! what the first had committed.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use super::{Batch, Op, Store, Table};
use crate::status::Fault;

type Rows = BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>;

/// The engine in memory. A clone shares the durable rows and starts with nothing queued.
#[derive(Default)]
pub struct Memory {
    durable: Rc<RefCell<Rows>>,
    queued: VecDeque<Batch>,
    committed: u64,
}

impl Clone for Memory {
    fn clone(&self) -> Memory {
        Memory { durable: self.durable.clone(), ..Memory::default() }
    }
}

impl Store for Memory {
    fn submit(&mut self, batch: Batch) {
        self.queued.push_back(batch);
    }

    fn commit(&mut self) -> Result<u64, Fault> {
        let mut rows = self.durable.borrow_mut();
        for batch in self.queued.drain(..) {
            for op in batch.ops {
                match op {
                    Op::Put { table, key, value } => {
                        rows.entry(table).or_default().insert(key, value);
                    }
                    Op::Delete { table, key } => {
                        rows.entry(table).or_default().remove(&key);
                    }
                }
            }
            self.committed = batch.ticket;
        }
        Ok(self.committed)
    }

    fn is_dirty(&self) -> bool {
        !self.queued.is_empty()
    }

    fn load(&self, table: Table, row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        if let Some(rows) = self.durable.borrow().get(&table) {
            rows.iter().for_each(|(key, value)| row(key, value));
        }
        Ok(())
    }
}
