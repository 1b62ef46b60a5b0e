//! What objects on a loop have in common: their place on it, their events, their end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hailpost::{
    net::{Loop, NodeId},
    node::Node,
    status::{Fault, Status},
    time::Time,
};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyWeakrefMethods, PyWeakrefReference},
};

use crate::{
    errors::OrRaise,
    events, runtime,
    shared::{Brought, Shared, State, Want, caught},
};

/// An object's place on a loop. Dropped, it is taken off.
pub struct Handle {
    pub shared: Arc<Shared>,
    pub id: NodeId,
    is_closed: AtomicBool,
}

impl Handle {
    /// Puts something on a loop: the caller's, or one of its own.
    pub fn open<T: Send>(
        py: Python<'_>,
        shared: Option<Arc<Shared>>,
        open: impl FnOnce(&mut Loop) -> Result<(NodeId, T), Fault> + Send,
    ) -> PyResult<(Handle, T)> {
        let shared = match shared {
            Some(shared) => shared,
            None => Shared::new().or_raise(py)?,
        };
        let (id, more) = shared.change(py, |state| {
            let (id, more) = open(&mut state.net)?;
            state.adopt(id);
            Ok((id, more))
        })?;
        Ok((Handle { shared, id, is_closed: AtomicBool::new(false) }, more))
    }

    /// Calls into the node.
    pub fn call<N: Node, T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut N, Time) -> Result<T, Fault> + Send,
    ) -> PyResult<T> {
        self.shared.change(py, |state| {
            self.check(state)?;
            state.net.with(self.id, call)?
        })
    }

    /// Looks into the node.
    pub fn look<N: Node, T: Send>(&self, py: Python<'_>, look: impl FnOnce(&N) -> T + Send) -> PyResult<T> {
        self.shared.with(py, |state| {
            self.check(state)?;
            state.net.get(self.id).map(look).ok_or_else(closed)
        })
    }

    /// The next event, as Python sees it.
    pub fn next_event(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        self.shared.with(py, |state| self.check(state))?;
        match self.shared.wait(py, Want::Of(self.id), duration(timeout)?)? {
            Brought::Event(_, event) => Ok(Some(events::to_python(py, &event)?.unbind())),
            Brought::Nothing | Brought::Gone => Ok(None),
        }
    }

    /// Waits until something is so of the node, for at most `timeout`. Answers whether it is.
    pub fn wait_until<N: Node>(
        &self,
        py: Python<'_>,
        timeout: Option<Duration>,
        is_so: impl Fn(&N) -> bool + Send + Sync,
    ) -> PyResult<bool> {
        let found = self.shared.wait_for(py, timeout, |state| {
            self.check(state)?;
            Ok(state.net.get(self.id).is_some_and(&is_so).then_some(()))
        })?;
        Ok(found.is_some())
    }

    /// Takes the object off its loop. Does nothing the second time.
    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let known = self.shared.objects(|objects| objects.remove(&self.id));
        drop(known);
        py.detach(|| caught(|| self.shared.remove(self.id))).or_raise(py)
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    fn check(&self, state: &State) -> Result<(), Fault> {
        if state.has(self.id) { Ok(()) } else { Err(closed()) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.shared.is_foreign() {
            // Closing a store that the parent has open would damage it: keep it, as it is, to the process's end.
            std::mem::forget(self.shared.clone());
        } else if !self.is_closed() {
            let known = self.shared.objects(|objects| objects.remove(&self.id));
            drop(known);
            // Nobody is left to be told.
            let _ = caught(|| self.shared.remove(self.id));
        }
    }
}

/// Remembers a new object as the one behind its node, so that `Loop.next_event` can say whose an event is.
pub fn introduce(handle: &Handle, object: &Bound<'_, PyAny>) -> PyResult<()> {
    let reference = PyWeakrefReference::new(object)?.unbind();
    handle.shared.objects(|objects| objects.insert(handle.id, reference));
    Ok(())
}

/// A caller's timeout in seconds; `None` for as long as it takes.
pub fn duration(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    match seconds {
        None => Ok(None),
        Some(seconds) if seconds >= 0.0 => Ok(Duration::try_from_secs_f64(seconds).ok()),
        Some(_) => Err(PyValueError::new_err("a timeout is in seconds, 0 or more, or None")),
    }
}

/// Events one after the other.
#[pyclass(frozen, module = "hailpost")]
pub struct EventIterator {
    owner: Py<PyAny>,
    timeout: Option<f64>,
}

impl EventIterator {
    pub fn new(owner: Py<PyAny>, timeout: Option<f64>) -> PyResult<EventIterator> {
        duration(timeout)?;
        Ok(EventIterator { owner, timeout })
    }
}

#[pymethods]
impl EventIterator {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let next = self.owner.bind(py).call_method1(pyo3::intern!(py, "next_event"), (self.timeout,))?;
        Ok((!next.is_none()).then(|| next.unbind()))
    }
}

/// The object behind a node, while it lives.
pub fn object_of(py: Python<'_>, shared: &Shared, id: NodeId) -> Option<Py<PyAny>> {
    let reference = shared.objects(|objects| objects.get(&id).map(|reference| reference.clone_ref(py)))?;
    reference.bind(py).upgrade().map(Bound::unbind)
}

/// The loop that a caller named.
pub fn shared_of(net: Option<&Bound<'_, runtime::Loop>>) -> Option<Arc<Shared>> {
    net.map(|net| net.get().shared().clone())
}

fn closed() -> Fault {
    Fault::new(Status::State, "it is closed")
}
