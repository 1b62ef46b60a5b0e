//! A device.

use std::collections::BTreeSet;

use hailpost::{
    config::Role,
    net::open_device,
    node::DeviceNode,
    status::{Fault, Status},
    wire::app::{Address, DEFAULT_TTL, To},
};
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyBytes, PyDict, PyInt, PyString, PyType},
};

use crate::{
    handle::{EventIterator, Handle, duration, introduce, shared_of},
    options::Options,
    runtime,
    values::{self, Counters},
};

// Python shows the number in signatures.
const _: () = assert!(DEFAULT_TTL == 604800);

/// A device of a post office: gets the messages of its user, and gives messages, which wait in its outbox while there is
/// no way to the office.
///
/// `credential`, or the file `credential_file`, is the line of its enrolment; `office` is one URL or several if it is
/// reached in other ways than that line says. `store` is the file that keeps outbox and confirmations; without it all is
/// in memory. It logs in while somebody waits for its events.
#[pyclass(frozen, module = "hailpost", weakref)]
pub struct Device {
    handle: Handle,
}

#[pymethods]
impl Device {
    #[new]
    #[pyo3(signature = (office = None, *, r#loop = None, **options))]
    fn new(
        py: Python<'_>,
        office: Option<&Bound<'_, PyAny>>,
        r#loop: Option<&Bound<'_, runtime::Loop>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Device>> {
        let mut options = Options::new(Role::Device, options)?;
        if let Some(office) = office {
            options.set("office", office)?;
        }
        let config = options.config;
        let (handle, ()) = Handle::open(py, shared_of(r#loop), |net| Ok((open_device(net, &config)?, ())))?;
        let device = Bound::new(py, Device { handle })?;
        introduce(&device.get().handle, device.as_any())?;
        Ok(device.unbind())
    }

    /// Whether it is logged in.
    #[getter]
    fn is_up(&self, py: Python<'_>) -> PyResult<bool> {
        self.handle.look(py, |node: &DeviceNode| node.is_up())
    }

    /// Gives a message to `user:NAME`, `app:NAME`, or a sequence of up to 1,000 of them. Returns its number.
    ///
    /// Stored(number) says that it is durable here: then it goes out once, whatever happens. It ends in Accepted, Rejected
    /// or Expired. With keep=False it is for those who are there only. `ttl`, in seconds, is how long it is worth anything.
    /// FullError when the outbox is full: Writable says when there is room again.
    #[pyo3(signature = (to, body, *, keep = true, ttl = 604800, content_type = "text/plain"))]
    fn put(
        &self,
        py: Python<'_>,
        to: &Bound<'_, PyAny>,
        body: &Bound<'_, PyAny>,
        keep: bool,
        ttl: u32,
        content_type: &str,
    ) -> PyResult<u64> {
        let (to, body) = (strings(to)?, octets(body)?);
        self.handle.call(py, |node: &mut DeviceNode, now| {
            node.put(now, receivers(&to)?, keep, ttl, content_type, body)
        })
    }

    /// As put(), and waits until the message is durable here: for `timeout` seconds, or for as long as it takes.
    ///
    /// The message is given once whatever this raises afterwards: the TimeoutError has its `number`, and Stored may still
    /// come. Events that come meanwhile wait for next_event(), Stored too.
    #[pyo3(signature = (to, body, *, keep = true, ttl = 604800, content_type = "text/plain", timeout = None))]
    #[allow(clippy::too_many_arguments)]
    fn put_wait(
        &self,
        py: Python<'_>,
        to: &Bound<'_, PyAny>,
        body: &Bound<'_, PyAny>,
        keep: bool,
        ttl: u32,
        content_type: &str,
        timeout: Option<f64>,
    ) -> PyResult<u64> {
        let timeout = duration(timeout)?;
        let number = self.put(py, to, body, keep, ttl, content_type)?;
        if self.handle.wait_until(py, timeout, |node: &DeviceNode| node.is_stored(number))? {
            return Ok(number);
        }
        let detail = "the message is not durable yet: the disk is slow, or StoreFailing says what is wrong";
        let error = crate::errors::raised(py, &Fault::new(Status::Timeout, detail));
        error.value(py).setattr("number", number)?;
        Err(error)
    }

    /// A message, or the one of a sequence number, is dealt with: Confirmed says that it is never shown again.
    ///
    /// NotFoundError when no such message was shown and waits for it.
    fn confirm(&self, py: Python<'_>, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let sequence = sequence_of(message)?;
        self.handle.call(py, |node: &mut DeviceNode, _| node.confirm(sequence))
    }

    /// Follows an application, by its name. Returns the number of the request, which Answer names.
    ///
    /// StateError while the device is not logged in.
    fn subscribe(&self, py: Python<'_>, app: &str) -> PyResult<u64> {
        self.handle.call(py, |node: &mut DeviceNode, _| node.subscribe(app, true))
    }

    /// Follows an application no more. Returns and raises as subscribe().
    fn unsubscribe(&self, py: Python<'_>, app: &str) -> PyResult<u64> {
        self.handle.call(py, |node: &mut DeviceNode, _| node.subscribe(app, false))
    }

    /// Has messages kept while none of the user's devices is there, or not. Returns and raises as subscribe().
    fn keep(&self, py: Python<'_>, keep: bool) -> PyResult<u64> {
        self.handle.call(py, |node: &mut DeviceNode, _| node.keep(keep))
    }

    /// Asks where users are, by their names, up to 1,000: a Presence for each has the number that this returns. Raises as
    /// subscribe().
    fn query(&self, py: Python<'_>, users: &Bound<'_, PyAny>) -> PyResult<u64> {
        let users = strings(users)?;
        self.handle.call(py, |node: &mut DeviceNode, _| node.query(users))
    }

    /// The platform is about to sleep, for so many seconds at the most, or 0 for 15 hours, which is as much: the office is told,
    /// keeps the session and sends nothing. Suspended says within eight seconds that the device has nothing due any more.
    ///
    /// StateError when it is suspended already.
    #[pyo3(signature = (seconds = 0))]
    fn suspend(&self, py: Python<'_>, seconds: u32) -> PyResult<()> {
        self.handle.call(py, |node: &mut DeviceNode, now| node.suspend(now, seconds))
    }

    /// The platform is awake: the device speaks, and what waited comes. It changes nothing of one that is not suspended.
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.call(py, |node: &mut DeviceNode, now| {
            node.resume(now);
            Ok(())
        })
    }

    /// Whether what is sent on this network is paid for: while it is, the device looks for no longer interval between heartbeats, and
    /// sends nothing again before it must. Say it before network_changed().
    fn set_metered(&self, py: Python<'_>, metered: bool) -> PyResult<()> {
        self.handle.call(py, |node: &mut DeviceNode, _| {
            node.set_metered(metered);
            Ok(())
        })
    }

    /// Messages in the outbox.
    #[getter]
    fn waiting(&self, py: Python<'_>) -> PyResult<usize> {
        self.handle.look(py, |node: &DeviceNode| node.waiting())
    }

    /// What was counted, by name; what the link counted has `link_` before it, what was counted of asking a balancer
    /// `balancer_`.
    fn counters(&self, py: Python<'_>) -> PyResult<Counters> {
        self.handle.look(py, |node: &DeviceNode| {
            values::counters("", node.counters().list())
                .chain(values::counters("link_", node.link_counters().list()))
                .chain(values::counters("balancer_", node.balancer_counters().list()))
                .collect()
        })
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

    /// Says goodbye to the office and closes the store; what was asked of the store is written before. What is in the outbox
    /// goes out when the device is opened again.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if !self.handle.is_closed() {
            self.handle.call(py, |node: &mut DeviceNode, now| {
                node.close(now);
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
        if self.handle.is_closed() { "<hailpost.Device, closed>" } else { "<hailpost.Device>" }
    }
}

/// One text, or a sequence of them.
pub fn strings(value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    match value.is_instance_of::<PyString>() {
        true => Ok(vec![value.extract()?]),
        false => value.try_iter()?.map(|one| one?.extract()).collect(),
    }
}

/// A body: octets, or text as UTF-8.
pub fn octets(body: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    match body.cast::<PyBytes>() {
        Ok(octets) => Ok(octets.as_bytes().to_vec()),
        Err(_) => body
            .extract::<String>()
            .map(String::into_bytes)
            .map_err(|_| PyTypeError::new_err("a body is bytes or str")),
    }
}

/// The sequence number of a message, or the one that a caller gives.
pub fn sequence_of(message: &Bound<'_, PyAny>) -> PyResult<u64> {
    match message.is_instance_of::<PyInt>() {
        true => message.extract(),
        false => message.getattr("sequence")?.extract(),
    }
}

/// Receivers that are named, each once.
pub fn receivers(to: &[String]) -> Result<To, Fault> {
    let wrong = || {
        let detail = "to: a receiver is user:NAME or app:NAME, with a name of 1 to 64 visible ASCII characters \
                      without a comma, a colon or an asterisk";
        Fault::new(Status::Invalid, detail)
    };
    let addresses = to.iter().map(|one| one.parse().map_err(|_| wrong()));
    let addresses: Vec<Address> = addresses.collect::<Result<_, Fault>>()?;
    let mut seen = BTreeSet::new();
    Ok(To::Named(addresses.into_iter().filter(|address| seen.insert(address.clone())).collect()))
}
