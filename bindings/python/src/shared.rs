//! A loop that several objects and threads share.
//!
//! One thread at a time waits on the descriptor, without the lock, and steps the loop; others that wait meanwhile are told
//! when it has. Whoever changes something wakes it.

use std::{
    collections::{HashMap, VecDeque},
    os::fd::RawFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hailpost::{
    net::{Loop, NodeId},
    node::Event,
    status::{Fault, Status},
};
use pyo3::{prelude::*, types::PyWeakrefReference};

use crate::{errors::OrRaise, wait};

/// Events that wait in our queues at the most; past it they wait in the loop, which then reads no more.
const MAX_WAITING: usize = 4096;
/// Signals are looked at so often while a thread waits that the system did not interrupt.
const LOOK_FOR_SIGNALS: Duration = Duration::from_millis(100);

/// Which events are wanted.
#[derive(Clone, Copy)]
pub enum Want {
    /// Those of one node.
    Of(NodeId),
    /// All.
    Any,
}

/// What a wait brought.
pub enum Brought {
    /// An event, and whose it is.
    Event(NodeId, Event),
    /// Nothing in time.
    Nothing,
    /// The node was taken off.
    Gone,
}

/// The loop and its queues, by node.
pub struct State {
    pub net: Loop,
    queues: HashMap<NodeId, VecDeque<Event>>,
    /// Whose events come in which order, for those who want all.
    order: VecDeque<NodeId>,
    /// A thread waits on the descriptor.
    is_watched: bool,
}

/// What handles share.
pub struct Shared {
    state: Mutex<State>,
    stepped: Condvar,
    fd: RawFd,
    process: u32,
    /// The objects behind the nodes, weakly. Its lock is held for a look only.
    objects: Mutex<Objects>,
}

type Objects = HashMap<NodeId, Py<PyWeakrefReference>>;

impl Shared {
    pub fn new() -> Result<Arc<Shared>, Fault> {
        let net = Loop::new()?;
        let fd = net.fd();
        let state = State { net, queues: HashMap::new(), order: VecDeque::new(), is_watched: false };
        Ok(Arc::new(Shared {
            state: Mutex::new(state),
            stepped: Condvar::new(),
            fd,
            process: std::process::id(),
            objects: Mutex::default(),
        }))
    }

    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// Whether it came here by a fork. Then nothing of it may be touched, and least of all its store closed.
    pub fn is_foreign(&self) -> bool {
        self.process != std::process::id()
    }

    /// The objects behind the nodes.
    pub fn objects<T>(&self, look: impl FnOnce(&mut Objects) -> T) -> T {
        look(&mut self.objects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does something to the loop with the interpreter released.
    pub fn with<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut State) -> Result<T, Fault> + Send,
    ) -> PyResult<T> {
        py.detach(|| caught(|| call(&mut *self.lock()?))).or_raise(py)
    }

    /// As [`Shared::with`], for what the loop has to act on: who waits on the descriptor is woken.
    pub fn change<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut State) -> Result<T, Fault> + Send,
    ) -> PyResult<T> {
        self.with(py, |state| {
            let value = call(state)?;
            state.wake()?;
            Ok(value)
        })
    }

    /// Waits for an event, for at most `timeout`; `None` for as long as it takes. Raises what a signal handler raises.
    pub fn wait(&self, py: Python<'_>, want: Want, timeout: Option<Duration>) -> PyResult<Brought> {
        Ok(self.wait_for(py, timeout, |state| state.take(want))?.unwrap_or(Brought::Nothing))
    }

    /// Waits as [`Shared::wait`], until a look at the loop finds something.
    pub fn wait_for<T: Send>(
        &self,
        py: Python<'_>,
        timeout: Option<Duration>,
        mut look: impl FnMut(&mut State) -> Result<Option<T>, Fault> + Send,
    ) -> PyResult<Option<T>> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let found = py.detach(|| caught(|| self.attend(&mut look, left))).or_raise(py)?;
            // What was found is handed over first; the interpreter looks at signals right after.
            if found.is_some() {
                return Ok(found);
            }
            py.check_signals()?;
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
        }
    }

    /// One turn without waiting.
    pub fn step(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |state| state.step())?;
        self.stepped.notify_all();
        Ok(())
    }

    /// Takes a node off. What it asked its store for is committed before.
    pub fn remove(&self, id: NodeId) -> Result<(), Fault> {
        let mut state = self.lock()?;
        // A commit that fails has been told as an event, or would be: closing goes on.
        let stepped = state.step();
        state.net.remove(id);
        state.queues.remove(&id);
        state.order.retain(|owner| *owner != id);
        state.wake()?;
        drop(state);
        self.stepped.notify_all();
        stepped
    }

    /// Finds what is there already, or after a turn, with a little waiting.
    fn attend<T>(
        &self,
        look: &mut impl FnMut(&mut State) -> Result<Option<T>, Fault>,
        limit: Option<Duration>,
    ) -> Result<Option<T>, Fault> {
        let limit = limit.map_or(LOOK_FOR_SIGNALS, |limit| limit.min(LOOK_FOR_SIGNALS));
        let mut state = self.lock()?;
        if let Some(found) = look(&mut state)? {
            return Ok(Some(found));
        }
        if state.is_watched {
            let (mut state, _) = self.stepped.wait_timeout(state, limit).map_err(|_| broken())?;
            return look(&mut state);
        }
        state.step()?;
        if let Some(found) = look(&mut state)? {
            drop(state);
            self.stepped.notify_all();
            return Ok(Some(found));
        }
        let limit = state.net.timeout().map_or(limit, |own| own.min(limit));
        state.is_watched = true;
        drop(state);
        let waited = wait::readable(self.fd, limit);
        let mut state = self.lock()?;
        state.is_watched = false;
        let stepped = state.step();
        let found = look(&mut state);
        drop(state);
        self.stepped.notify_all();
        waited.map_err(|error| Fault::new(Status::Io, format!("waiting for events: {error}")))?;
        stepped?;
        found
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>, Fault> {
        if self.is_foreign() {
            return Err(Fault::new(
                Status::Invalid,
                "the loop was made before a fork: make it, and what is on it, in the process that uses it",
            ));
        }
        self.state.lock().map_err(|_| broken())
    }
}

