//! The loop as Python sees it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use pyo3::{prelude::*, types::PyTuple};

use crate::{
    errors::OrRaise,
    events,
    handle::{EventIterator, duration, object_of},
    shared::{Brought, Shared, Want},
    values::{Counters, counters},
};

/// A loop that several objects share: one descriptor, one timeout, one step for all of them.
///
/// Work is done while somebody waits: in next_event() or events() of the loop or of an object on it, or in step().
#[pyclass(frozen, module = "hailpost", weakref)]
pub struct Loop {
    shared: Arc<Shared>,
}

impl Loop {
    pub fn of(shared: &Arc<Shared>) -> Loop {
        Loop { shared: shared.clone() }
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

#[pymethods]
impl Loop {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Loop> {
        Ok(Loop { shared: Shared::new().or_raise(py)? })
    }

    /// The one descriptor to wait on: readable when step() has something to do.
    fn fileno(&self) -> i32 {
        self.shared.fd()
    }

    /// How many seconds to wait at most before step(); None for as long as it takes.
    fn timeout(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        self.shared.with(py, |state| Ok(state.net.timeout().map(|wait| wait.as_secs_f64())))
    }

    /// Does what there is to do, without waiting.
    fn step(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.step(py)
    }

    /// Makes the descriptor readable: whoever waits does a step.
    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.change(py, |_| Ok(()))
    }

    /// The network is another, or back: names are looked up afresh, and gateways try again without waiting.
    fn network_changed(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.change(py, |state| {
            state.net.network_changed();
            Ok(())
        })
    }

    /// The next event of any object on the loop, as (object, event). None when there was none for timeout seconds.
    #[pyo3(signature = (timeout = None))]
    fn next_event<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        match self.shared.wait(py, Want::Any, duration(timeout)?)? {
            Brought::Event(id, event) => {
                let event = events::to_python(py, &event)?;
                let object = object_of(py, &self.shared, id).unwrap_or_else(|| py.None());
                Ok(Some((object, event).into_pyobject(py)?))
            }
            Brought::Nothing | Brought::Gone => Ok(None),
        }
    }

    /// The events of all objects on the loop, as (object, event), until there was none for timeout seconds.
    #[pyo3(signature = (timeout = None))]
    fn events(this: Py<Self>, timeout: Option<f64>) -> PyResult<EventIterator> {
        EventIterator::new(this.into_any(), timeout)
    }

    /// What the loop counted, by name.
    fn counters(&self, py: Python<'_>) -> PyResult<Counters> {
        self.shared.with(py, |state| Ok(counters("", state.net.counters().list()).collect()))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Loop>().is_ok_and(|other| Arc::ptr_eq(&self.shared, &other.get().shared))
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        Arc::as_ptr(&self.shared).hash(&mut hasher);
        hasher.finish()
    }
}
