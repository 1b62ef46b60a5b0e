//! The Python face: `hailpost._hailpost`.
use pyo3::prelude::*;

#[pymodule]
fn _hailpost(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
