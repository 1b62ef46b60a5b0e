//! Octets to values and back, without state: what is on the wire and in capture files.
#![forbid(unsafe_code)]

pub mod capture;
pub mod packet;
