//! An engine that answers later: what is submitted while it commits becomes durable by the next commit, together.

use std::{collections::VecDeque, path::Path};

use super::{Batch, Copied, Fetch, Fetched, Store, Table};
use crate::status::{Fault, Status};

/// Who works for a [`Deferred`]: one thing after the other, in order.
pub trait Worker: Send {
    /// Takes what is to be done. Fails when nobody does it any more.
    fn give(&mut self, work: Work) -> Result<(), Fault>;

    /// The next thing that is done, when it is. Fails as [`Worker::give`].
    fn take(&mut self) -> Result<Option<Done>, Fault>;

    /// Lets the engine be used, once it is at nothing.
    fn with(&self, call: &mut dyn FnMut(&mut dyn Store));
}

/// What a [`Worker`] does.
pub enum Work {
    /// Submits these, and commits.
    Commit(Vec<Batch>),
    /// Answers this.
    Find(Fetch),
}

/// What came of it.
pub enum Done {
    /// Everything is durable through this ticket; or nothing of it is, and the engine keeps it for the next commit.
    Committed(Result<u64, Fault>),
    /// The answer.
    Found(Fetched),
}

impl Work {
    /// Does it.
    pub fn carry_out(self, engine: &mut dyn Store) -> Done {
        match self {
            Work::Commit(batches) => {
                batches.into_iter().for_each(|batch| engine.submit(batch));
                Done::Committed(engine.commit())
            }
            Work::Find(fetch) => {
                let ticket = fetch.ticket;
                engine.ask(fetch);
                let silent = || Err(Fault::new(Status::Store, "the store said nothing"));
                Done::Found(engine.answer().unwrap_or_else(|| Fetched { ticket, rows: silent() }))
            }
        }
    }
}

/// Questions that may wait for the worker. They come from whoever connects, and a disk may stall for long.
const MAX_ASKED: usize = 65_536;

/// A store that somebody else works at. An answer knows of no batch that [`Store::commit`] has not told of; a copy of the
/// store, and a walk through it, wait for what is being done.
pub struct Deferred<W> {
    worker: W,
    /// For the next commit.
    queued: Vec<Batch>,
    /// The worker was given a commit, and has not been heard of since.
    committing: bool,
    /// The engine still has the batches of a commit that failed.
    failed: bool,
    committed: u64,
    /// Questions that the worker has.
    asked: usize,
    /// What is done, and nobody has asked for.
    done: VecDeque<Done>,
}

impl<W: Worker> Deferred<W> {
    /// A store on this worker.
    pub fn new(worker: W) -> Deferred<W> {
        Deferred {
            worker,
            queued: Vec::new(),
            committing: false,
            failed: false,
            committed: 0,
            asked: 0,
            done: VecDeque::new(),
        }
    }

    fn hear(&mut self) -> Result<(), Fault> {
        while let Some(done) = self.worker.take()? {
            self.asked -= usize::from(matches!(done, Done::Found(_)));
            self.done.push_back(done);
        }
        Ok(())
    }

    fn with<R>(&self, mut call: impl FnMut(&mut dyn Store) -> R) -> Result<R, Fault> {
        let mut result = None;
        self.worker.with(&mut |engine| result = Some(call(engine)));
        result.ok_or_else(|| Fault::new(Status::Store, "nobody works at the store any more: start again"))
    }
}

impl<W: Worker> Store for Deferred<W> {
    fn submit(&mut self, batch: Batch) {
        self.queued.push(batch);
    }

    fn commit(&mut self) -> Result<u64, Fault> {
        let heard = self.hear();
        if let Some(Done::Committed(_)) = self.done.front()
            && let Some(Done::Committed(result)) = self.done.pop_front()
        {
            self.committing = false;
            self.failed = result.is_err();
            self.committed = result?;
        }
        heard?;
        if !self.committing && (self.failed || !self.queued.is_empty()) {
            self.failed = true;
            self.worker.give(Work::Commit(std::mem::take(&mut self.queued)))?;
            (self.committing, self.failed) = (true, false);
        }
        Ok(self.committed)
    }

    fn is_dirty(&self) -> bool {
        self.committing || self.failed || !self.queued.is_empty()
    }

    fn ask(&mut self, fetch: Fetch) {
        let ticket = fetch.ticket;
        let given = match self.asked < MAX_ASKED {
            true => self.worker.give(Work::Find(fetch)),
            false => Err(Fault::new(Status::Full, "too many questions wait for the store: ask again later")),
        };
        match given {
            Ok(()) => self.asked += 1,
            Err(fault) => self.done.push_back(Done::Found(Fetched { ticket, rows: Err(fault) })),
        }
    }

    fn answer(&mut self) -> Option<Fetched> {
        // Who is gone is told of by the next commit.
        let _ = self.hear();
        match self.done.pop_front()? {
            Done::Found(fetched) => Some(fetched),
            committed @ Done::Committed(_) => {
                self.done.push_front(committed);
                None
            }
        }
    }

    fn load(&self, table: Table, row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        self.with(|engine| engine.load(table, row))?
    }

    fn backup(&mut self, to: &Path) -> Result<(), Fault> {
        self.with(|engine| engine.backup(to))?
    }

    fn backup_step(&mut self) -> Result<Copied, Fault> {
        self.with(|engine| engine.backup_step())?
    }

    fn backup_cancel(&mut self) {
        // Without anybody there, there is no copy either.
        let _ = self.with(|engine| engine.backup_cancel());
    }
}
