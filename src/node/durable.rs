//! A node's store, and what becomes of it when the disk fails.

use std::{collections::VecDeque, time::Duration};

use super::{Event, EventKind};
use crate::{
    store::{Batch, Store},
    time::Time,
};

/// How long a store that failed is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// A store that is tried again when it failed, and says so once.
pub(super) struct Durable {
    pub store: Box<dyn Store>,
    retry: Option<Time>,
}

/// What a commit did.
pub(super) enum Committed {
    /// There was nothing to do, or it is too early to try again.
    Nothing,
    /// It failed. What waits is kept.
    Failed,
    /// Everything up to this ticket is durable.
    Through(u64),
}

impl Durable {
    pub fn new(store: Box<dyn Store>) -> Durable {
        Durable { store, retry: None }
    }

    pub fn submit(&mut self, batch: Batch) {
        self.store.submit(batch);
    }

    /// Makes durable what waits, unless it failed a moment ago.
    pub fn commit(&mut self, now: Time, events: &mut VecDeque<Event>) -> Committed {
        if !self.store.is_dirty() || self.retry.is_some_and(|retry| now < retry) {
            return Committed::Nothing;
        }
        match self.store.commit() {
            Ok(through) => {
                if self.retry.take().is_some() {
                    events.push_back(Event::new(EventKind::StoreRecovered));
                }
                Committed::Through(through)
            }
            Err(fault) => {
                if self.retry.replace(now + RETRY).is_none() {
                    events.push_back(Event::new(EventKind::StoreFailing).with_fault(fault));
                }
                Committed::Failed
            }
        }
    }

    /// When it is tried again.
    pub fn deadline(&self) -> Option<Time> {
        self.retry
    }
}
