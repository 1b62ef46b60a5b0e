#![doc = include_str!("contract.txt")]
//!
//! This is the only `extern "C"` and, with the system calls of `net`, the only `unsafe` of the library. The rule behind
//! every `unsafe` here: the caller keeps the contract above, so a pointer that is not NULL is one that we gave and that
//! was not freed yet, text ends in NUL, and a size is the size of what it goes with.
//!
//! An object is a box around a [`state::Shared`], which all objects of a loop hold together: whichever goes first, what
//! the others need stays until the last one is freed.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]
// What a smaller build leaves out, it has no use for; the full one says whether anybody has.
#![cfg_attr(not(all(feature = "backend", feature = "post")), allow(dead_code))]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod app;
mod backend;
mod codec;
mod config;
mod device;
mod event;
mod event_loop;
mod gateway;
mod guard;
mod handle;
mod identity;
mod log;
mod office;
mod recognizer;
mod record;
mod state;
mod status;
mod training;

/// Evaluates a body that needs a feature; in a build without it, `HAIL_ERR_UNSUPPORTED`.
macro_rules! supported {
    ($feature:tt, $body:expr) => {{
        #[cfg(feature = $feature)]
        {
            $body
        }
        #[cfg(not(feature = $feature))]
        {
            $crate::status::Status::Unsupported.number()
        }
    }};
}
use supported;

/// The same of a body that needs JSON too.
macro_rules! supported_as_json {
    ($feature:tt, $body:expr) => {{
        #[cfg(feature = "json")]
        {
            supported!($feature, $body)
        }
        #[cfg(not(feature = "json"))]
        {
            $crate::status::Status::Unsupported.number()
        }
    }};
}
use supported_as_json;
