//! A post office.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use hailpost::{
    config::Role,
    net::{
        OfficeAddresses, Part, enrolment_line, office_url, open_office,
        url::{Host, LinkKey, Scheme, Url},
    },
    node::{BalancerNode, BrokerNode, OfficeNode},
    post::{
        SessionId,
        hub::{Rights, Vouched},
    },
    status::{Fault, Status},
};
use pyo3::{
    prelude::*,
    types::{PyDict, PyTuple, PyType},
};

use crate::{
    backend::own_pin,
    device::strings,
    errors::{OrRaise, raised},
    events::hex,
    handle::{EventIterator, Handle, introduce, shared_of},
    options::Options,
    runtime,
    values::{self, Counters},
};

/// A post office: keeps messages for people and devices that are not there, and hands them over when they log in.
///
/// `listen_devices` is where devices log in (hail://, and tls:// where datagrams do not get through), `listen_apps` where
/// applications connect (tls://, and tcp:// on loopback), one URL or several each; port 0 takes a free one. `identity`
/// is an Identity or the path of a file with one; tls:// needs it. `store` is the file that keeps everything; without it all
/// is in memory. With `roles="hub"` it is for brokers apart, which `listen_inner` and `brokers` are for; with `roles="broker"` it is one
/// of these, of the office that `hub` names, and has no accounts.
#[pyclass(frozen, module = "hailpost", weakref)]
pub struct Office {
    handle: Handle,
    addresses: OfficeAddresses,
    urls: Vec<Url>,
    /// Unless it is a broker.
    key: Option<[u8; 32]>,
}

