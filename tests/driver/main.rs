//! The driver over real sockets on loopback.

mod gateways;
mod office;
mod probe;
mod services;
