//! Durable state: asked for by parts, kept by an engine, acknowledged only when it is on the disk.
//!
//! A part emits [`Batch`]es with rising tickets; the node hands them to its engine and commits once for many; every
//! acknowledgement waits for the ticket to come back. Engines: [`Memory`] (tests, the simulator, a gateway without
//! disk), SQLite, and either on a thread of its own, for servers.

#[cfg(any(feature = "sqlite", feature = "system-sqlite"))]
mod copy;
#[cfg(any(feature = "backend", feature = "post"))]
mod deferred;
mod memory;
#[cfg(any(feature = "backend", feature = "post"))]
mod signals;
#[cfg(any(feature = "sqlite", feature = "system-sqlite"))]
mod sqlite;
#[cfg(any(feature = "backend", feature = "post"))]
mod thread;

#[cfg(any(feature = "backend", feature = "post"))]
pub use deferred::{Deferred, Done, Work, Worker};
pub use memory::Memory;
#[cfg(any(feature = "sqlite", feature = "system-sqlite"))]
pub use sqlite::Sqlite;
#[cfg(any(feature = "backend", feature = "post"))]
pub use thread::StoreThread;

use std::path::Path;

use crate::status::{Fault, Status};

/// A named set of rows, kept in order of their keys. The name is the part's business: letters and `_`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Table {
    name: &'static str,
    keys: Keys,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Keys {
    Octets,
    Numbers,
}

impl Table {
    /// Rows by any key.
    pub const fn rows(name: &'static str) -> Table {
        Table { name, keys: Keys::Octets }
    }

    /// Rows by a number, written in 8 octets, below 2^63. Where numbers only rise, such a table is packed without gaps.
    pub const fn log(name: &'static str) -> Table {
        Table { name, keys: Keys::Numbers }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

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
    /// Remove all rows from one key to another.
    DeleteRange {
        /// Where.
        table: Table,
        /// The first, included.
        from: Vec<u8>,
        /// The last, included.
        to: Vec<u8>,
    },
}

impl Op {
    /// The table that it changes.
    pub const fn table(&self) -> Table {
        let (Op::Put { table, .. } | Op::Delete { table, .. } | Op::DeleteRange { table, .. }) = self;
        *table
    }
}

/// A question about durable rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// Names the answer.
    pub ticket: u64,
    /// Where.
    pub table: Table,
    /// Which rows.
    pub wanted: Wanted,
}

/// Which rows a [`Fetch`] asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// The first ones from one key to another.
    Range {
        /// The first key, included.
        from: Vec<u8>,
        /// The last key, included.
        to: Vec<u8>,
        /// So many rows at the most.
        limit: usize,
    },
    /// Those with these keys, in this order. One that is not there is passed over.
    Keys(Vec<Vec<u8>>),
}

/// A row that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// What a [`Fetch`] found, in the order of [`Wanted`].
#[derive(Debug)]
pub struct Fetched {
    /// The question's.
    pub ticket: u64,
    /// The rows, or why there is no telling.
    pub rows: Result<Vec<Row>, Fault>,
}

/// Changes that become durable together or not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Rises by one a batch, from 1 at each start.
    pub ticket: u64,
    /// In order.
    pub ops: Vec<Op>,
}

/// How far a copy of a store is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Copied {
    /// Octets that are copied.
    pub octets: u64,
    /// Octets that there are to copy.
    pub of: u64,
    /// The copy is whole, on the disk, and has its name.
    pub done: bool,
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

    /// Asks about durable rows; what waits for [`Store::commit`] is not among them.
    fn ask(&mut self, fetch: Fetch);

    /// The next answer, when it is there. Answers come in the order of the questions.
    fn answer(&mut self) -> Option<Fetched>;

    /// Walks the durable rows of a table in order of their keys.
    fn load(&self, table: Table, row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault>;

    /// Begins a copy of all that is durable now, as a store of its own in a new file (mode 0600). What becomes durable later is
    /// not in it. Until it is whole the file's name has `.part` after it. There is one copy at a time.
    ///
    /// # Errors
    /// [`Status::State`] when the file is there, or a copy is under way; [`Status::Unsupported`] of an engine that makes none;
    /// otherwise what the system says.
    fn backup(&mut self, _to: &Path) -> Result<(), Fault> {
        Err(Fault::new(Status::Unsupported, "this store makes no copies of itself"))
    }

    /// Copies a piece of about 1 MiB. After an error there is no copy under way, and nothing is left of it.
    fn backup_step(&mut self) -> Result<Copied, Fault> {
        Err(Fault::new(Status::State, "no copy is under way"))
    }

    /// Gives a copy up, if one is under way: nothing is left of it.
    fn backup_cancel(&mut self) {}
}
