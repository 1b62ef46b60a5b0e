//! Hailpost keeps a device reachable.
#[cfg(feature = "recognize")]
pub mod recognize;
pub mod time;
pub mod wire;
