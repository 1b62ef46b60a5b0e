//! Any octets as a message: what decodes must encode to the same octets, also by way of JSON.
#![no_main]

use hailpost::{
    codec,
    wire::gateway::{Encoder, Family, decode, message_len},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    for family in [Family::V4, Family::V6] {
        let _ = message_len(family, octets);
        let Ok(message) = decode(family, octets) else { continue };
        let encoder =
            Encoder { family, source: message.header.source, destination: message.header.destination };
        assert_eq!(encoder.message(message.header.tag, &message.body), octets);
        let kind = codec::Kind::Gateway(family);
        let json = codec::decode(kind, octets).expect("what decodes has a JSON form");
        assert_eq!(codec::encode(kind, &json).expect("a JSON form of ours encodes"), octets);
    }
    if let Ok(value) = serde_json::from_slice(octets) {
        let _ = codec::encode(codec::Kind::Gateway(Family::V4), &value);
    }
});
