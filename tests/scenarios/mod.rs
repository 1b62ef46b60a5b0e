//! What is simulated.

mod gateways;
#[cfg(feature = "link")]
mod link;
#[cfg(feature = "post")]
mod offices;
