//! Recognition: which application a flow belongs to.

pub mod model;

pub use crate::wire::AppId;
