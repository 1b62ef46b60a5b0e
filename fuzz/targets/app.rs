//! See `bodies/app.rs`.
#![no_main]

#[path = "../bodies/app.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| body::run(octets));
