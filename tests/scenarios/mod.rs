//! What is simulated.

mod gateways;
#[cfg(feature = "link")]
mod link;
#[cfg(all(feature = "link", feature = "post"))]
mod offices;
