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
    through: u64,
    failing: bool,
    retry: Option<Time>,
}

/// What a commit did.
pub(super) enum Committed {
    /// There was nothing to do, it is not done yet, or it is too early to try again.
    Nothing,
    /// It failed. What waits is kept.
    Failed,
    /// Everything up to this ticket is durable.
    Through(u64),
}

impl Durable {
    pub fn new(store: Box<dyn Store>) -> Durable {
        Durable { store, through: 0, failing: false, retry: None }
    }

    pub fn submit(&mut self, batch: Batch) {
        self.store.submit(batch);
    }

    /// Makes durable what waits, unless it failed a moment ago.
    pub fn commit(&mut self, now: Time, events: &mut VecDeque<Event>) -> Committed {
        if !self.store.is_dirty() || self.retry.is_some_and(|retry| now < retry) {
            return Committed::Nothing;
        }
        self.retry = None;
        match self.store.commit() {
            Ok(through) if through == self.through => Committed::Nothing,
            Ok(through) => {
                self.through = through;
                if std::mem::take(&mut self.failing) {
                    events.push_back(Event::new(EventKind::StoreRecovered));
                }
                Committed::Through(through)
            }
            Err(fault) => {
                self.retry = Some(now + RETRY);
                if !std::mem::replace(&mut self.failing, true) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        status::{Fault, Status},
        store::{Fetch, Fetched, Table},
    };

    /// An engine whose commits come to this, one after the other.
    struct Scripted(VecDeque<Result<u64, Status>>);

    impl Store for Scripted {
        fn submit(&mut self, _batch: Batch) {}

        fn commit(&mut self) -> Result<u64, Fault> {
            self.0.pop_front().expect("it is not dirty any more").map_err(Fault::from)
        }

        fn is_dirty(&self) -> bool {
            !self.0.is_empty()
        }

        fn ask(&mut self, _fetch: Fetch) {}

        fn answer(&mut self) -> Option<Fetched> {
            None
        }

        fn load(&self, _table: Table, _row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
            Ok(())
        }
    }

    #[test]
    fn an_engine_that_answers_later_has_not_recovered_before_it_says_so() {
        let script = [Ok(0), Ok(1), Ok(1), Err(Status::Store), Ok(1), Err(Status::Store), Ok(1), Ok(3)];
        let mut store = Durable::new(Box::new(Scripted(script.into())));
        let (mut now, mut events) = (Time::ZERO, VecDeque::new());
        let mut said = Vec::new();
        while store.store.is_dirty() {
            match store.commit(now, &mut events) {
                Committed::Nothing => {}
                Committed::Failed => {
                    said.push(0);
                    assert!(matches!(store.commit(now, &mut events), Committed::Nothing), "it is left alone");
                    now = store.deadline().unwrap();
                    continue;
                }
                Committed::Through(through) => said.push(through),
            }
            assert!(store.deadline().is_none_or(|due| due > now), "it would turn for ever");
        }
        let events: Vec<EventKind> = events.iter().map(Event::kind).collect();
        assert_eq!(said, [1, 0, 0, 3]);
        assert_eq!(events, [EventKind::StoreFailing, EventKind::StoreRecovered]);
    }
}
