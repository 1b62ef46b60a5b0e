//! What is simulated.

mod gateways;
