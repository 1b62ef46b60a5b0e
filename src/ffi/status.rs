//! The library's version, and its statuses.

use std::ffi::{CString, c_char};
use std::sync::LazyLock;

use crate::status::{Retry, Status};

/// What became of a call: HAIL_OK, or one of HAIL_ERR_..., all of which are negative. -1 to -19 the caller, -20 to -39
/// I/O and TLS, -40 to -59 queues and storage, -60 to -79 the protocol, -80 to -89 channels, from -90 fatal.
pub type hail_status = i32;

/// The same call fails again, always.
pub const HAIL_RETRY_NEVER: i32 = 0;
/// The same call may succeed later; what retries by itself does so.
pub const HAIL_RETRY_LATER: i32 = 1;
/// Only after the configuration, the enrolment or a file was changed.
pub const HAIL_RETRY_AFTER_CONFIG: i32 = 2;

/// The library's version, such as "0.1.0". Static.
#[unsafe(no_mangle)]
pub extern "C" fn hail_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// One line for people about a status: what it means and what to do. Static. For a number that is no status, "unknown
/// status".
#[unsafe(no_mangle)]
pub extern "C" fn hail_status_text(status: hail_status) -> *const c_char {
    static TEXTS: LazyLock<Vec<(i32, CString)>> = LazyLock::new(|| {
        let text = |status: &Status| CString::new(status.text()).expect("the table holds no NUL");
        Status::ALL.iter().map(|status| (status.number(), text(status))).collect()
    });
    let known = TEXTS.iter().find(|(number, _)| *number == status);
    known.map_or(c"unknown status".as_ptr(), |(_, text)| text.as_ptr())
}

/// Whether trying again can help: a HAIL_RETRY_..., or HAIL_ERR_INVALID for a number that is no status.
#[unsafe(no_mangle)]
pub extern "C" fn hail_status_retry(status: hail_status) -> i32 {
    let known = Status::ALL.iter().find(|known| known.number() == status);
    match known.map(|known| known.retry()) {
        Some(Retry::Never) => HAIL_RETRY_NEVER,
        Some(Retry::Later) => HAIL_RETRY_LATER,
        Some(Retry::AfterConfig) => HAIL_RETRY_AFTER_CONFIG,
        None => Status::Invalid.number(),
    }
}
