//! Messages as dictionaries and back.

use hailpost::{
    codec::{self, Kind},
    status::{Fault, Status},
};
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict},
};

use crate::errors::{OrRaise, raised};

/// The kinds there are.
pub fn names() -> Vec<&'static str> {
    Kind::ALL.iter().map(|(name, _)| *name).collect()
}

/// One message as a dictionary. MalformedError says at which octet and why.
#[pyfunction]
pub fn decode<'py>(py: Python<'py>, kind: &str, octets: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let value = Kind::named(kind).and_then(|kind| codec::decode(kind, octets)).or_raise(py)?;
    Ok(py.import("json")?.call_method1("loads", (value.to_string(),))?.cast_into()?)
}

/// The octets of such a dictionary. InvalidError says which member is wrong, and what is wanted there.
#[pyfunction]
pub fn encode<'py>(py: Python<'py>, kind: &str, message: &Bound<'_, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let kind = Kind::named(kind).or_raise(py)?;
    let text: String = py.import("json")?.call_method1("dumps", (message,))?.extract()?;
    let value = serde_json::from_str(&text)
        .map_err(|error| raised(py, &Fault::new(Status::Invalid, format!("the message as JSON: {error}"))))?;
    Ok(PyBytes::new(py, &codec::encode(kind, &value).or_raise(py)?))
}
