//! See `bodies/asks.rs`.
#![no_main]

#[path = "../bodies/asks.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| body::run(octets));
