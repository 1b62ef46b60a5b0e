//! A backend.

use hailpost::{
    config::{Config, Role},
    gateway::Enrolment,
    io::KeyId,
    net::{
        credential_line, credential_url, open_backend,
        tls::Identity,
        url::{Host, LinkKey, Scheme, Url},
    },
    node::BackendNode,
    recognize::{Limits, Rule, RuleSet},
    status::{Fault, Status},
    wire::AppId,
};
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyBytes, PyDict, PyTuple, PyType},
};

use crate::{
    errors::OrRaise,
    handle::{EventIterator, Handle, introduce, shared_of},
    options::Options,
    runtime,
    values::{self, Counters},
};

/// A backend: admits gateways, keeps what they report, brings every gateway of a group to the same state, trains.
///
/// `listen` is one URL or several: tls://, hail://, tcp:// or udp://, where port 0 takes a free one. `identity` is an Identity or
/// the path of a file with one; tls:// needs it. `store` is the file that keeps everything; without it all is in memory.
/// The other options have the names that configuration files use.
#[pyclass(frozen, module = "hailpost", weakref)]
pub struct Backend {
    handle: Handle,
    addresses: Vec<std::net::SocketAddr>,
    urls: Vec<Url>,
}

#[pymethods]
impl Backend {
    #[new]
    #[pyo3(signature = (listen = None, *, identity = None, r#loop = None, **options))]
    fn new(
        py: Python<'_>,
        listen: Option<&Bound<'_, PyAny>>,
        identity: Option<&Bound<'_, PyAny>>,
        r#loop: Option<&Bound<'_, runtime::Loop>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Backend>> {
        let mut options = Options::new(Role::Backend, options)?;
        if let Some(listen) = listen {
            options.set("listen", listen)?;
        }
        options.identity(identity)?;
        let config = options.config;
        let listens =
            config.list("listen").map(str::parse::<Url>).collect::<Result<Vec<_>, _>>().or_raise(py)?;
        let pin = own_pin(&config);
        let (handle, (addresses, link)) = Handle::open(py, shared_of(r#loop), |net| {
            let (id, addresses) = open_backend(net, &config)?;
            Ok((id, (addresses, net.get(id).and_then(BackendNode::link_key))))
        })?;
        let url = |(listen, address): (&Url, &std::net::SocketAddr)| {
            let pins = pin.filter(|_| listen.scheme == Scheme::Tls).into_iter().collect();
            let key = link.map(LinkKey).filter(|_| listen.scheme == Scheme::Hail);
            let (host, port) = (Host::Address(address.ip()), address.port());
            Url { host, port, pins, key, ..listen.clone() }
        };
        let urls = listens.iter().zip(&addresses).map(url).collect();
        for listen in &listens {
            warn_if_bare(py, listen.scheme)?;
        }
        let backend = Bound::new(py, Backend { handle, addresses, urls })?;
        introduce(&backend.get().handle, backend.as_any())?;
        Ok(backend.unbind())
    }

