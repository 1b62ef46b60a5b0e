//! Recognition without a backend.

use std::{io::Read, sync::Mutex};

use hailpost::{
    net::HOME_RULES,
    node::{CaptureClock, Event, EventKind, flow_event},
    recognize::{Config, Limits, Recognizer as Engine, RulesFile, Stage},
    status::{Fault, Status},
    time::Time,
    wire::{
        capture::{CaptureError, CaptureReader},
        packet::LinkType,
    },
};
use pyo3::{prelude::*, types::PyBytes};

use crate::{
    errors::{OrRaise, raised},
    events,
    gateway::open_capture,
    shared::caught,
    values::{self, Counters},
};

/// Frames of a file that are taken in before signals are looked at.
const FRAMES_AT_ONCE: usize = 4096;

/// Tells the flows in a sequence of frames apart and names their applications, without a backend.
///
/// `rules` is "home" (those that ship) or the path of a TOML file.
#[pyclass(frozen, module = "hailpost")]
pub struct Recognizer {
    engine: Mutex<Named>,
}

struct Named {
    engine: Engine,
    names: Vec<(hailpost::wire::AppId, String)>,
    /// No clock of ours runs beside that of the frames.
    captured: CaptureClock,
    /// What a frame that could not be taken in brought to an end: told with the next one.
    waiting: Vec<Event>,
}

impl Named {
    fn open(rules: &str, max_flows: usize) -> Result<Named, Fault> {
        let text = match rules {
            "home" => HOME_RULES.to_owned(),
            path => std::fs::read_to_string(path)
                .map_err(|error| Fault::new(Status::Config, format!("rules: cannot read {path}: {error}")))?,
        };
        let file = RulesFile::parse(&text, Limits::default())
            .map_err(|error| Fault::new(Status::Pattern, format!("rules: {rules}: {error}")))?;
        let names = file.names().map(|(app, name)| (app, name.to_owned())).collect();
        let mut seed = [0; 8];
        getrandom::fill(&mut seed)
            .map_err(|error| Fault::new(Status::Io, format!("reading random octets: {error}")))?;
        let config = Config { max_flows, seed: u64::from_ne_bytes(seed), ..Config::default() };
        Ok(Named {
            engine: Engine::new(file.set.into(), config),
            names,
            captured: CaptureClock::default(),
            waiting: Vec::new(),
        })
    }

    fn feed(
        &mut self,
        time: Option<Time>,
        link_type: LinkType,
        frame: &[u8],
        early: bool,
        flows: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        let fed = self.engine.feed(self.captured.at(Time::ZERO, time), link_type, frame);
        self.take(flows, early);
        fed.map_err(|error| Fault::new(Status::Malformed, error.to_string()))
    }

    fn finish(&mut self, flows: &mut Vec<Event>) {
        flows.append(&mut self.waiting);
        flows.retain(|flow| flow.kind() == EventKind::Flow);
        self.engine.finish();
        self.captured.begin();
        self.take(flows, false);
    }

    /// Takes the flows that ended, and with `early` those that were recognised.
    fn take(&mut self, flows: &mut Vec<Event>, early: bool) {
        while let Some(verdict) = self.engine.poll_verdict() {
            if verdict.stage == Stage::Ended || early && verdict.is_news {
                let name = verdict.app.and_then(|app| {
                    let at = self.names.binary_search_by_key(&app, |(known, _)| *known).ok()?;
                    Some(&self.names[at].1[..])
                });
                flows.push(flow_event(&verdict, name));
            }
        }
    }
}

#[pymethods]
impl Recognizer {
    #[new]
    #[pyo3(signature = (rules = None, *, max_flows = 65_536))]
    fn new(py: Python<'_>, rules: Option<&Bound<'_, PyAny>>, max_flows: usize) -> PyResult<Recognizer> {
        let rules = rules.map_or_else(|| Ok("home".to_owned()), values::path)?;
        let named = py.detach(|| match max_flows {
            1..=100_000_000 => Named::open(&rules, max_flows),
            _ => Err(Fault::new(Status::Config, "max_flows: a number from 1 to 100000000 is wanted")),
        });
        Ok(Recognizer { engine: Mutex::new(named.or_raise(py)?) })
    }

