//! Buffers, and messages as JSON.

use std::{ffi::c_char, ptr};

#[cfg(any(feature = "json", feature = "tls"))]
use super::handle::output;
#[cfg(feature = "json")]
use super::handle::{invalid, slice, text};
use super::{guard::caught, handle::reference, status::hail_status, supported};
use crate::status::{Fault, Status};

/// Octets that the library gave. They are wiped when they are freed, since they may be a key.
pub struct hail_buffer {
    /// One more than the size: a NUL, so that text can be used as it is.
    octets: Vec<u8>,
}

/// The octets of a buffer, with a NUL behind them that the size does not count; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_buffer_data(buffer: *const hail_buffer) -> *const u8 {
    // SAFETY: the contract.
    unsafe { reference(buffer) }.map_or(ptr::null(), |buffer| buffer.octets.as_ptr())
}

/// How many octets a buffer has; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_buffer_size(buffer: *const hail_buffer) -> usize {
    // SAFETY: the contract.
    unsafe { reference(buffer) }.map_or(0, |buffer| buffer.octets.len() - 1)
}

/// Frees a buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_buffer_free(buffer: *mut hail_buffer) {
    if !buffer.is_null() && buffer.is_aligned() {
        // SAFETY: it came from `hail_buffer::give`, and the contract says that it is not used afterwards.
        drop(unsafe { Box::from_raw(buffer) });
    }
}

/// A message as JSON. `kind` is "gateway" (IPv4 headers) or "gateway6" (IPv6); the forms are in docs/json.md.
///
/// HAIL_ERR_MALFORMED: it cannot be read; `detail`, unless NULL, gets a buffer with the octet and the reason.
/// HAIL_ERR_NOT_FOUND: there is no such kind. No other output is written on failure.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "json"), allow(unused_variables))]
pub unsafe extern "C" fn hail_decode(
    kind: *const c_char,
    octets: *const u8,
    size: usize,
    json: *mut *mut hail_buffer,
    detail: *mut *mut hail_buffer,
) -> hail_status {
    supported!(
        "json",
        // SAFETY: the contract.
        unsafe {
            detailed(detail, || {
                let out = output(json, "json")?;
                let kind = crate::codec::Kind::named(text(kind, "kind")?)?;
                let value = crate::codec::decode(kind, slice(octets, size, "octets")?)?;
                out.write(hail_buffer::give(value.to_string().into_bytes()));
                Ok(())
            })
        }
    )
}

/// The octets of a message that is JSON: the way back, to the same octets.
///
/// HAIL_ERR_INVALID: it is no such JSON; `detail`, unless NULL, gets a buffer with the member and what is wanted there.
/// HAIL_ERR_NOT_FOUND: there is no such kind. No other output is written on failure.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "json"), allow(unused_variables))]
pub unsafe extern "C" fn hail_encode(
    kind: *const c_char,
    json: *const c_char,
    octets: *mut *mut hail_buffer,
    detail: *mut *mut hail_buffer,
) -> hail_status {
    supported!(
        "json",
        // SAFETY: the contract.
        unsafe {
            detailed(detail, || {
                let out = output(octets, "octets")?;
                let kind = crate::codec::Kind::named(text(kind, "kind")?)?;
                let value = serde_json::from_str(text(json, "json")?)
                    .map_err(|error| invalid(&format!("not JSON: {error}")))?;
                out.write(hail_buffer::give(crate::codec::encode(kind, &value)?));
                Ok(())
            })
        }
    )
}

impl hail_buffer {
    /// Octets for C to free.
    pub(super) fn give(mut octets: Vec<u8>) -> *mut hail_buffer {
        octets.push(0);
        Box::into_raw(Box::new(hail_buffer { octets }))
    }
}

impl Drop for hail_buffer {
    fn drop(&mut self) {
        self.octets.fill(0);
        // So that the compiler cannot tell that nobody looks at them again.
        std::hint::black_box(&self.octets);
    }
}

/// A list of rows, for C to free.
#[cfg(all(feature = "json", any(feature = "gateway", feature = "backend")))]
pub(super) fn as_json(rows: impl Iterator<Item = serde_json::Value>) -> *mut hail_buffer {
    hail_buffer::give(serde_json::Value::Array(rows.collect()).to_string().into_bytes())
}

/// Runs what is on no loop.
pub(super) fn answer(body: impl FnOnce() -> Result<(), Fault>) -> Status {
    match caught(body) {
        Ok(result) => result.err().map_or(Status::Ok, |fault| fault.status),
        Err(_) => Status::Panic,
    }
}

/// As [`answer`], with the text of a failure for who wants it.
///
/// # Safety
/// `detail` is NULL or room for a pointer.
#[cfg(any(feature = "json", feature = "tls"))]
pub(super) unsafe fn detailed(
    detail: *mut *mut hail_buffer,
    body: impl FnOnce() -> Result<(), Fault>,
) -> hail_status {
    let mut text = String::new();
    let status = answer(|| body().inspect_err(|fault| text.clone_from(&fault.detail)));
    // SAFETY: the caller's promise.
    let detail = unsafe { output(detail, "detail") };
    if status != Status::Ok
        && let Ok(detail) = detail
    {
        detail.write(hail_buffer::give(text.into_bytes()));
    }
    status.number()
}
