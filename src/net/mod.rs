//! The driver and what it drives to reach a peer.
pub mod happy_eyeballs;
pub mod resolver;
#[cfg(feature = "tls")]
pub mod tls;
pub mod url;
