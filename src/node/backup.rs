//! A copy of a node's store, made while it serves: a piece a turn.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use super::{Event, EventKind, Field};
use crate::{
    status::Fault,
    store::{Copied, Store},
};

/// A copy that is asked for.
pub(super) struct Backup {
    to: PathBuf,
    ticket: u64,
    stage: Stage,
}

enum Stage {
    /// It begins once this batch is durable, which says what a copy is to say of itself.
    Marking(u64),
    Copying(Copied),
}

impl Backup {
    pub fn new(to: &Path, ticket: u64, mark: u64) -> Backup {
        Backup { to: to.to_owned(), ticket, stage: Stage::Marking(mark) }
    }

    /// Whether it has begun.
    pub fn is_copying(&self) -> bool {
        matches!(self.stage, Stage::Copying(_))
    }

    /// How far it is.
    pub fn copied(&self) -> Copied {
        match self.stage {
            Stage::Marking(_) => Copied::default(),
            Stage::Copying(copied) => copied,
        }
    }

    /// Everything through this batch is durable. Whether the mark is of no more use, because the copy has it.
    pub fn stored(&mut self, through: u64, store: &mut dyn Store) -> Result<bool, Fault> {
        match self.stage {
            Stage::Marking(mark) if mark <= through => {
                store.backup(&self.to)?;
                self.stage = Stage::Copying(Copied::default());
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Goes on. Whether it is done.
    pub fn step(&mut self, store: &mut dyn Store) -> Result<bool, Fault> {
        let Stage::Copying(copied) = &mut self.stage else { return Ok(false) };
        *copied = store.backup_step()?;
        Ok(copied.done)
    }

    /// Is what the application is told at its end.
    pub fn end(&self, result: Result<(), Fault>, events: &mut VecDeque<Event>) {
        let event = match result {
            Ok(()) => Event::new(EventKind::Durable).with_u64(Field::Ticket, self.ticket),
            Err(fault) => {
                Event::new(EventKind::Failed).with_u64(Field::Ticket, self.ticket).with_fault(fault)
            }
        };
        events.push_back(event);
    }
}
