//! See `bodies/peer.rs`.
#![no_main]

#[path = "../bodies/peer.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| body::run(octets));
