//! Options by keyword.

use hailpost::{
    config::{Config, OPTIONS, OptionKind, Role},
    status::{Fault, Status},
};
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyBool, PyBytes, PyDict, PyInt, PyList, PyString, PyTuple},
};

use crate::{
    errors::{OrRaise, raised},
    identity::Identity,
    values,
};

/// One row an option: name, who understand it, type, default, help.
pub fn table() -> Vec<(&'static str, Vec<&'static str>, &'static str, &'static str, &'static str)> {
    let row = |option: &hailpost::config::OptionInfo| {
        let kind = match option.kind {
            OptionKind::Millis | OptionKind::Number(..) => "int",
            OptionKind::Switch => "bool",
            OptionKind::Text => "str",
            OptionKind::Path => "path",
            OptionKind::Urls | OptionKind::Networks => "list",
            OptionKind::Secret => "bytes",
        };
        let roles = option.roles.iter().map(|role| role.name()).collect();
        (option.name, roles, kind, option.default, option.help)
    };
    OPTIONS.iter().map(row).collect()
}

/// Options of one object, from what a caller gave.
pub struct Options {
    /// What the library takes.
    pub config: Config,
    role: Role,
}

impl Options {
    pub fn new(role: Role, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Options> {
        let mut options = Options { config: Config::new(), role };
        for (name, value) in keywords.into_iter().flatten() {
            options.set(&name.extract::<String>()?, &value)?;
        }
        Ok(options)
    }

    /// Sets one option; `None` leaves its default.
    pub fn set(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = value.py();
        if let Some(option) = OPTIONS.iter().find(|option| option.name == name)
            && !option.is_for(self.role)
        {
            let of = option.roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(" or ");
            let not = self.role.name();
            let detail = format!("{name} is an option of a {of}, not of a {not}");
            return Err(raised(py, &Fault::new(Status::Config, detail)));
        }
        if value.is_none() {
            return Ok(());
        }
        if let Ok(octets) = value.cast::<PyBytes>() {
            return self.config.set_bytes(name, octets.as_bytes()).or_raise(py);
        }
        let text = text(value)
            .map_err(|_| PyTypeError::new_err(format!("{name}: {} is no option's type", type_name(value))))?;
        self.config.set(name, &text).or_raise(py)
    }

    /// Sets who we are: an `Identity`, or the path of a file with one. Answers with the key's name.
    pub fn identity(&mut self, identity: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let Some(identity) = identity else { return Ok(()) };
        match identity.cast::<Identity>() {
            Ok(known) => {
                let pem = known.get().inner().to_pem();
                self.config.set_bytes("identity_pem", pem.as_bytes()).or_raise(identity.py())
            }
            Err(_) => self.config.set("identity_file", &values::path(identity)?).or_raise(identity.py()),
        }
    }
}

fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "it".into(), |name| name.to_string())
}

fn text(value: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(switch) = value.cast::<PyBool>() {
        return Ok(switch.is_true().to_string());
    }
    if value.is_instance_of::<PyInt>() {
        return Ok(value.str()?.to_string());
    }
    if value.is_instance_of::<PyString>() {
        return value.extract();
    }
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        let parts = value.try_iter()?.map(|part| part?.extract::<String>()).collect::<PyResult<Vec<_>>>()?;
        return Ok(parts.join(","));
    }
    values::path(value)
}