impl State {
    /// A node is on the loop: its events have a queue from now on.
    pub fn adopt(&mut self, id: NodeId) {
        self.queues.insert(id, VecDeque::new());
    }

    /// Whether it is still on the loop.
    pub fn has(&self, id: NodeId) -> bool {
        self.queues.contains_key(&id)
    }

    /// One turn without waiting.
    pub fn step(&mut self) -> Result<(), Fault> {
        self.net.step()?;
        self.sort();
        Ok(())
    }

    /// Makes the descriptor readable.
    pub fn wake(&self) -> Result<(), Fault> {
        let woken = self.net.waker().wake();
        woken.map_err(|error| Fault::new(Status::Io, format!("waking the loop: {error}")))
    }

    /// Events to their queues, while there is room.
    fn sort(&mut self) {
        while self.order.len() < MAX_WAITING
            && let Some((id, event)) = self.net.next_event()
        {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.push_back(event);
                self.order.push_back(id);
            }
        }
    }

    fn take(&mut self, want: Want) -> Result<Option<Brought>, Fault> {
        let id = match want {
            Want::Of(id) => id,
            Want::Any => match self.order.front() {
                Some(id) => *id,
                None => return Ok(None),
            },
        };
        let Some(queue) = self.queues.get_mut(&id) else { return Ok(Some(Brought::Gone)) };
        if let Some(event) = queue.pop_front() {
            if let Some(at) = self.order.iter().position(|owner| *owner == id) {
                self.order.remove(at);
            }
            return Ok(Some(Brought::Event(id, event)));
        }
        if self.order.len() >= MAX_WAITING {
            return Err(Fault::new(
                Status::Full,
                format!(
                    "{MAX_WAITING} events of other objects on this loop wait: read them too, or all by Loop.events()"
                ),
            ));
        }
        Ok(None)
    }
}

/// A panic is our bug: it ends here, and with it the use of the loop, whose lock it poisons.
pub fn caught<T>(call: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).unwrap_or_else(|_| Err(broken()))
}

fn broken() -> Fault {
    Status::Panic.into()
}
