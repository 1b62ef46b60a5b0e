//! A gateway.

use std::{fs::File, io::BufReader};

use hailpost::{
    config::Role,
    gateway::{GatewayState, ResultKey},
    net::{open_gateway, url::Url},
    node::GatewayNode,
    status::{Fault, Status},
    wire::{AppId, capture::CaptureReader, gateway::Record, packet::LinkType},
};
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict, PyType},
};

use crate::{
    backend::warn_if_bare,
    errors::{OrRaise, raised},
    handle::{EventIterator, Handle, introduce, shared_of},
    options::Options,
    recognizer::{Frames, capture_fault},
    runtime,
    values::{self, Counters},
};

/// Frames of a file that are taken in before the loop has a turn.
const FRAMES_AT_ONCE: usize = 1024;

/// A gateway: registers with a backend, keeps the link, learns results and rules, reports what it recognised.
///
/// `backend` is a URL such as tls://backend.example:7700?pin=HEX. `identity` is an Identity or the path of a file with one.
/// On hail:// `credential`, or the file `credential_file`, is the line of its enrolment, which names the backend too.
/// `rules` is "home" (those that ship), "none", or the path of a TOML file. The other options have the
/// names that configuration files use. It registers while somebody waits for its events.
#[pyclass(frozen, module = "hailpost", weakref)]
pub struct Gateway {
    handle: Handle,
}

