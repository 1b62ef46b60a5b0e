//! Hailpost keeps a device reachable.
pub mod config;
mod counters;
pub mod gateway;
pub mod io;
pub mod net;
pub mod node;
pub mod rng;
pub mod status;
pub mod store;
pub mod time;
pub mod wire;
