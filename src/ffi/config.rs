//! Options by name.

use std::{
    cell::RefCell,
    ffi::{CString, c_char},
};

use super::{
    codec::{self, hail_buffer},
    handle::{invalid, output, reference, slice, text},
    state::NOTHING,
    status::hail_status,
    supported,
};
use crate::{
    config::{Config, Role},
    status::{Fault, Status},
};

/// The options of a gateway and a recogniser.
pub const HAIL_ROLE_GATEWAY: i32 = 1;
/// The options of a back end.
pub const HAIL_ROLE_BACKEND: i32 = 2;
/// The options of a post office.
pub const HAIL_ROLE_OFFICE: i32 = 3;
/// The options of a device.
pub const HAIL_ROLE_DEVICE: i32 = 4;
/// The options of an application.
pub const HAIL_ROLE_APP: i32 = 5;

/// A set of options, each with a name and a default: docs/options.md has them all. It belongs to no loop, and may be
/// freed once an object was made of it.
pub struct hail_config {
    values: RefCell<Config>,
    detail: RefCell<CString>,
}

/// Makes a configuration in which every option has its default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_config_new(config: *mut *mut hail_config) -> hail_status {
    codec::answer(|| {
        // SAFETY: the contract.
        let out = unsafe { output(config, "config") }?;
        let new = hail_config { values: RefCell::default(), detail: RefCell::default() };
        out.write(Box::into_raw(Box::new(new)));
        Ok(())
    })
    .number()
}

/// Frees a configuration.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_config_free(config: *mut hail_config) {
    if !config.is_null() && config.is_aligned() {
        // SAFETY: it came from `hail_config_new`, and the contract says that it is not used afterwards.
        drop(unsafe { Box::from_raw(config) });
    }
}

/// Sets an option from text: numbers in decimal, switches as "true" and "false", lists with commas.
///
/// HAIL_ERR_CONFIG: there is no such option, or its value cannot be used; hail_config_detail() says why.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_config_set(
    config: *mut hail_config,
    name: *const c_char,
    value: *const c_char,
) -> hail_status {
    // SAFETY: the contract.
    unsafe {
        on_config(config, |config| config.values.borrow_mut().set(text(name, "name")?, text(value, "value")?))
    }
}

/// Sets an option from octets, for secrets, which are never shown again. Text options take UTF-8.
///
/// HAIL_ERR_CONFIG: as hail_config_set().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_config_set_bytes(
    config: *mut hail_config,
    name: *const c_char,
    value: *const u8,
    size: usize,
) -> hail_status {
    // SAFETY: the contract.
    unsafe {
        on_config(config, |config| {
            config.values.borrow_mut().set_bytes(text(name, "name")?, slice(value, size, "value")?)
        })
    }
}

/// Sets what the section of a TOML file says that a role (a HAIL_ROLE_...) has, such as [gateway]. Keys are the names of
/// options; paths are relative to the file. A secret does not stand in it, but the path of a file of mode 0600 that
/// holds it.
///
/// HAIL_ERR_IO: the file cannot be read. HAIL_ERR_CONFIG: a key or value cannot be used; the detail has the line. Then
/// none of them is set.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "recognize"), allow(unused_variables))]
pub unsafe extern "C" fn hail_config_load(
    config: *mut hail_config,
    role: i32,
    path: *const c_char,
) -> hail_status {
    supported!(
        "recognize",
        // SAFETY: the contract.
        unsafe {
            on_config(config, |config| {
                let (role, path) = (role_of(role)?, text(path, "path")?);
                config.values.borrow_mut().load(std::path::Path::new(path), role)?;
                Ok(())
            })
        }
    )
}

/// Every option that a role (HAIL_ROLE_...) understands with what holds, as TOML; secrets only as set or not set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_config_dump(
    config: *const hail_config,
    role: i32,
    toml: *mut *mut hail_buffer,
) -> hail_status {
    // SAFETY: the contract.
    unsafe {
        on_config(config, |config| {
            let out = output(toml, "toml")?;
            let toml = config.values.borrow().dump(role_of(role)?);
            out.write(hail_buffer::give(toml.into_bytes()));
            Ok(())
        })
    }
}

/// What failed last on this configuration. Empty when nothing did yet; valid until the next failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_config_detail(config: *const hail_config) -> *const c_char {
    // SAFETY: the contract.
    unsafe { reference(config) }.map_or(NOTHING.as_ptr(), |config| config.detail.borrow().as_ptr())
}

fn role_of(number: i32) -> Result<Role, Fault> {
    match number {
        HAIL_ROLE_GATEWAY => Ok(Role::Gateway),
        HAIL_ROLE_BACKEND => Ok(Role::Backend),
        HAIL_ROLE_OFFICE => Ok(Role::Office),
        HAIL_ROLE_DEVICE => Ok(Role::Device),
        HAIL_ROLE_APP => Ok(Role::App),
        _ => Err(invalid("role is a HAIL_ROLE_ number")),
    }
}

/// What is set, copied.
///
/// # Safety
/// `config` is NULL or a live configuration.
#[cfg(any(feature = "gateway", feature = "device"))]
pub(super) unsafe fn copied(config: *const hail_config) -> Result<Config, Fault> {
    // SAFETY: the caller's promise.
    let config = unsafe { reference(config) }.map_err(|_| invalid("config is NULL"))?;
    Ok(config.values.borrow().clone())
}

/// # Safety
/// `config` is NULL or a live configuration.
unsafe fn on_config(
    config: *const hail_config,
    body: impl FnOnce(&hail_config) -> Result<(), Fault>,
) -> hail_status {
    // SAFETY: the caller's promise.
    let config = match unsafe { reference(config) } {
        Ok(config) => config,
        Err(fault) => return fault.status.number(),
    };
    let mut detail = String::new();
    let status = codec::answer(|| body(config).inspect_err(|fault| detail.clone_from(&fault.detail)));
    if status != Status::Ok {
        let text = CString::new(detail.replace('\0', " ")).expect("every NUL was replaced");
        config.detail.replace(text);
    }
    status.number()
}
