//! A seeded world for nodes: a virtual clock, a virtual network, hosts that crash and restart.
//!
//! A test adds hosts, each with a function that boots its [`Node`](hailpost::node::Node), says where they listen and
//! connect, then lets time run and does things to nodes ([`World::with`]), to hosts ([`World::crash`],
//! [`World::boot`]) and to the network ([`World::partition`], [`World::conditions`]). Everything follows from the seed.
//!
//! A [`Scenario`] is a world with a plan of steps. [`check`] runs it over many seeds; when one fails it drops steps
//! until each that is left is needed, and prints them with the trace and one line that reproduces the failure.
#![allow(dead_code, reason = "each test binary uses its part of the toolbox")]

mod disk;
mod net;
mod seeds;
mod trace;
mod world;

pub use disk::{Flaky, Slow};
pub use net::Conditions;
pub use seeds::{Scenario, caught, check};
pub use trace::Trace;
pub use world::{Boot, Crash, CrashPoint, HostId, World};