#[pymethods]
impl Gateway {
    #[new]
    #[pyo3(signature = (backend = None, *, identity = None, r#loop = None, **options))]
    fn new(
        py: Python<'_>,
        backend: Option<&Bound<'_, PyAny>>,
        identity: Option<&Bound<'_, PyAny>>,
        r#loop: Option<&Bound<'_, runtime::Loop>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Gateway>> {
        let mut options = Options::new(Role::Gateway, options)?;
        if let Some(backend) = backend {
            options.set("backend", backend)?;
        }
        options.identity(identity)?;
        let config = options.config;
        let (handle, ()) = Handle::open(py, shared_of(r#loop), |net| Ok((open_gateway(net, &config)?, ())))?;
        if let Ok(url) = config.text("backend").parse::<Url>() {
            warn_if_bare(py, url.scheme)?;
        }
        let gateway = Bound::new(py, Gateway { handle })?;
        introduce(&gateway.get().handle, gateway.as_any())?;
        Ok(gateway.unbind())
    }

    /// Where the association stands: down, connecting, registering, active or leaving.
    #[getter]
    fn state(&self, py: Python<'_>) -> PyResult<&'static str> {
        self.handle.look(py, |node: &GatewayNode| match node.gateway().state() {
            GatewayState::Down => "down",
            GatewayState::Connecting => "connecting",
            GatewayState::Registering => "registering",
            GatewayState::Active => "active",
            GatewayState::Leaving => "leaving",
        })
    }

    /// Queues an identification: `remote`, a pair of address and port, is an end of the application. It is kept over lost
    /// links until Acknowledged says that it is durable at the backend.
    ///
    /// FullError at the bound: Writable says when there is room again.
    #[pyo3(signature = (app_id, local, remote, protocol = 1))]
    fn report(
        &self,
        py: Python<'_>,
        app_id: u32,
        local: (String, u16),
        remote: (String, u16),
        protocol: u8,
    ) -> PyResult<()> {
        let wrong = || Fault::new(Status::Invalid, "protocol: 1 (TCP), 2 (UDP), or another of at most 15");
        self.handle.call(py, |node: &mut GatewayNode, now| {
            let record = Record {
                app: AppId(app_id),
                local: values::socket_address("local", local)?,
                remote: values::socket_address("remote", remote)?,
                protocol: (protocol < 16).then_some(protocol).ok_or_else(wrong)?,
                reserved1: 0,
                reserved2: 0,
                reserved3: 0,
            };
            node.gateway_mut().report(now, record)
        })
    }

    /// Queues features of a flow for the backend's trainer: words as docs/training.md lays them out.
    fn report_features(&self, py: Python<'_>, app_id: u32, words: Vec<u32>) -> PyResult<()> {
        self.handle.call(py, |node: &mut GatewayNode, now| {
            node.gateway_mut().report_features(now, AppId(app_id), words)
        })
    }

    /// Takes in a frame. `link_type` is that of pcap files: 1 for Ethernet, 101 for bare IP. `time`, in seconds of any
    /// epoch, is when it was captured; without it that is now. MalformedError when it is no IP packet; nothing else changes.
    #[pyo3(signature = (link_type, frame, time = None))]
    fn feed(
        &self,
        py: Python<'_>,
        link_type: u32,
        frame: &Bound<'_, PyBytes>,
        time: Option<f64>,
    ) -> PyResult<()> {
        let frame = frame.as_bytes();
        let captured = time.map(values::seconds);
        self.handle.call(py, |node: &mut GatewayNode, now| {
            node.feed_captured(now, captured, LinkType(link_type), frame)
        })
    }

    /// Takes in a capture file (pcap or pcapng) and ends its flows. Returns how many frames it had; those that are not IP
    /// are passed over. MalformedError for a file that is damaged or cut; what stood before counts. FullError when more than
    /// 65,536 events wait: feed() a larger one frame by frame, and read the events in between.
    fn feed_pcap(&self, py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<u64> {
        let path = values::path(path)?;
        let mut reader = py.detach(|| open_capture(&path)).or_raise(py)?;
        self.handle.call(py, |node: &mut GatewayNode, _| {
            node.begin_capture();
            Ok(())
        })?;
        let mut fed = 0;
        let mut frames = Frames::default();
        loop {
            let ended = py.detach(|| frames.fill(&mut reader, FRAMES_AT_ONCE));
            self.handle.call(py, |node: &mut GatewayNode, now| {
                for (time, link_type, frame) in frames.iter() {
                    // Not IP: counted by the recogniser.
                    if let Err(fault) = node.feed_captured(now, Some(time), link_type, frame)
                        && fault.status != Status::Malformed
                    {
                        return Err(fault);
                    }
                }
                if !matches!(ended, Ok(false)) {
                    node.finish(now)?;
                }
                Ok(())
            })?;
            fed += frames.len() as u64;
            self.handle.shared.step(py)?;
            match ended {
                Ok(true) => return Ok(fed),
                Ok(false) => py.check_signals()?,
                Err(error) => return Err(raised(py, &capture_fault(&path, &error))),
            }
        }
    }

    /// Ends every flow, for a capture that is over: each tells its Flow.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.call(py, |node: &mut GatewayNode, now| node.finish(now))
    }

    /// Changes the pause between heartbeats, at least 1 ms; holds from the next heartbeat on.
    fn set_heartbeat_ms(&self, py: Python<'_>, heartbeat_ms: u32) -> PyResult<()> {
        self.handle.call(py, |node: &mut GatewayNode, _| {
            if heartbeat_ms == 0 {
                return Err(Fault::new(Status::Invalid, "heartbeat_ms is at least 1"));
            }
            node.gateway_mut().set_heartbeat(std::time::Duration::from_millis(heartbeat_ms.into()));
            Ok(())
        })
    }

    /// The application that others recognised at a remote end, a pair of address and port; None when nothing is known.
    #[pyo3(signature = (remote, protocol = 1))]
    fn result(&self, py: Python<'_>, remote: (String, u16), protocol: u8) -> PyResult<Option<u32>> {
        self.handle.call(py, |node: &mut GatewayNode, _| {
            let remote = values::socket_address("remote", remote)?;
            Ok(node.gateway().result(&ResultKey { remote, protocol }).map(|app| app.0))
        })
    }

    /// Leaves the backend in order and stays away until join().
    fn leave(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.call(py, |node: &mut GatewayNode, now| {
            node.gateway_mut().leave(now);
            Ok(())
        })
    }

    /// Registers now, without waiting for the pause: after leave(), or after the operator allowed it again.
    fn join(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.call(py, |node: &mut GatewayNode, now| {
            node.gateway_mut().join(now);
            Ok(())
        })
    }

    /// Reports that wait for their acknowledgement.
    #[getter]
    fn pending(&self, py: Python<'_>) -> PyResult<usize> {
        self.handle.look(py, |node: &GatewayNode| node.gateway().pending())
    }

    /// The results that the backend told of, oldest first.
    fn results<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let found: Vec<_> = self.handle.look(py, |node: &GatewayNode| node.gateway().results().collect())?;
        found.into_iter().map(|(key, app)| values::result(py, key, app)).collect()
    }

    /// The rules that the backend told of, in order.
    fn rules<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let found: Vec<(AppId, Vec<u8>)> = self.handle.look(py, |node: &GatewayNode| {
            node.gateway().rules().map(|(app, pattern)| (app, pattern.to_vec())).collect()
        })?;
        found.iter().map(|(app, pattern)| values::rule(py, *app, pattern)).collect()
    }

    /// What was counted, by name. What recognition counted has `recognition_` before it, the link on hail:// `link_`.
    fn counters(&self, py: Python<'_>) -> PyResult<Counters> {
        self.handle.look(py, |node: &GatewayNode| {
            let recognition = node.recognition().map(|known| known.recognizer().counters());
            values::counters("", node.gateway().counters().list())
                .chain(recognition.iter().flat_map(|known| values::counters("recognition_", known.list())))
                .chain(
                    node.link_counters()
                        .into_iter()
                        .flat_map(|known| values::counters("link_", known.list())),
                )
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

    /// Closes the link without a word; leave() says one.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
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
        self.handle.close(py)
    }

    fn __repr__(&self) -> &'static str {
        if self.handle.is_closed() { "<hailpost.Gateway, closed>" } else { "<hailpost.Gateway>" }
    }
}

/// A capture file, at its first frame.
pub fn open_capture(path: &str) -> Result<CaptureReader<BufReader<File>>, Fault> {
    let file =
        File::open(path).map_err(|error| Fault::new(Status::Io, format!("cannot open {path}: {error}")))?;
    CaptureReader::new(BufReader::with_capacity(1 << 16, file)).map_err(|error| capture_fault(path, &error))
}
