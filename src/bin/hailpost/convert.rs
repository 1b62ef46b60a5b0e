//! `decode` and `encode`.

use std::io::Read;

use clap::{Args, ValueEnum};
use hailpost::{codec, status::Status, wire::gateway::Family};

use crate::output::{Failure, Output};

/// What octets are.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// A message of the gateway protocol.
    Gateway,
}

impl Kind {
    fn codec(self, ipv6: bool) -> codec::Kind {
        match self {
            Kind::Gateway => codec::Kind::Gateway(if ipv6 { Family::V6 } else { Family::V4 }),
        }
    }
}

/// Octets to JSON: one message of hexadecimal digits to one object a line (docs/json.md).
///
/// A malformed message gives the octet and what is wrong there, and exit code 2.
#[derive(Args)]
#[command(after_help = "Example:\n  hailpost decode gateway c00002010a0000011e141e140000000000010000")]
pub struct Decode {
    /// What the octets are
    kind: Kind,
    /// Hexadecimal digits; - or nothing reads them from standard input
    hex: Option<String>,
    /// Addresses have sixteen octets
    #[arg(long)]
    ipv6: bool,
}

impl Decode {
    pub fn run(self) -> Result<(), Failure> {
        let hex = match self.hex.as_deref() {
            None | Some("-") => read_input()?,
            Some(hex) => hex.to_owned(),
        };
        let octets = codec::from_hex(&hex)?;
        let mut out = Output::new();
        out.json(&codec::decode(self.kind.codec(self.ipv6), &octets)?)?;
        out.flush()
    }
}

/// JSON to octets, the way back: the object that `decode` prints on standard input, hexadecimal digits on standard output.
#[derive(Args)]
#[command(after_help = "Example:\n  hailpost decode gateway HEX | hailpost encode gateway")]
pub struct Encode {
    /// What the octets are to be
    kind: Kind,
    /// Addresses have sixteen octets
    #[arg(long)]
    ipv6: bool,
}

impl Encode {
    pub fn run(self) -> Result<(), Failure> {
        let text = read_input()?;
        let value = serde_json::from_str(&text)
            .map_err(|error| Failure::new(Status::Invalid, format!("the input is not JSON: {error}")))?;
        let octets = codec::encode(self.kind.codec(self.ipv6), &value)?;
        let mut out = Output::new();
        out.line(&codec::to_hex(&octets))?;
        out.flush()
    }
}

fn read_input() -> Result<String, Failure> {
    let mut text = String::new();
    let limit = 1 << 20;
    std::io::stdin()
        .take(limit)
        .read_to_string(&mut text)
        .map_err(|error| Failure::io("reading standard input", &error))?;
    Ok(text)
}
