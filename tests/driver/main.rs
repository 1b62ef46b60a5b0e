//! The driver over real sockets on loopback.

mod gateways;
mod probe;
mod services;
