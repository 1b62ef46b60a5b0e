//! A thread for an engine, so that whoever serves does not wait for the disk.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, Sender, TryRecvError},
    },
    thread::{self, JoinHandle},
};

use super::{Done, Store, Work, Worker, signals::without_signals};
use crate::status::{Fault, Status};

/// As `ps` and debuggers show the thread.
const NAME: &str = "hailpost store";

/// An engine and its thread, which ends, once it has done what it was given, when this is dropped.
pub struct StoreThread<S> {
    engine: Arc<Mutex<S>>,
    /// None once it is to end.
    work: Option<Sender<Work>>,
    done: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Store + 'static> StoreThread<S> {
    /// Starts it. `wake` is called on it whenever something is done.
    ///
    /// # Errors
    /// What the system says when it has no thread to give.
    pub fn start(engine: S, wake: impl Fn() + Send + 'static) -> Result<StoreThread<S>, Fault> {
        let engine = Arc::new(Mutex::new(engine));
        let (work, given) = mpsc::channel::<Work>();
        let (tell, done) = mpsc::channel();
        let own = engine.clone();
        let turn = move || {
            for work in given {
                let done = work.carry_out(&mut *lock(&own));
                if tell.send(done).is_err() {
                    return;
                }
                wake();
            }
        };
        let spawn = || thread::Builder::new().name(NAME.to_owned()).spawn(turn);
        let thread = without_signals(spawn);
        let thread =
            thread.map_err(|error| Fault::new(Status::Io, format!("no thread for the store: {error}")))?;
        Ok(StoreThread { engine, work: Some(work), done, thread: Some(thread) })
    }
}

impl<S: Store + 'static> Worker for StoreThread<S> {
    fn give(&mut self, work: Work) -> Result<(), Fault> {
        let sent = self.work.as_ref().is_some_and(|to| to.send(work).is_ok());
        sent.then_some(()).ok_or_else(gone)
    }

    fn take(&mut self) -> Result<Option<Done>, Fault> {
        match self.done.try_recv() {
            Ok(done) => Ok(Some(done)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(gone()),
        }
    }

    fn with(&self, call: &mut dyn FnMut(&mut dyn Store)) {
        call(&mut *lock(&self.engine));
    }
}

