//! Asking a balancer for a broker, both ends: one datagram each way under `Noise_NK`, a cookie between them where the
//! balancer is under load. The balancer keeps nothing of who asked (`docs/balancer.md`).

mod answerer;
mod asker;

pub use answerer::{Answerer, AnswererConfig, AnswererCounters};
pub use asker::{Asker, AskerCounters, AskerEvent, AskerOutput};

#[cfg(test)]
mod tests;
