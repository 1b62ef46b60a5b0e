//! The Python face: `hailpost._hailpost`, from which the package in `python/hailpost` is made.
//!
//! A loop and all that lives on it is behind one mutex. It is held only with the interpreter released, and never while
//! Python is called: so a thread that waits stops nobody, and no order of locks can go wrong.

mod app;
mod backend;
mod codec;
mod device;
mod errors;
mod events;
mod gateway;
mod handle;
mod identity;
mod office;
mod options;
mod recognizer;
mod runtime;
mod shared;
mod values;
mod wait;

use pyo3::prelude::*;

#[pymodule]
mod _hailpost {
    #[pymodule_export]
    use crate::{
        app::App,
        backend::Backend,
        codec::{decode, encode},
        device::Device,
        gateway::Gateway,
        handle::EventIterator,
        identity::Identity,
        office::Office,
        recognizer::Recognizer,
        runtime::Loop,
    };
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("STATUSES", crate::errors::table())?;
        module.add("EVENTS", crate::events::table())?;
        module.add("OPTIONS", crate::options::table())?;
        module.add("CODECS", crate::codec::names())?;
        module.add("FEATURE_SET", hailpost::recognize::FEATURE_SET)?;
        module.add("FEATURE_COUNT", hailpost::recognize::FEATURE_COUNT)
    }
}
