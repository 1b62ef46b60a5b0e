//! `hailpost decode` and `hailpost encode`

use std::io::{self, Read};

use hailpost::codec::{self, Kind};
use serde_json::Value;

use crate::{
    failure::{Done, Failure},
    terminal::Out,
};

/// The most that is read of standard input: far more than any message, in hexadecimal or JSON.
const MAX_INPUT: u64 = 1 << 20;

/// What the octets are.
#[derive(Clone, Copy, clap::ValueEnum)]
enum KindName {
    /// A message of the gateway protocol
    Gateway,
}

/// Octets of a message to JSON.
///
/// Takes hexadecimal digits, with white space where you like, and prints one JSON object. What is malformed gives exit
/// code 2 and a line that says at which octet and why.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  hailpost decode gateway 0002ef02000000010a0000011e1438270a000002
  xxd -p message.bin | hailpost decode gateway --ipv6

The JSON form of every message is in docs/json.md: `message` names the kind (register, heartbeat, result_sync, rule_sync,
result, features, parameters, deregister; an answer has _answer behind it), `source`, `source_port`, `destination`,
`destination_port` and `tag` are the header, the rest is the body.")]
pub struct DecodeArgs {
    /// What the octets are
    #[arg(value_enum)]
    kind: KindName,
    /// The octets in hexadecimal; - for standard input
    #[arg(default_value = "-", value_name = "HEX")]
    octets: Vec<String>,
    /// Addresses are 16 octets wide, not 4
    #[arg(long)]
    ipv6: bool,
}

/// JSON to the octets of a message.
///
/// Takes the JSON that `decode` prints on standard input, and prints hexadecimal digits: the same octets. What is wrong in
/// it gives exit code 2 and a line that names the member and what is wanted there.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  hailpost decode gateway \"$hex\" | hailpost encode gateway

The JSON form of every message is in docs/json.md.")]
pub struct EncodeArgs {
    /// What the octets are to be
    #[arg(value_enum)]
    kind: KindName,
    /// Addresses are 16 octets wide, not 4
    #[arg(long)]
    ipv6: bool,
}

pub fn decode(args: &DecodeArgs, out: &mut Out) -> Done {
    let text = match &args.octets[..] {
        [dash] if dash == "-" => standard_input()?,
        pieces => pieces.concat(),
    };
    let octets = codec::from_hex(&text)?;
    let value = codec::decode(kind(args.kind, args.ipv6), &octets)?;
    if out.is_json() {
        out.json(&value)?;
    } else {
        let pretty = serde_json::to_string_pretty(&value).map_err(io::Error::from)?;
        out.line(pretty)?;
    }
    Ok(())
}

pub fn encode(args: &EncodeArgs, out: &mut Out) -> Done {
    let text = standard_input()?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("standard input is no JSON: {error}")))?;
    let octets = codec::encode(kind(args.kind, args.ipv6), &value)?;
    Ok(out.line(codec::to_hex(&octets))?)
}

fn kind(name: KindName, ipv6: bool) -> Kind {
    use hailpost::wire::gateway::Family;
    match name {
        KindName::Gateway => Kind::Gateway(if ipv6 { Family::V6 } else { Family::V4 }),
    }
}

fn standard_input() -> Result<String, Failure> {
    let mut octets = Vec::new();
    io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > MAX_INPUT {
        return Err(Failure::usage(format!("standard input holds more than {MAX_INPUT} octets")));
    }
    String::from_utf8(octets).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::usage(format!("standard input is not text: octet {at}. Pass binary through `xxd -p`"))
    })
}
