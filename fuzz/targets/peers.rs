//! See `bodies/peers.rs`.
#![no_main]

#[path = "../bodies/peers.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| body::run(octets));
