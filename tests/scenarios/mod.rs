//! What is simulated.

#[cfg(feature = "link")]
mod battery;
mod gateways;
#[cfg(feature = "link")]
mod link;
#[cfg(feature = "post")]
mod offices;
