//! Hailpost keeps a device reachable.
pub mod time;
pub mod wire;
