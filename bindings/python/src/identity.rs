//! A private key with its certificate.

use std::path::Path;

use hailpost::net::tls;
use pyo3::prelude::*;

use crate::{errors::OrRaise, values};

/// A private key with its certificate: who a gateway or a backend is. Others know it by its key_id.
#[pyclass(frozen, module = "hailpost")]
pub struct Identity {
    identity: tls::Identity,
}

impl Identity {
    pub fn inner(&self) -> &tls::Identity {
        &self.identity
    }
}

#[pymethods]
impl Identity {
    /// A new key (ECDSA P-256) with a self-signed certificate that does not expire.
    #[staticmethod]
    fn generate(py: Python<'_>, name: &str) -> PyResult<Identity> {
        let identity = py.detach(|| tls::Identity::generate(name)).or_raise(py)?;
        Ok(Identity { identity })
    }

    /// Reads a PEM file, which nobody but its owner may be able to read.
    #[staticmethod]
    fn load(py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<Identity> {
        let path = values::path(path)?;
        let identity = py.detach(|| tls::Identity::load(Path::new(&path), Path::new(&path))).or_raise(py)?;
        Ok(Identity { identity })
    }

    /// Reads PEM text.
    #[staticmethod]
    fn from_pem(py: Python<'_>, pem: &str) -> PyResult<Identity> {
        Ok(Identity { identity: tls::Identity::from_pem(pem, pem).or_raise(py)? })
    }

    /// Writes a new file (mode 0600). One that is there is never overwritten.
    fn save(&self, py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<()> {
        let path = values::path(path)?;
        py.detach(|| self.identity.write_private(Path::new(&path))).or_raise(py)
    }

    /// Key and certificate as PEM text: a secret.
    fn to_pem(&self) -> String {
        self.identity.to_pem()
    }

    /// The certificate as PEM text: public.
    fn certificate_pem(&self) -> String {
        self.identity.certificate_pem()
    }

    /// What others enrol or pin: SHA-256 over the public key, in hexadecimal digits.
    #[getter]
    fn key_id(&self) -> String {
        self.identity.key_id().to_string()
    }

    fn __repr__(&self) -> String {
        format!("<hailpost.Identity {}>", self.identity.key_id())
    }
}
