//! Disks: one that fails while it is told to, and one that takes its time.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hailpost::{
    rng::{Entropy, Seeded},
    status::{Fault, Status},
    store::{Batch, Deferred, Done, Fetch, Fetched, Store, Table, Work, Worker},
    time::Time,
};

/// So long a world's disks do all at once, so that it can be furnished.
const QUICK: Time = Time::from_micros(1_000_000);
/// Of so many, one thing takes the disk long.
const STALLS: u32 = 100;
/// How long at the most, in milliseconds.
const STALL: u32 = 3000;
/// The same otherwise.
const SEEK: u32 = 20;

/// A disk that fails while it is told to.
pub struct Flaky {
    inner: Box<dyn Store>,
    fails: Arc<AtomicBool>,
}

impl Flaky {
    /// It fails while `fails`.
    pub fn new(inner: Box<dyn Store>, fails: Arc<AtomicBool>) -> Flaky {
        Flaky { inner, fails }
    }
}

impl Store for Flaky {
    fn submit(&mut self, batch: Batch) {
        self.inner.submit(batch);
    }

    fn commit(&mut self) -> Result<u64, Fault> {
        match self.fails.load(Ordering::Relaxed) {
            true => Err(Fault::new(Status::Store, "the disk is full")),
            false => self.inner.commit(),
        }
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

/// What the disk of a life of a host has of the world's time.
#[derive(Clone, Default)]
pub struct Spindle(Arc<Mutex<Turning>>);

#[derive(Clone, Copy, Default)]
struct Turning {
    now: Time,
    due: Option<Time>,
}

impl Spindle {
    /// A turn of the host begins.
    pub(super) fn turn(&self, now: Time) {
        self.0.lock().unwrap().now = now;
    }

    /// When its disk wants another one.
    pub(super) fn due(&self) -> Option<Time> {
        self.0.lock().unwrap().due.take()
    }

    fn now(&self) -> Time {
        self.0.lock().unwrap().now
    }

    fn wake_at(&self, due: Time) {
        self.0.lock().unwrap().due = Some(due);
    }
}

/// A disk that takes its time: it is done at once and tells later, or does it later, as it comes.
pub struct Slow {
    engine: Mutex<Box<dyn Store>>,
    spindle: Spindle,
    rng: Seeded,
    under_way: VecDeque<(Time, Stage)>,
    last: Time,
}

enum Stage {
    Waits(Work),
    Tells(Done),
}

impl Slow {
    /// A store on such a disk.
    pub fn store(engine: Box<dyn Store>, spindle: Spindle, rng: Seeded) -> Deferred<Slow> {
        let last = Time::ZERO;
        Deferred::new(Slow { engine: Mutex::new(engine), spindle, rng, under_way: VecDeque::new(), last })
    }
}

impl Worker for Slow {
    fn give(&mut self, work: Work) -> Result<(), Fault> {
        let (now, at_once) = (self.spindle.now(), self.rng.below(2) == 0);
        let longest = if self.rng.below(STALLS) == 0 { STALL } else { SEEK };
        let took = if now < QUICK { 0 } else { self.rng.below(longest) };
        self.last = self.last.max(now) + Duration::from_millis(took.into());
        let is_next = self.under_way.iter().all(|(_, stage)| matches!(stage, Stage::Tells(_)));
        let stage = match is_next && (at_once || took == 0) {
            true => Stage::Tells(work.carry_out(&mut **self.engine.lock().unwrap())),
            false => Stage::Waits(work),
        };
        self.under_way.push_back((self.last, stage));
        self.spindle.wake_at(self.under_way[0].0);
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Done>, Fault> {
        let Some((due, _)) = self.under_way.front() else { return Ok(None) };
        if *due > self.spindle.now() {
            self.spindle.wake_at(*due);
            return Ok(None);
        }
        Ok(self.under_way.pop_front().map(|(_, stage)| match stage {
            Stage::Waits(work) => work.carry_out(&mut **self.engine.lock().unwrap()),
            Stage::Tells(done) => done,
        }))
    }

    fn with(&self, call: &mut dyn FnMut(&mut dyn Store)) {
        call(&mut **self.engine.lock().unwrap());
    }
}
