//! What is simulated.

#[cfg(feature = "post")]
mod balancer;
mod gateways;
#[cfg(feature = "link")]
mod link;
#[cfg(feature = "post")]
mod offices;
