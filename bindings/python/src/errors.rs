//! Failures as exceptions. The classes are made from [`Status::ALL`] in `hailpost/_errors.py`.

use hailpost::status::{Fault, Retry, Status};
use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyType},
};

/// One row a status: variant, number, name in C, when to try again, text.
pub fn table() -> Vec<(String, i32, &'static str, &'static str, &'static str)> {
    let row = |status: &Status| {
        let retry = match status.retry() {
            Retry::Never => "never",
            Retry::Later => "later",
            Retry::AfterConfig => "after_config",
        };
        (format!("{status:?}"), status.number(), status.constant(), retry, status.text())
    };
    Status::ALL.iter().map(row).collect()
}

/// A failure as an instance of its class.
pub fn exception<'py>(py: Python<'py>, status: i32, detail: &str) -> PyResult<Bound<'py, PyAny>> {
    static CLASSES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let classes = CLASSES.get_or_try_init(py, || -> PyResult<Py<PyDict>> {
        Ok(py.import("hailpost._errors")?.getattr("BY_STATUS")?.cast_into::<PyDict>()?.unbind())
    })?;
    let class = classes.bind(py).as_any().get_item(status)?;
    class.cast::<PyType>()?.call1((detail,))
}

/// A failure, to be raised.
pub fn raised(py: Python<'_>, fault: &Fault) -> PyErr {
    match exception(py, fault.status.number(), &fault.detail) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// A failure of the library where Python wants an exception.
pub trait OrRaise<T> {
    /// The value, or the exception of the failure's class.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for Result<T, Fault> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|fault| raised(py, &fault))
    }
}
