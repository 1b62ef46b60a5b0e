//! Octets to JSON and back, for people, scripts and tests: `hailpost decode` and `encode`, `hail_decode`, Python.
//!
//! The two ways are exact: what [`encode`] makes of a [`decode`]d message are the same octets. The forms are in
//! `docs/json.md`.

mod event;
mod gateway;
#[cfg(any(feature = "gateway", feature = "backend"))]
pub mod list;

pub use event::event;

use serde_json::Value;

use crate::{
    status::{Fault, Status},
    wire::gateway::Family,
};

/// What octets are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A message of the gateway protocol, with addresses of this width.
    Gateway(Family),
}

impl Kind {
    /// Every kind, by the name that faces use.
    pub const ALL: [(&'static str, Kind); 2] =
        [("gateway", Kind::Gateway(Family::V4)), ("gateway6", Kind::Gateway(Family::V6))];

    /// By name.
    pub fn named(name: &str) -> Result<Kind, Fault> {
        Kind::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind).ok_or_else(|| {
            let names: Vec<&str> = Kind::ALL.iter().map(|(known, _)| *known).collect();
            Fault::new(
                Status::NotFound,
                format!("no codec is called {name:?}; there is {}", names.join(", ")),
            )
        })
    }
}

/// One message as a JSON object. A malformed one gives [`Status::Malformed`] with the octet and what is wrong there.
pub fn decode(kind: Kind, octets: &[u8]) -> Result<Value, Fault> {
    match kind {
        Kind::Gateway(family) => gateway::decode(family, octets),
    }
}

/// The octets of a JSON object. A wrong one gives [`Status::Invalid`] with the member and what is wanted there.
pub fn encode(kind: Kind, value: &Value) -> Result<Vec<u8>, Fault> {
    match kind {
        Kind::Gateway(family) => gateway::encode(family, value),
    }
}

/// Hexadecimal digits, white space between them, to octets.
pub fn from_hex(text: &str) -> Result<Vec<u8>, Fault> {
    let mut octets = Vec::with_capacity(text.len() / 2);
    let mut half = None;
    for (at, digit) in text.char_indices().filter(|(_, digit)| !digit.is_ascii_whitespace()) {
        let value = digit.to_digit(16).ok_or_else(|| {
            Fault::new(Status::Invalid, format!("character {}: {digit:?} is no hexadecimal digit", at + 1))
        })? as u8;
        match half.take() {
            None => half = Some(value),
            Some(high) => octets.push(high << 4 | value),
        }
    }
    match half {
        None => Ok(octets),
        Some(_) => Err(Fault::new(Status::Invalid, "an odd number of hexadecimal digits")),
    }
}

/// Octets to hexadecimal digits.
pub fn to_hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