#[pymethods]
impl Office {
    #[new]
    #[pyo3(signature = (listen_devices = None, listen_apps = None, *, identity = None, r#loop = None, **options))]
    fn new(
        py: Python<'_>,
        listen_devices: Option<&Bound<'_, PyAny>>,
        listen_apps: Option<&Bound<'_, PyAny>>,
        identity: Option<&Bound<'_, PyAny>>,
        r#loop: Option<&Bound<'_, runtime::Loop>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Office>> {
        let mut options = Options::new(Role::Office, options)?;
        for (name, listen) in [("listen_devices", listen_devices), ("listen_apps", listen_apps)] {
            if let Some(listen) = listen {
                options.set(name, listen)?;
            }
        }
        options.identity(identity)?;
        let config = options.config;
        let listens = match config.text("roles") == "balancer" && !config.is_set("listen_devices") {
            true => "hail+ask://127.0.0.1:7700",
            false => config.text("listen_devices"),
        };
        let listens =
            listens.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::parse::<Url>);
        let listens = listens.collect::<Result<Vec<_>, _>>().or_raise(py)?;
        let (handle, (addresses, key)) = Handle::open(py, shared_of(r#loop), |net| {
            let (id, addresses) = open_office(net, &config)?;
            let key = net.get(id).map(OfficeNode::server_key);
            Ok((id, (addresses, key.or_else(|| net.get(id).map(BalancerNode::server_key)))))
        })?;
        let pin = own_pin(&config);
        let url = |(listen, address): (&Url, &SocketAddr)| {
            let (host, port) = (Host::Address(address.ip()), address.port());
            match listen.scheme {
                // The key of a broker's office is its hub's to tell.
                Scheme::Hail => match key {
                    Some(key) => office_url(host, port, key),
                    None => Url { host, port, ..listen.clone() },
                },
                Scheme::Ask => Url { host, port, key: key.map(LinkKey), ..listen.clone() },
                _ => Url { host, port, pins: pin.into_iter().collect(), ..listen.clone() },
            }
        };
        let urls = listens.iter().zip(&addresses.devices).map(url).collect();
        let office = Bound::new(py, Office { handle, addresses, urls, key })?;
        introduce(&office.get().handle, office.as_any())?;
        Ok(office.unbind())
    }

    /// The addresses that it listens on: those for `devices`, for `apps` and for brokers (`inner`), each in the order of its option.
    #[getter]
    fn addresses<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let tuple = |addresses: &[SocketAddr]| {
            let addresses = addresses.iter().map(|address| values::address(py, *address));
            PyTuple::new(py, addresses.collect::<PyResult<Vec<_>>>()?)
        };
        let OfficeAddresses { devices, apps, inner, .. } = &self.addresses;
        values::make(py, "OfficeAddresses", (tuple(devices)?, tuple(apps)?, tuple(inner)?))
    }

    /// What a device connects to, in the order of `listen_devices`: with its port and the office's key, or the pin of its
    /// certificate.
    #[getter]
    fn urls<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.urls.iter().map(Url::to_string))
    }

    /// Adds a user. Returns a ticket: Durable(ticket) says that it is on the disk, Failed(ticket, error) that it cannot be.
    fn add_user(&self, py: Python<'_>, name: &str) -> PyResult<u64> {
        self.handle.call(py, |node: &mut OfficeNode, _| node.add_user(name))
    }

    /// Adds a device of a user. Returns its enrolment, whose `line` is what the device is given, over a way that nobody else
    /// reads; it is good once Durable names its `ticket`.
    ///
    /// `host` is the name or address by which devices reach this machine, or the hail:// URL of a broker; without it that is the
    /// address that the office listens on. `expires`, in Unix seconds, is when the credential ends; 0 for never. `device` names the device
    /// itself, in 16 octets; without it they are drawn.
    #[pyo3(signature = (user, *, host = None, expires = 0, device = None))]
    fn add_device<'py>(
        &self,
        py: Python<'py>,
        user: &str,
        host: Option<&str>,
        expires: u64,
        device: Option<[u8; 16]>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let url = self.reached(host).or_raise(py)?;
        let enrolled = self.handle.call(py, |node: &mut OfficeNode, _| {
            let device = device.map_or_else(drawn, Ok)?;
            node.add_device(user, device, expires)
        })?;
        let session = hex(&enrolled.session.0);
        values::make(py, "DeviceEnrolment", (session, enrolment_line(&url, &enrolled), enrolled.ticket))
    }

    /// A credential holds no more, by the `session` of its enrolment: who uses it is sent away. Returns a ticket as add_user().
    fn revoke_device(&self, py: Python<'_>, session: &str) -> PyResult<u64> {
        let session = unhex(session).ok_or_else(|| {
            raised(
                py,
                &Fault::new(Status::Invalid, "a session is 32 hexadecimal digits, as its enrolment has"),
            )
        })?;
        self.handle.call(py, |node: &mut OfficeNode, _| Ok(node.revoke_device(SessionId(session))))
    }

    /// Answers Authenticate, by its ticket: the credential holds, it is of this user, whom the office need not know yet. And
    /// of this device, which 16 octets name that no other of the user has. `secret` is the credential's, in 32 octets;
    /// until `expires`, in Unix seconds, at most seven days, a session that was lost is resumed without another question.
    #[pyo3(signature = (ticket, user, *, device, secret, expires = 0))]
    fn admit(
        &self,
        py: Python<'_>,
        ticket: u64,
        user: &str,
        device: [u8; 16],
        secret: [u8; 32],
        expires: u64,
    ) -> PyResult<()> {
        let vouched = Vouched { user: user.to_owned(), device, secret, expires };
        self.handle.call(py, |node: &mut OfficeNode, _| node.admit(ticket, vouched))
    }

    /// Answers Authenticate, by its ticket: the credential does not hold.
    fn refuse(&self, py: Python<'_>, ticket: u64) -> PyResult<()> {
        self.handle.call(py, |node: &mut OfficeNode, _| {
            node.turn_away(ticket);
            Ok(())
        })
    }

    /// Adds an application with rights: any of "send", "broadcast" and "query". Returns its enrolment, whose `secret` is
    /// what it says after AUTH; it is good once Durable names its `ticket`.
    fn add_app<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        rights: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut granted = Rights::default();
        for right in strings(rights)? {
            match right.as_str() {
                "send" => granted.send = true,
                "broadcast" => granted.broadcast = true,
                "query" => granted.query = true,
                _ => {
                    let detail = "a right is \"send\", \"broadcast\" or \"query\"";
                    return Err(raised(py, &Fault::new(Status::Invalid, detail)));
                }
            }
        }
        let (secret, ticket) =
            self.handle.call(py, |node: &mut OfficeNode, _| node.add_app(name, granted))?;
        values::make(py, "AppEnrolment", (name, secret, ticket))
    }

    /// Copies the store into a new file while the office serves: all that is acknowledged when it begins. Returns a ticket:
    /// Durable(ticket) says that the file is whole and on the disk, Failed(ticket, error) why there is none. Until then its
    /// name has `.part` after it. A file that is there is not written over.
    fn backup(&self, py: Python<'_>, path: PathBuf) -> PyResult<u64> {
        self.handle.call(py, |node: &mut OfficeNode, _| node.backup(&path))
    }

    /// Tells devices to log in elsewhere, or later, and refuses new ones; with draining=False it is as before.
    #[pyo3(signature = (draining = true))]
    fn drain(&self, py: Python<'_>, draining: bool) -> PyResult<()> {
        if self.is_broker() {
            return self.handle.call(py, |node: &mut BrokerNode, _| {
                node.drain(draining);
                Ok(())
            });
        }
        self.handle.call(py, |node: &mut OfficeNode, _| {
            node.drain(draining);
            Ok(())
        })
    }

    /// Sessions of devices that there are.
    #[getter]
    fn sessions(&self, py: Python<'_>) -> PyResult<usize> {
        if self.is_broker() {
            return self.handle.look(py, |node: &BrokerNode| node.server().len());
        }
        self.handle.look(py, |node: &OfficeNode| node.server().len())
    }

    /// What was counted, by name; what the hub, the applications' connections, the brokers', other rooms' and the link counted has
    /// `hub_`, `apps_`, `brokers_`, `rooms_` or `link_` before it, of a broker what it counted of its hub `broker_`, and of a balancer what it counted of
    /// those who ask `asks_`.
    fn counters(&self, py: Python<'_>) -> PyResult<Counters> {
        if self.is_broker() {
            return self.handle.look(py, |node: &BrokerNode| {
                values::counters("", node.counters().list())
                    .chain(values::counters("broker_", node.broker_counters().list()))
                    .chain(values::counters("link_", node.server().counters().list()))
                    .collect()
            });
        }
        if self.addresses.part == Part::Balancer {
            return self.handle.look(py, |node: &BalancerNode| {
                values::counters("", node.counters().list())
                    .chain(values::counters("asks_", node.balancer().asks().list()))
                    .chain(values::counters("brokers_", node.balancer().counters().list()))
                    .collect()
            });
        }
        self.handle.look(py, |node: &OfficeNode| {
            values::counters("", node.counters().list())
                .chain(values::counters("hub_", node.hub().counters().list()))
                .chain(values::counters("apps_", node.apps().counters().list()))
                .chain(values::counters("brokers_", node.brokers().counters().list()))
                .chain(values::counters("rooms_", node.rooms().counters().list()))
                .chain(values::counters("link_", node.server().counters().list()))
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
        let urls = self.urls.iter().map(Url::to_string).collect::<Vec<_>>().join(" ");
        match self.handle.is_closed() {
            true => "<hailpost.Office, closed>".into(),
            false => format!("<hailpost.Office {urls}>"),
        }
    }
}

impl Office {
    fn is_broker(&self) -> bool {
        self.addresses.part == Part::Broker
    }

    /// Where devices find the office.
    fn reached(&self, host: Option<&str>) -> Result<Url, Fault> {
        if let Some(text) = host.filter(|host| host.starts_with("hail+ask://")) {
            let url: Url = text.parse()?;
            url.check_peer()?;
            return Ok(url);
        }
        if let (Some(text), Some(key)) = (host.filter(|host| host.starts_with("hail://")), self.key) {
            let url: Url = text.parse()?;
            if url.key.is_some_and(|known| known.0 != key) {
                return Err(Fault::new(Status::Invalid, "host: the URL has the key of another office"));
            }
            let Url { host, port, .. } = url;
            return Ok(office_url(host, port, key));
        }
        let own = self.urls.iter().find(|url| url.scheme == Scheme::Hail).ok_or_else(|| {
            Fault::new(Status::State, "devices are enrolled with a hail:// URL: the office listens on none")
        })?;
        let host = match host {
            None => own.host.clone(),
            Some(host) => match host.parse::<IpAddr>() {
                Ok(address) => Host::Address(address),
                Err(_) => match format!("hail://{host}:1").parse::<Url>() {
                    Ok(url) => url.host,
                    Err(fault) => return Err(Fault::new(Status::Invalid, format!("host: {}", fault.detail))),
                },
            },
        };
        let url = Url { host, ..own.clone() };
        url.check_peer().map_err(|_| {
            let detail = "host: the office listens on every address of this machine: say which one devices reach, or its name";
            Fault::new(Status::Invalid, detail)
        })?;
        Ok(url)
    }
}

fn drawn() -> Result<[u8; 16], Fault> {
    let mut octets = [0; 16];
    match getrandom::fill(&mut octets) {
        Ok(()) => Ok(octets),
        Err(error) => Err(Fault::new(Status::Io, format!("reading random octets: {error}"))),
    }
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    let is_hex = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)).flatten()
}
