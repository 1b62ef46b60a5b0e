//! An application of a post office.

use hailpost::{
    config::Role,
    net::open_app,
    node::AppNode,
    status::{Fault, Status},
    wire::{
        app::{Kind, Message, To},
        post::Sequence,
    },
};
use pyo3::{
    prelude::*,
    types::{PyDict, PyType},
};

use crate::{
    device::{octets, receivers, sequence_of, strings},
    handle::{EventIterator, Handle, introduce, shared_of},
    options::Options,
    runtime,
    values::{self, Counters},
};

/// An application of a post office: sends to users, gets what they write to it, asks where they are.
///
/// `office` is one URL or several: tls://, and tcp:// on loopback. `name` and `secret` are those of its enrolment; the secret
/// can be in a file, `app_secret_file`. What it asks is said again after a lost connection, until it is answered. It
/// connects while somebody waits for its events.
#[pyclass(frozen, module = "hailpost", weakref)]
pub struct App {
    handle: Handle,
}

#[pymethods]
impl App {
    #[new]
    #[pyo3(signature = (office, name, secret = None, *, r#loop = None, **options))]
    fn new(
        py: Python<'_>,
        office: &Bound<'_, PyAny>,
        name: &Bound<'_, PyAny>,
        secret: Option<&Bound<'_, PyAny>>,
        r#loop: Option<&Bound<'_, runtime::Loop>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<App>> {
        let mut options = Options::new(Role::App, options)?;
        options.set("office", office)?;
        options.set("app", name)?;
        if let Some(secret) = secret {
            options.set("app_secret", secret)?;
        }
        let config = options.config;
        let (handle, ()) = Handle::open(py, shared_of(r#loop), |net| Ok((open_app(net, &config)?, ())))?;
        let app = Bound::new(py, App { handle })?;
        introduce(&app.get().handle, app.as_any())?;
        Ok(app.unbind())
    }

    /// Whether it is logged in.
    #[getter]
    fn is_up(&self, py: Python<'_>) -> PyResult<bool> {
        self.handle.look(py, |node: &AppNode| node.is_up())
    }

    /// Sends a message to `user:NAME`, `app:NAME`, a sequence of up to 1,000 of them, or "*". Returns its id.
    ///
    /// Answered with that id says what became of it. "*" with kind="directed" is all who follow this application, with
    /// kind="broadcast" everybody. With keep=False it is for those who are there only. `ttl`, in seconds, is how long it is
    /// worth anything; a broadcast with a `period`, its first and its last Unix second, is for those who come meanwhile
    /// too. An `id` of one's own, up to 64 visible ASCII characters, is taken once, over restarts too. FullError when too
    /// much is not answered: Writable says when there is room again.
    #[pyo3(signature = (
        to, body, *, keep = true, ttl = 604800, content_type = "text/plain", kind = None, period = None, id = None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn send(
        &self,
        py: Python<'_>,
        to: &Bound<'_, PyAny>,
        body: &Bound<'_, PyAny>,
        keep: bool,
        ttl: u32,
        content_type: &str,
        kind: Option<&str>,
        period: Option<(u64, u64)>,
        id: Option<&str>,
    ) -> PyResult<String> {
        let (to, body) = (strings(to)?, octets(body)?);
        self.handle.call(py, |node: &mut AppNode, _| {
            let to = if to == ["*"] { To::All } else { receivers(&to)? };
            let kind = kind_of(kind, &to)?;
            let (id, content_type) = (id.unwrap_or_default().to_owned(), content_type.to_owned());
            node.send(Message { id, kind, store: keep, ttl, period, content_type, ..Message::new(to, body) })
        })
    }

    /// Asks where users are, by their names, up to 1,000. Returns an id: a Presence for each has it, and then Answered.
    fn query(&self, py: Python<'_>, users: &Bound<'_, PyAny>) -> PyResult<String> {
        let users = strings(users)?;
        self.handle.call(py, |node: &mut AppNode, _| node.query(&users))
    }

    /// Withdraws a message by its id: a second Answered with that id says whether that was in time.
    fn cancel(&self, py: Python<'_>, id: &str) -> PyResult<()> {
        self.handle.call(py, |node: &mut AppNode, _| node.cancel(id))
    }

    /// A message, or the one of a sequence number, is dealt with. NotFoundError when no such message was shown and waits
    /// for it.
    fn confirm(&self, py: Python<'_>, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let sequence = sequence_of(message)?;
        self.handle.call(py, |node: &mut AppNode, _| node.confirm(Sequence(sequence)))
    }

    /// Requests and confirmations that are not answered: with none, nothing is lost by close().
    #[getter]
    fn pending(&self, py: Python<'_>) -> PyResult<usize> {
        self.handle.look(py, |node: &AppNode| node.pending())
    }

    /// What was counted, by name.
    fn counters(&self, py: Python<'_>) -> PyResult<Counters> {
        self.handle.look(py, |node: &AppNode| values::counters("", node.counters().list()).collect())
    }

    /// The next event; None when there was none for timeout seconds, or when it was closed.
    #[pyo3(signature = (timeout = None))]
    fn next_event(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        self.handle.next_event(py, timeout)
    }

    /// The events, until there was none for timeout seconds; without a timeout, until it is closed.
    #[pyo3(signature = (timeout = None))]
    fn events(this: Py<Self>, timeout: Option<f64>) -> PyResult<EventIterator> {
        EventIterator::new(this.into_any(), timeout)
    }

    /// The descriptor of its loop.
    fn fileno(&self) -> i32 {
        self.handle.shared.fd()
    }

    /// The loop that it is on.
    #[getter]
    fn r#loop(&self) -> runtime::Loop {
        runtime::Loop::of(&self.handle.shared)
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Ends the connection. What is not answered may be lost: it is nowhere else.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if !self.handle.is_closed() {
            self.handle.call(py, |node: &mut AppNode, _| {
                node.close();
                Ok(())
            })?;
        }
        self.handle.close(py)
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: Option<&Bound<'_, PyType>>,
        _error: Option<&Bound<'_, PyAny>>,
        _trace: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> &'static str {
        if self.handle.is_closed() { "<hailpost.App, closed>" } else { "<hailpost.App>" }
    }
}

/// What a caller calls the kind of a message; without a word it is what its receivers make it.
fn kind_of(kind: Option<&str>, to: &To) -> Result<Kind, Fault> {
    match (kind, to) {
        (Some("one"), _) => Ok(Kind::One),
        (Some("directed"), _) => Ok(Kind::Directed),
        (Some("broadcast"), _) => Ok(Kind::Broadcast),
        (None, To::Named(named)) if named.len() == 1 => Ok(Kind::One),
        (None, To::Named(_)) => Ok(Kind::Directed),
        (None, To::All) => Err(Fault::new(
            Status::Invalid,
            "kind: say \"directed\" for all who follow this application, or \"broadcast\" for everybody",
        )),
        (Some(_), _) => {
            Err(Fault::new(Status::Invalid, "kind: it is \"one\", \"directed\" or \"broadcast\""))
        }
    }
}
