//! The driver over real sockets on loopback.

mod balancer;
mod brokers;
mod datagrams;
mod gateways;
mod hail;
mod office;
mod probe;
mod rooms;
mod services;
mod slow_disk;