    /// Takes in a frame; returns the flows that were recognised by it, and those that ended. `time` is in seconds of any epoch and must not go back; without it
    /// the frame is of the last one's time. MalformedError when it is no IP packet.
    #[pyo3(signature = (link_type, frame, time = None))]
    fn feed<'py>(
        &self,
        py: Python<'py>,
        link_type: u32,
        frame: &Bound<'_, PyBytes>,
        time: Option<f64>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let frame = frame.as_bytes();
        let flows = self.with(py, |named| {
            let mut flows = std::mem::take(&mut named.waiting);
            let fed = named.feed(time.map(values::seconds), LinkType(link_type), frame, true, &mut flows);
            fed.map(|()| std::mem::take(&mut flows)).inspect_err(|_| named.waiting = flows)
        })?;
        to_python(py, &flows)
    }

    /// Takes in a capture file (pcap or pcapng); returns its flows. Frames that are not IP are passed over. MalformedError
    /// for a file that is damaged or cut; its `flows` are those of what stood before.
    fn feed_pcap<'py>(&self, py: Python<'py>, path: &Bound<'_, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let path = values::path(path)?;
        let mut reader = py.detach(|| open_capture(&path)).or_raise(py)?;
        let mut flows = Vec::new();
        let mut frames = Frames::default();
        loop {
            let ended = py.detach(|| frames.fill(&mut reader, FRAMES_AT_ONCE));
            self.with(py, |named| {
                for (time, link_type, frame) in frames.iter() {
                    // Not IP: counted by the recogniser.
                    let _ = named.feed(Some(time), link_type, frame, false, &mut flows);
                }
                if !matches!(ended, Ok(false)) {
                    named.finish(&mut flows);
                }
                Ok(())
            })?;
            match ended {
                Ok(true) => return to_python(py, &flows),
                Ok(false) => py.check_signals()?,
                Err(error) => {
                    let error = raised(py, &capture_fault(&path, &error));
                    error.value(py).setattr("flows", to_python(py, &flows)?)?;
                    return Err(error);
                }
            }
        }
    }

    /// Ends every flow; returns them.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let flows = self.with(py, |named| {
            let mut flows = Vec::new();
            named.finish(&mut flows);
            Ok(flows)
        })?;
        to_python(py, &flows)
    }

    /// Applications by number, as the rules name them.
    #[getter]
    fn names(&self, py: Python<'_>) -> PyResult<std::collections::BTreeMap<u32, String>> {
        self.with(py, |named| Ok(named.names.iter().map(|(app, name)| (app.0, name.clone())).collect()))
    }

    /// What was counted, by name.
    fn counters(&self, py: Python<'_>) -> PyResult<Counters> {
        self.with(py, |named| Ok(values::counters("", named.engine.counters().list()).collect()))
    }
}

impl Recognizer {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut Named) -> Result<T, Fault> + Send,
    ) -> PyResult<T> {
        let locked = || self.engine.lock().map_err(|_| Fault::from(Status::Panic));
        py.detach(|| caught(|| call(&mut *locked()?))).or_raise(py)
    }
}

/// Frames read ahead, so that reading needs no lock.
#[derive(Default)]
pub struct Frames {
    octets: Vec<u8>,
    frames: Vec<(Time, LinkType, std::ops::Range<usize>)>,
}

impl Frames {
    /// Reads at most `most` frames; answers whether the file is at its end.
    pub fn fill(&mut self, reader: &mut CaptureReader<impl Read>, most: usize) -> Result<bool, CaptureError> {
        self.octets.clear();
        self.frames.clear();
        while self.frames.len() < most {
            let Some(record) = reader.next_record()? else { return Ok(true) };
            let start = self.octets.len();
            self.octets.extend_from_slice(record.frame);
            self.frames.push((record.time, record.link_type, start..self.octets.len()));
        }
        Ok(false)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Time, LinkType, &[u8])> {
        self.frames.iter().map(|(time, link, range)| (*time, *link, &self.octets[range.clone()]))
    }

    pub fn len(&self) -> usize {
        self.frames.len()
    }
}

/// What is wrong with a capture file.
pub fn capture_fault(path: &str, error: &CaptureError) -> Fault {
    let status = match error {
        CaptureError::Io { .. } => Status::Io,
        _ => Status::Malformed,
    };
    Fault::new(status, format!("{path}: {error}"))
}

fn to_python<'py>(py: Python<'py>, flows: &[Event]) -> PyResult<Vec<Bound<'py, PyAny>>> {
    flows.iter().map(|flow| events::to_python(py, flow)).collect()
}
