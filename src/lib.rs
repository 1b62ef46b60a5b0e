//! Hailpost keeps a device reachable.
#[cfg(feature = "json")]
pub mod codec;
pub mod config;
mod counters;
#[cfg(any(feature = "tls", feature = "recognize"))]
mod crypto;
#[cfg(feature = "ffi")]
mod ffi;
#[cfg(feature = "gateway")]
pub mod gateway;
pub mod io;
#[cfg(feature = "link")]
pub mod link;
pub mod net;
pub mod node;
#[cfg(feature = "device")]
pub mod post;
#[cfg(feature = "recognize")]
pub mod recognize;
#[cfg(feature = "gateway")]
mod replica;
pub mod rng;
pub mod status;
pub mod store;
pub mod time;
pub mod wire;
