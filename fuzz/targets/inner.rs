//! See `bodies/inner.rs`.
#![no_main]

#[path = "../bodies/inner.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| body::run(octets));
