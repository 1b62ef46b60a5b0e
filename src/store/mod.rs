//! Durable state: asked for by parts, kept by an engine, acknowledged only when it is on the disk.
//!
//! A part emits [`Batch`]es with rising tickets; the node hands them to its engine and commits once for many; every
//! acknowledgement waits for the ticket to come back. Engines: [`Memory`] (tests, the simulator, a gateway without
//! disk) and SQLite.

mod memory;
#[cfg(any(feature = "sqlite", feature = "system-sqlite"))]
mod sqlite;

pub use memory::Memory;
#[cfg(any(feature = "sqlite", feature = "system-sqlite"))]
pub use sqlite::Sqlite;

use crate::status::Fault;

/// A named set of rows. The name is the part's business; the engine keeps rows of a table in order of their keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Table(pub &'static str);

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Write a row, over an older one of the same key.
    Put {
        /// Where.
        table: Table,
        /// At most 1 KiB.
        key: Vec<u8>,
        /// At most 1 MiB.
        value: Vec<u8>,
    },
    /// Remove a row, if it is there.
    Delete {
        /// Where.
        table: Table,
        /// Which.
        key: Vec<u8>,
    },
}

/// Changes that become durable together or not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Rises by one a batch, from 1 at each start.
    pub ticket: u64,
    /// In order.
    pub ops: Vec<Op>,
}

/// An engine.
pub trait Store: Send {
    /// Takes a batch for the next commit. Nothing of it is durable yet.
    fn submit(&mut self, batch: Batch);

    /// Works on what was submitted and says through which ticket all is durable. An engine that answers later
    /// returns the old ticket. After an error nothing of the failed commit is durable, its batches stay queued, and the
    /// next call tries again.
    fn commit(&mut self) -> Result<u64, Fault>;

    /// Whether a batch waits for [`Store::commit`].
    fn is_dirty(&self) -> bool;

    /// Walks the durable rows of a table in order of their keys.
    fn load(&self, table: Table, row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault>;
}
