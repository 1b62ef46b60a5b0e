//! Keys: what a gateway proves itself by, and what it is enrolled by.

use std::ffi::c_char;

#[cfg(feature = "tls")]
use super::{
    codec::detailed,
    handle::{output, output_array, slice, text},
};
use super::{codec::hail_buffer, status::hail_status, supported};

/// Makes a private key and a self-signed certificate that never expires: PEM text for the option `identity_pem`, or to be
/// written to a file of mode 0600 for `identity_file`. `name` has 1 to 64 characters; a host name or address is also
/// what the certificate vouches for. `key_id` gets 32 octets: what a back end enrols, and what a gateway pins.
///
/// HAIL_ERR_INVALID: the name; `detail`, unless NULL, says why.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "tls"), allow(unused_variables))]
pub unsafe extern "C" fn hail_identity_generate(
    name: *const c_char,
    pem: *mut *mut hail_buffer,
    key_id: *mut u8,
    detail: *mut *mut hail_buffer,
) -> hail_status {
    supported!(
        "tls",
        // SAFETY: the contract.
        unsafe {
            detailed(detail, || {
                let (pem, key_id) = (output(pem, "pem")?, output_array(key_id, "key_id")?);
                let identity = crate::net::tls::Identity::generate(text(name, "name")?)?;
                key_id.write(identity.key_id().0);
                pem.write(hail_buffer::give(identity.to_pem().into_bytes()));
                Ok(())
            })
        }
    )
}

/// The 32 octets that name the key of a certificate: SHA-256 over its SubjectPublicKeyInfo. The first certificate of the
/// PEM text counts; a private key may stand beside it.
///
/// HAIL_ERR_CONFIG: there is no certificate that can be read; `detail`, unless NULL, says why.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "tls"), allow(unused_variables))]
pub unsafe extern "C" fn hail_identity_key_id(
    pem: *const u8,
    size: usize,
    key_id: *mut u8,
    detail: *mut *mut hail_buffer,
) -> hail_status {
    supported!(
        "tls",
        // SAFETY: the contract.
        unsafe {
            detailed(detail, || {
                let out = output_array(key_id, "key_id")?;
                let pem = std::str::from_utf8(slice(pem, size, "pem")?)
                    .map_err(|_| super::handle::invalid("pem is not UTF-8"))?;
                out.write(crate::net::tls::key_id_of_pem(pem)?.0);
                Ok(())
            })
        }
    )
}