impl<S> Drop for StoreThread<S> {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // It panicked, if that is what it did: there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

/// Only a defect of ours ends it.
fn gone() -> Fault {
    Fault::new(Status::Store, "the store's thread is gone: start again")
}

/// Rows change by whole transactions, so that an engine that panicked in one can be asked on.
fn lock<S>(engine: &Mutex<S>) -> MutexGuard<'_, S> {
    engine.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, Deferred, Fetch, Fetched, Memory, Op, Table, Wanted};

    const TABLE: Table = Table::rows("things");

    /// Commits when the test says so, and what it says.
    struct Gated {
        inner: Memory,
        gate: Receiver<Result<(), Fault>>,
    }

    impl Store for Gated {
        fn submit(&mut self, batch: Batch) {
            self.inner.submit(batch);
        }

        fn commit(&mut self) -> Result<u64, Fault> {
            self.gate.recv().expect("the test is over")?;
            self.inner.commit()
        }

        fn is_dirty(&self) -> bool {
            self.inner.is_dirty()
        }

        fn ask(&mut self, fetch: Fetch) {
            self.inner.ask(fetch);
        }

        fn answer(&mut self) -> Option<Fetched> {
            self.inner.answer()
        }

        fn load(&self, table: Table, row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
            self.inner.load(table, row)
        }
    }

    struct Desk {
        store: Deferred<StoreThread<Gated>>,
        gate: Sender<Result<(), Fault>>,
        woken: Receiver<()>,
    }

    impl Desk {
        fn new() -> Desk {
            let (gate, said) = mpsc::channel();
            let (wake, woken) = mpsc::channel();
            let engine = Gated { inner: Memory::default(), gate: said };
            let thread = StoreThread::start(engine, move || wake.send(()).unwrap_or_default()).unwrap();
            let store = Deferred::new(thread);
            Desk { store, gate, woken }
        }

        fn put(&mut self, ticket: u64) {
            let key = ticket.to_be_bytes().to_vec();
            let ops = vec![Op::Put { table: TABLE, key, value: Vec::new() }];
            self.store.submit(Batch { ticket, ops });
        }

        fn ask(&mut self, ticket: u64) {
            let wanted = Wanted::Range { from: vec![0; 8], to: vec![0xff; 8], limit: 100 };
            self.store.ask(Fetch { ticket, table: TABLE, wanted });
        }

        /// Lets the thread commit, and waits until it has done the next thing.
        fn let_commit(&mut self, said: Result<(), Fault>) {
            self.gate.send(said).unwrap();
            self.woken.recv().unwrap();
        }

        fn found(&mut self) -> Option<(u64, usize)> {
            let found = self.store.answer()?;
            Some((found.ticket, found.rows.unwrap().len()))
        }
    }

    #[test]
    fn what_comes_while_it_commits_is_durable_by_the_next_commit() {
        let mut desk = Desk::new();
        assert!(!desk.store.is_dirty());
        desk.put(1);
        assert!(desk.store.is_dirty());
        assert_eq!(desk.store.commit().unwrap(), 0, "it is at it");
        desk.put(2);
        desk.put(3);
        assert_eq!(desk.store.commit().unwrap(), 0);
        desk.let_commit(Ok(()));
        assert_eq!(desk.store.commit().unwrap(), 1);
        assert!(desk.store.is_dirty(), "the others are under way");
        desk.let_commit(Ok(()));
        assert_eq!(desk.store.commit().unwrap(), 3, "both at once");
        assert!(!desk.store.is_dirty());
    }

    #[test]
    fn an_answer_knows_of_nothing_that_was_not_told() {
        let mut desk = Desk::new();
        desk.ask(1);
        desk.woken.recv().unwrap();
        desk.put(1);
        desk.store.commit().unwrap();
        desk.ask(2);
        desk.let_commit(Ok(()));
        desk.woken.recv().unwrap();
        assert_eq!(desk.found(), Some((1, 0)));
        assert_eq!(desk.found(), None, "it has a row of which nobody knows that it is durable");
        assert_eq!(desk.store.commit().unwrap(), 1);
        assert_eq!(desk.found(), Some((2, 1)));
    }

    #[test]
    fn what_failed_is_tried_again_and_questions_are_answered_meanwhile() {
        let mut desk = Desk::new();
        desk.put(1);
        desk.store.commit().unwrap();
        desk.put(2);
        desk.let_commit(Err(Status::Store.into()));
        assert!(desk.store.commit().is_err());
        assert!(desk.store.is_dirty());
        desk.ask(1);
        desk.woken.recv().unwrap();
        assert_eq!(desk.found(), Some((1, 0)));
        assert_eq!(desk.store.commit().unwrap(), 0);
        desk.let_commit(Ok(()));
        assert_eq!(desk.store.commit().unwrap(), 2);
        assert!(!desk.store.is_dirty());
    }

    #[test]
    fn questions_that_wait_for_a_disk_that_stalls_are_bounded() {
        let mut desk = Desk::new();
        desk.put(1);
        desk.store.commit().unwrap();
        for ticket in 0..=65_536 {
            desk.ask(ticket);
        }
        let refused = desk.store.answer().unwrap();
        assert_eq!((refused.ticket, refused.rows.unwrap_err().status), (65_536, Status::Full));
        assert!(desk.store.answer().is_none());
        desk.gate.send(Ok(())).unwrap();
        (0..65_537).for_each(|_| desk.woken.recv().unwrap());
        assert_eq!(desk.store.commit().unwrap(), 1);
        assert_eq!(std::iter::from_fn(|| desk.found()).count(), 65_536);
        desk.ask(1);
        desk.woken.recv().unwrap();
        assert_eq!(desk.found(), Some((1, 1)), "there is room again");
    }

    #[test]
    fn a_thread_that_died_is_told_of() {
        let Desk { mut store, gate, woken } = Desk::new();
        store.submit(Batch { ticket: 1, ops: Vec::new() });
        store.commit().unwrap();
        drop(gate);
        assert!(woken.recv().is_err(), "it panicked");
        assert!(store.commit().is_err() && store.is_dirty(), "nothing is durable that was under way");
        store.ask(Fetch { ticket: 7, table: TABLE, wanted: Wanted::Keys(Vec::new()) });
        assert_eq!(store.answer().map(|found| (found.ticket, found.rows.is_err())), Some((7, true)));
    }

    #[test]
    fn what_is_durable_can_be_walked() {
        let mut desk = Desk::new();
        desk.put(1);
        desk.store.commit().unwrap();
        desk.let_commit(Ok(()));
        let mut rows = 0;
        desk.store.load(TABLE, &mut |_, _| rows += 1).unwrap();
        assert_eq!(rows, 1);
    }

    /// A handler on it would run beside the application, whose own wait would go on.
    #[test]
    fn signals_are_not_for_it() {
        let mut desk = Desk::new();
        desk.ask(1);
        desk.woken.recv().unwrap();
        let mut masks = Vec::new();
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            // Another test's may end meanwhile.
            let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
            let field = |name: &str| {
                status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
            };
            if field("Name:") == NAME {
                masks.push(field("SigBlk:"));
            }
        }
        // All but KILL, STOP, and the two that the C library keeps for itself.
        assert!(!masks.is_empty() && masks.iter().all(|mask| mask == "fffffffe7ffbfeff"), "{masks:?}");
    }
}
