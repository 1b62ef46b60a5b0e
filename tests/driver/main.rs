//! The driver over real sockets on loopback.

mod datagrams;
mod gateways;
mod office;
mod probe;
mod services;
