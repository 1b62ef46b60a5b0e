//! The driver over real sockets on loopback.

mod balancer;
mod brokers;
mod datagrams;
mod gateways;
mod office;
mod probe;
mod services;
mod slow_disk;
