//! A back end: admits gateways, keeps what they report, and tells each what its group knows.

use std::ffi::{CString, c_char, c_void};

use super::{
    config::hail_config,
    event_loop::hail_loop,
    handle::{self, Handle, Object, output, reference},
    status::hail_status,
    supported,
};
#[cfg(feature = "backend")]
use super::{
    event_loop,
    handle::{array, invalid, optional_text, slice, text},
};
use crate::status::Status;
#[cfg(feature = "backend")]
use crate::{
    gateway::{Backend, Enrolment},
    io::KeyId,
    net::open_backend,
    node::BackendNode,
    status::Fault,
    time::Time,
    wire::AppId,
};

/// The word of this gateway alone is enough, where others must agree.
pub const HAIL_ENROL_TRUSTED: u32 = 1;

/// A back end's end of the gateway protocol, with its store and its training.
pub struct hail_backend {
    handle: Handle,
    /// Where it listens.
    addresses: Vec<(CString, u16)>,
}

impl Object for hail_backend {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Makes a back end on a loop: opens its store and listens. `user` comes back with each of its events.
///
/// HAIL_ERR_CONFIG: an option cannot be used. HAIL_ERR_LISTEN: an address is taken. HAIL_ERR_STORE, _CORRUPT, _VERSION,
/// _LOCKED: the store's file.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_new(
    r#loop: *mut hail_loop,
    config: *const hail_config,
    user: *mut c_void,
    backend: *mut *mut hail_backend,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe {
            event_loop::make(r#loop, config, user, backend, "backend", |net, config| {
                let (id, addresses) = open_backend(net, config)?;
                let text =
                    |ip: std::net::IpAddr| CString::new(ip.to_string()).expect("an address has no NUL");
                let addresses =
                    addresses.into_iter().map(|address| (text(address.ip()), address.port())).collect();
                Ok((id, move |handle| hail_backend { handle, addresses }))
            })
        }
    )
}

/// Frees a back end: its sockets are closed, its events are gone, and what was not yet told to be durable may be lost.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_backend_free(backend: *mut hail_backend) {
    // SAFETY: the contract.
    unsafe { handle::free(backend) }
}

/// Where it listens: address and port, in the order of the option `listen`, from 0. The text lives as long as the
/// back end.
///
/// HAIL_ERR_NOT_FOUND: it listens on fewer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_backend_address(
    backend: *const hail_backend,
    index: usize,
    address: *mut *const c_char,
    port: *mut u16,
) -> hail_status {
    // SAFETY: the contract.
    let found = unsafe { reference(backend) }.and_then(|backend| {
        // SAFETY: the contract.
        let outputs = unsafe { (output(address, "address")?, output(port, "port")?) };
        Ok((backend.addresses.get(index).ok_or(Status::NotFound)?, outputs))
    });
    match found {
        Ok(((text, number), (address, port))) => {
            address.write(text.as_ptr());
            port.write(*number);
            Status::Ok.number()
        }
        Err(fault) => fault.status.number(),
    }
}

/// Enrols a gateway by its key (32 octets, as hail_identity_generate() gives them), or changes its enrolment. `name` is
/// for people, at most 255 octets; `group` is whom it shares with, at most 64; `flags` is 0 or HAIL_ENROL_TRUSTED.
/// `ticket`, unless NULL, gets a number: the HAIL_EVENT_DURABLE with this ticket or a later one says that it is kept.
///
/// HAIL_ERR_INVALID: name, group or flags.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_enrol(
    backend: *mut hail_backend,
    key_id: *const u8,
    name: *const c_char,
    group: *const c_char,
    flags: u32,
    ticket: *mut u64,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe {
            ask(backend, ticket, |backend, _| {
                let key = KeyId(array(key_id, "key_id")?);
                if flags & !HAIL_ENROL_TRUSTED != 0 {
                    return Err(invalid("flags is 0 or HAIL_ENROL_TRUSTED"));
                }
                let enrolment = Enrolment {
                    name: text(name, "name")?.to_owned(),
                    group: text(group, "group")?.to_owned(),
                    trusted: flags & HAIL_ENROL_TRUSTED != 0,
                    barred: false,
                };
                backend.enrol(key, enrolment)
            })
        }
    )
}

/// Takes a gateway's enrolment back: its registration ends at once. `ticket` as hail_backend_enrol().
///
/// HAIL_ERR_NOT_FOUND: no gateway is enrolled with this key.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_revoke(
    backend: *mut hail_backend,
    key_id: *const u8,
    ticket: *mut u64,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe { ask(backend, ticket, |backend, _| backend.revoke(KeyId(array(key_id, "key_id")?))) }
    )
}

/// Takes a gateway off and bars it until hail_backend_allow(). `ticket` as hail_backend_enrol().
///
/// HAIL_ERR_NOT_FOUND: no gateway is enrolled with this key.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_deregister(
    backend: *mut hail_backend,
    key_id: *const u8,
    ticket: *mut u64,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe {
            ask(backend, ticket, |backend, now| backend.deregister(now, KeyId(array(key_id, "key_id")?)))
        }
    )
}

