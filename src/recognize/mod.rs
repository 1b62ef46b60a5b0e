//! Recognition: which application a flow belongs to.
pub mod model;

/// The number of an application, as the gateway protocol carries it (`CN103259713A [0069]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(pub u32);
