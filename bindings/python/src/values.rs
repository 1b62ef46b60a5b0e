//! Named tuples of `hailpost/_types.py`, made here.

use std::net::{IpAddr, SocketAddr};

use hailpost::{
    gateway::{Enrolment, GatewayInfo, GroupInfo, ResultKey},
    io::KeyId,
    node::ModelInfo,
    status::{Fault, Status},
    time::Time,
    wire::AppId,
};
use pyo3::{intern, prelude::*, sync::PyOnceLock, types::PyBytes};

/// An instance of one of the named tuples.
pub fn make<'py, A>(py: Python<'py>, class: &str, fields: A) -> PyResult<Bound<'py, PyAny>>
where
    A: pyo3::call::PyCallArgs<'py>,
{
    static TYPES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = TYPES.get_or_try_init(py, || py.import("hailpost._types").map(Bound::unbind))?;
    module.bind(py).getattr(class)?.call1(fields)
}

/// `Address(host, port)`.
pub fn address(py: Python<'_>, address: SocketAddr) -> PyResult<Bound<'_, PyAny>> {
    make(py, "Address", (address.ip().to_canonical().to_string(), address.port()))
}

/// `Record(app, local, remote, protocol)` of a result, whose local end stays with the gateway that saw it.
pub fn result(py: Python<'_>, key: ResultKey, app: AppId) -> PyResult<Bound<'_, PyAny>> {
    let local = make(py, "Address", ("::", 0))?;
    make(py, "Record", (app.0, local, address(py, key.remote)?, key.protocol))
}

/// `Rule(app, pattern)`.
pub fn rule<'py>(py: Python<'py>, app: AppId, pattern: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    make(py, "Rule", (app.0, PyBytes::new(py, pattern)))
}

/// `GatewayInfo(id, name, group, key)`.
pub fn gateway<'py>(py: Python<'py>, gateway: &GatewayInfo) -> PyResult<Bound<'py, PyAny>> {
    let key = gateway.key.map(|key| key.to_string());
    make(py, "GatewayInfo", (gateway.id, &gateway.name, &gateway.group, key))
}

/// `GroupInfo(name, gateways, results, rules, models)`.
pub fn group<'py>(py: Python<'py>, group: &GroupInfo) -> PyResult<Bound<'py, PyAny>> {
    make(py, "GroupInfo", (&group.name, group.gateways, group.results, group.rules, group.models))
}

/// `Enrolment(key, name, group, trusted, barred)`.
pub fn enrolment<'py>(py: Python<'py>, key: KeyId, known: &Enrolment) -> PyResult<Bound<'py, PyAny>> {
    make(py, "Enrolment", (key.to_string(), &known.name, &known.group, known.trusted, known.barred))
}

/// `Model(app, origin, revision, held)`.
pub fn model<'py>(py: Python<'py>, model: &ModelInfo) -> PyResult<Bound<'py, PyAny>> {
    make(py, "Model", (model.app.0, model.origin(), model.revision, model.is_held))
}

/// Counters by name.
pub type Counters = std::collections::BTreeMap<String, u64>;

/// What a list of counters holds, under a prefix.
pub fn counters(
    prefix: &str,
    list: impl Iterator<Item = (&'static str, &'static str, u64)>,
) -> impl Iterator<Item = (String, u64)> {
    list.map(move |(name, _, value)| (format!("{prefix}{name}"), value))
}

/// An `(address, port)` pair of a caller's.
pub fn socket_address(name: &str, (host, port): (String, u16)) -> Result<SocketAddr, Fault> {
    let wrong = || Fault::new(Status::Invalid, format!("{name}: {host:?} is not an IP address"));
    Ok(SocketAddr::new(host.parse::<IpAddr>().map_err(|_| wrong())?, port))
}

/// A time of a caller's, in seconds of any epoch.
pub fn seconds(time: f64) -> Time {
    Time::from_micros((time * 1e6) as u64)
}

/// A path of a caller's: text or an `os.PathLike`.
pub fn path(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let py = value.py();
    py.import(intern!(py, "os"))?.call_method1(intern!(py, "fspath"), (value,))?.extract()
}