/// Lets a gateway that was taken off register again. `ticket` as hail_backend_enrol().
///
/// HAIL_ERR_NOT_FOUND: no gateway is enrolled with this key.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_allow(
    backend: *mut hail_backend,
    key_id: *const u8,
    ticket: *mut u64,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe { ask(backend, ticket, |backend, _| backend.allow(KeyId(array(key_id, "key_id")?))) }
    )
}

/// Takes off a gateway that proved no key, by the HAIL_FIELD_GATEWAY of its events. It may register again.
///
/// HAIL_ERR_NOT_FOUND: it is not registered now.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_disconnect(backend: *mut hail_backend, gateway: u64) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(backend, |node: &mut BackendNode, now| {
                node.backend_mut().disconnect(now, gateway)
            })
        }
    )
}

/// Adds a rule: a regex over octets by which gateways recognise an application; for one group, or for all when `group`
/// is NULL. `ticket` as hail_backend_enrol().
///
/// HAIL_ERR_PATTERN: it is empty, over 1023 octets, or holds a NUL (write \x00). Whether it can be compiled each gateway
/// finds for itself: HAIL_EVENT_RULE_REJECTED.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_set_rule(
    backend: *mut hail_backend,
    group: *const c_char,
    app: u32,
    pattern: *const u8,
    size: usize,
    ticket: *mut u64,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe {
            ask(backend, ticket, |backend, _| {
                let group = optional_text(group, "group")?;
                backend.set_rule(group, AppId(app), slice(pattern, size, "pattern")?)
            })
        }
    )
}

/// Removes a rule of a group, or of all when `group` is NULL; a NULL `pattern` removes every rule of the application.
/// `ticket` as hail_backend_enrol().
///
/// HAIL_ERR_NOT_FOUND: there is no such rule.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_remove_rule(
    backend: *mut hail_backend,
    group: *const c_char,
    app: u32,
    pattern: *const u8,
    size: usize,
    ticket: *mut u64,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe {
            ask(backend, ticket, |backend, _| {
                let group = optional_text(group, "group")?;
                let pattern = match pattern.is_null() && size == 0 {
                    true => None,
                    false => Some(slice(pattern, size, "pattern")?),
                };
                backend.remove_rule(group, AppId(app), pattern)
            })
        }
    )
}

/// Sets the parameters, 1 to 256 words, of a trained rule by which a group's gateways recognise an application. `ticket`
/// as hail_backend_enrol().
///
/// HAIL_ERR_WORDS: there are none, or too many.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_set_parameters(
    backend: *mut hail_backend,
    group: *const c_char,
    app: u32,
    words: *const u32,
    count: usize,
    ticket: *mut u64,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe {
            ask_node(backend, ticket, |node, _| {
                let group = text(group, "group")?;
                let words = slice(words, count, "words")?;
                // Before they are copied: the count may be anything.
                if words.len() > crate::wire::gateway::MAX_WORDS {
                    return Err(Fault::new(Status::Words, "at most 256 words can travel"));
                }
                node.set_parameters(group, AppId(app), words.to_vec())
            })
        }
    )
}

/// The gateways that are registered now, as the HAIL_FIELD_GATEWAY of their events: up to `capacity` of them in
/// `gateways`, and how many there are in `count`, which may be more. A `capacity` of 0 only counts.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_gateways(
    backend: *const hail_backend,
    gateways: *mut u64,
    capacity: usize,
    count: *mut usize,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(backend, |node: &mut BackendNode, _| {
                let count = output(count, "count")?;
                if capacity > 0 && gateways.is_null() {
                    return Err(invalid("gateways is NULL"));
                }
                let mut all = 0;
                for gateway in node.backend().gateways() {
                    if all < capacity {
                        gateways.add(all).write_unaligned(gateway.id);
                    }
                    all += 1;
                }
                count.write(all);
                Ok(())
            })
        }
    )
}

/// A counter by name, such as "registrations": docs/counters.md has them all.
///
/// HAIL_ERR_NOT_FOUND: there is none by that name.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_counter(
    backend: *const hail_backend,
    name: *const c_char,
    value: *mut u64,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(backend, |node: &mut BackendNode, _| {
                let out = output(value, "value")?;
                out.write(handle::counter(node.backend().counters().list(), text(name, "name")?)?);
                Ok(())
            })
        }
    )
}

/// Asks for something that becomes durable.
///
/// # Safety
/// `backend` is NULL or a live back end, `ticket` is NULL or room for a number.
#[cfg(feature = "backend")]
unsafe fn ask(
    backend: *const hail_backend,
    ticket: *mut u64,
    body: impl FnOnce(&mut Backend, Time) -> Result<u64, Fault>,
) -> hail_status {
    // SAFETY: the caller's promise.
    unsafe { ask_node(backend, ticket, |node, now| body(node.backend_mut(), now)) }
}

/// The same of the node, for what its trainers must know of.
///
/// # Safety
/// As of [`ask`].
#[cfg(feature = "backend")]
unsafe fn ask_node(
    backend: *const hail_backend,
    ticket: *mut u64,
    body: impl FnOnce(&mut BackendNode, Time) -> Result<u64, Fault>,
) -> hail_status {
    let work = |node: &mut BackendNode, now| {
        let number = body(node, now)?;
        // SAFETY: the caller's promise.
        if let Ok(out) = unsafe { output(ticket, "ticket") } {
            out.write(number);
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { handle::on_node(backend, work) }
}