    /// The addresses that it listens on, in the order of `listen`.
    #[getter]
    fn addresses<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let addresses = self.addresses.iter().map(|address| values::address(py, *address));
        PyTuple::new(py, addresses.collect::<PyResult<Vec<_>>>()?)
    }

    /// What a gateway connects to, in the order of `listen`: with its port, and for tls:// with the pin of its key, for hail:// with
    /// the key.
    #[getter]
    fn urls<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.urls.iter().map(Url::to_string))
    }

    /// Adds a rule for one group, or for all: flows that the pattern matches are of the application.
    ///
    /// Returns a ticket: Durable(ticket) says that it is on the disk. PatternError says what is wrong with the pattern.
    #[pyo3(signature = (app_id, pattern, group = None))]
    fn set_rule(
        &self,
        py: Python<'_>,
        app_id: u32,
        pattern: &Bound<'_, PyAny>,
        group: Option<&str>,
    ) -> PyResult<u64> {
        let pattern = octets(pattern)?;
        let app = AppId(app_id);
        self.handle.call(py, |node: &mut BackendNode, _| {
            let text = String::from_utf8(pattern).map_err(|_| {
                Fault::new(Status::Pattern, "the pattern is not UTF-8: write octets as \\xNN")
            })?;
            let rule = Rule { app, text };
            RuleSet::compile(std::slice::from_ref(&rule), Limits::default())
                .map_err(|error| Fault::new(Status::Pattern, error.fault.to_string()))?;
            node.backend_mut().set_rule(group, app, rule.text.as_bytes())
        })
    }

    /// Removes one pattern of an application, or all of them. Returns a ticket.
    #[pyo3(signature = (app_id, pattern = None, group = None))]
    fn remove_rule(
        &self,
        py: Python<'_>,
        app_id: u32,
        pattern: Option<&Bound<'_, PyAny>>,
        group: Option<&str>,
    ) -> PyResult<u64> {
        let pattern = pattern.map(octets).transpose()?;
        self.handle.call(py, |node: &mut BackendNode, _| {
            node.backend_mut().remove_rule(group, AppId(app_id), pattern.as_deref())
        })
    }

    /// Enrols a gateway by its key, or changes its enrolment; whether it is barred stays as it is. The word of a
    /// `trusted` one alone is enough for others to be told. Returns a ticket.
    #[pyo3(signature = (key_id, name, group, trusted = false))]
    fn enrol(&self, py: Python<'_>, key_id: &str, name: &str, group: &str, trusted: bool) -> PyResult<u64> {
        self.handle.call(py, |node: &mut BackendNode, _| {
            let key: KeyId = key_id.parse()?;
            let enrolment = Enrolment { name: name.into(), group: group.into(), trusted, barred: false };
            node.backend_mut().enrol(key, enrolment)
        })
    }

    /// Enrols a gateway for hail://, by a credential that is drawn for it. Returns its key's name, the line that it is to be given
    /// for its option `credential`, a secret, and the ticket of the event Durable from which on that is good. `url` is
    /// where the gateway finds the backend, such as hail://backend.example:7704; without it that is where it listens.
    #[pyo3(signature = (name, group, trusted = false, *, url = None))]
    fn enrol_link<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        group: &str,
        trusted: bool,
        url: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let own = self.urls.iter().find(|url| url.scheme == Scheme::Hail);
        let (url, (credential, ticket)) = self.handle.call(py, |node: &mut BackendNode, _| {
            let key = node.link_key().ok_or(Status::State)?;
            let url = credential_url(url, own, key)?;
            let enrolment = Enrolment { name: name.into(), group: group.into(), trusted, barred: false };
            Ok((url, node.enrol_link(enrolment)?))
        })?;
        let line = credential_line(&url, &credential.session_id, &credential.secret);
        values::make(py, "GatewayEnrolment", (credential.key.to_string(), line, ticket))
    }

    /// Forgets a gateway's key: its registration ends at once. Returns a ticket.
    fn revoke(&self, py: Python<'_>, key_id: &str) -> PyResult<u64> {
        self.handle.call(py, |node: &mut BackendNode, _| node.backend_mut().revoke(key_id.parse()?))
    }

    /// Takes a gateway off and bars it until allow(). Returns a ticket.
    fn deregister(&self, py: Python<'_>, key_id: &str) -> PyResult<u64> {
        self.handle
            .call(py, |node: &mut BackendNode, now| node.backend_mut().deregister(now, key_id.parse()?))
    }

    /// Takes off a gateway that proved no key, by the id of its registration. It may register again.
    fn disconnect(&self, py: Python<'_>, gateway_id: u64) -> PyResult<()> {
        self.handle.call(py, |node: &mut BackendNode, now| node.backend_mut().disconnect(now, gateway_id))
    }

    /// Lets a gateway that was taken off register again. Returns a ticket.
    fn allow(&self, py: Python<'_>, key_id: &str) -> PyResult<u64> {
        self.handle.call(py, |node: &mut BackendNode, _| node.backend_mut().allow(key_id.parse()?))
    }

    /// The gateways that are registered now.
    fn gateways<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let found: Vec<_> = self.handle.look(py, |node: &BackendNode| node.backend().gateways().collect())?;
        found.iter().map(|gateway| values::gateway(py, gateway)).collect()
    }

    /// The gateways that are enrolled.
    fn enrolments<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let found: Vec<_> = self.handle.look(py, |node: &BackendNode| {
            node.backend().enrolments().map(|(key, known)| (*key, known.clone())).collect()
        })?;
        found.iter().map(|(key, known)| values::enrolment(py, *key, known)).collect()
    }

    /// What each group holds; first, under the empty name, what all share.
    fn groups<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let found: Vec<_> = self.handle.look(py, |node: &BackendNode| node.backend().groups().collect())?;
        found.iter().map(|group| values::group(py, group)).collect()
    }

    /// The results that a group's gateways are told, oldest first.
    fn results<'py>(&self, py: Python<'py>, group: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let found: Vec<_> =
            self.handle.look(py, |node: &BackendNode| node.backend().results(group).collect())?;
        found.into_iter().map(|(key, app)| values::result(py, key, app)).collect()
    }

    /// The rules that a group's gateways are told, in order: those of all groups, then its own. Without a group: those of all.
    #[pyo3(signature = (group = None))]
    fn rules<'py>(&self, py: Python<'py>, group: Option<&str>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let found: Vec<(AppId, Vec<u8>)> = self.handle.look(py, |node: &BackendNode| {
            let rules = node.backend().rules(group.unwrap_or_default());
            rules.map(|(app, pattern)| (app, pattern.to_vec())).collect()
        })?;
        found.iter().map(|(app, pattern)| values::rule(py, *app, pattern)).collect()
    }

    /// What was counted, by name.
    fn counters(&self, py: Python<'_>) -> PyResult<Counters> {
        self.handle.look(py, |node: &BackendNode| {
            values::counters("", node.backend().counters().list())
                .chain(values::counters("link_", node.link_counters()))
                .collect()
        })
    }

    /// Sets the parameters that a group's gateways recognise an application by, unjudged. Returns a ticket.
    fn set_parameters(&self, py: Python<'_>, group: &str, app_id: u32, words: Vec<u32>) -> PyResult<u64> {
        self.handle.call(py, |node: &mut BackendNode, _| node.set_parameters(group, AppId(app_id), words))
    }

    /// The parameters that hold for an application in a group; None when there are none.
    fn parameters<'py>(
        &self,
        py: Python<'py>,
        group: &str,
        app_id: u32,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let words = self.handle.look(py, |node: &BackendNode| {
            node.backend().parameters(group, AppId(app_id)).map(<[u32]>::to_vec)
        })?;
        words.map(|words| PyTuple::new(py, words)).transpose()
    }

    /// What a trainer of one's own may learn an application from: features of it and of others, weighed. What judges a model
    /// is not among them.
    fn samples<'py>(&self, py: Python<'py>, group: &str, app_id: u32) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let found = self.handle.call(py, |node: &mut BackendNode, _| node.samples(group, AppId(app_id)))?;
        let sample = |sample: hailpost::recognize::model::TrainingSample| {
            let features = PyTuple::new(py, sample.features)?;
            values::make(py, "Sample", (sample.app.0, sample.source.0, sample.weight, features))
        };
        found.into_iter().map(sample).collect()
    }

    /// Hands in a model that a trainer of one's own made, in words as docs/training.md lays them out. It is judged as one
    /// trained here: Trained says how that ended, and if it was accepted gateways are told.
    fn offer(&self, py: Python<'_>, group: &str, app_id: u32, words: Vec<u32>) -> PyResult<()> {
        self.handle.call(py, |node: &mut BackendNode, _| node.offer(group, AppId(app_id), &words))
    }

    /// The models in use in a group, where the backend trains.
    fn models<'py>(&self, py: Python<'py>, group: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let found: Vec<_> = self.handle.look(py, |node: &BackendNode| node.models(group).collect())?;
        found.iter().map(|model| values::model(py, model)).collect()
    }

    /// Goes back to the model before the one in use, and holds the application, so that training does not bring the same
    /// model back. Returns a ticket. NotFoundError when there is none before.
    fn roll_back(&self, py: Python<'_>, group: &str, app_id: u32) -> PyResult<u64> {
        self.handle.call(py, |node: &mut BackendNode, _| node.roll_back(group, AppId(app_id)))
    }

    /// Stops training an application in a group by itself, or with held=False resumes it. Returns a ticket. NotFoundError
    /// when there is no model of it.
    #[pyo3(signature = (group, app_id, held = true))]
    fn hold(&self, py: Python<'_>, group: &str, app_id: u32, held: bool) -> PyResult<u64> {
        self.handle.call(py, |node: &mut BackendNode, _| node.hold(group, AppId(app_id), held))
    }

    /// Reports that wait for the disk.
    #[getter]
    fn pending(&self, py: Python<'_>) -> PyResult<usize> {
        self.handle.look(py, |node: &BackendNode| node.backend().pending())
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

    /// Closes its connections and its store; what was asked of the store is written before.
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

    fn __repr__(&self) -> String {
        match self.handle.is_closed() {
            true => "<hailpost.Backend, closed>".into(),
            false => {
                let urls: Vec<String> = self.urls.iter().map(Url::to_string).collect();
                format!("<hailpost.Backend {}>", urls.join(" "))
            }
        }
    }
}

/// What others pin to know a server with this configuration.
pub fn own_pin(config: &Config) -> Option<KeyId> {
    let identity = match (config.secret("identity_pem"), config.non_empty("identity_file")) {
        (Some(pem), _) => {
            let pem = String::from_utf8_lossy(pem);
            Identity::from_pem(&pem, &pem)
        }
        (None, Some(path)) => Identity::load(path.as_ref(), path.as_ref()),
        (None, None) => return None,
    };
    identity.ok().map(|own| own.key_id())
}

/// Says once a process that a transport protects nothing (DESIGN 4).
pub fn warn_if_bare(py: Python<'_>, scheme: Scheme) -> PyResult<()> {
    if matches!(scheme, Scheme::Tcp | Scheme::Udp) {
        py.import("hailpost._log")?.call_method1("bare", (scheme.name(),))?;
    }
    Ok(())
}

fn octets(pattern: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    match pattern.cast::<PyBytes>() {
        Ok(octets) => Ok(octets.as_bytes().to_vec()),
        Err(_) => pattern
            .extract::<String>()
            .map(String::into_bytes)
            .map_err(|_| PyTypeError::new_err("a pattern is bytes or str")),
    }
}
