//! A back end: admits gateways, keeps what they report, and tells each what its group knows.

use std::ffi::{CString, c_char, c_void};

use super::{
    codec::hail_buffer,
    config::hail_config,
    event_loop::hail_loop,
    handle::{self, Handle, Object, output, reference},
    status::hail_status,
    supported, supported_as_json,
};
#[cfg(feature = "backend")]
use super::{
    event_loop,
    handle::{Out, array, invalid, optional_text, output_array, slice, text},
};
use crate::status::Status;
#[cfg(feature = "backend")]
use crate::{
    gateway::{Backend, Enrolment},
    io::KeyId,
    net::{
        credential_line, credential_url, open_backend,
        url::{Scheme, Url},
    },
    node::BackendNode,
    status::Fault,
    time::Time,
    wire::AppId,
};

#[cfg(all(feature = "backend", feature = "json"))]
use super::codec::as_json;
#[cfg(all(feature = "backend", feature = "json"))]
use crate::codec::list;

/// The word of this gateway alone is enough, where others must agree.
pub const HAIL_ENROL_TRUSTED: u32 = 1;

/// A back end's end of the gateway protocol, with its store and its training.
pub struct hail_backend {
    handle: Handle,
    /// Where it listens.
    addresses: Vec<(CString, u16)>,
    /// Where gateways on `hail://` find it that are told nothing else.
    #[cfg(feature = "backend")]
    url: Option<Url>,
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
                let mut listens = config.list("listen").map(str::parse::<Url>).zip(&addresses);
                let url = listens.find_map(|(listen, address)| {
                    let of_link = listen.ok().filter(|listen| listen.scheme == Scheme::Hail)?;
                    Some(Url { port: address.port(), ..of_link })
                });
                let text =
                    |ip: std::net::IpAddr| CString::new(ip.to_string()).expect("an address has no NUL");
                let addresses =
                    addresses.into_iter().map(|address| (text(address.ip()), address.port())).collect();
                Ok((id, move |handle| hail_backend { handle, addresses, url }))
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
                backend.enrol(key, enrolment(name, group, flags)?)
            })
        }
    )
}

/// Enrols a gateway for hail://, by a credential that is drawn for it. `name`, `group` and `flags` as hail_backend_enrol(). `url` is
/// where the gateway finds the back end, such as "hail://backend.example:7704", to which the key is added; NULL is for the first
/// hail:// address that it listens on. `key_id` gets the 32 octets that stand for the credential, for hail_backend_revoke() and the
/// others. `line` gets the text that the gateway is to be given, for its option `credential` or its `credential_file`: it is a
/// secret, and counts once HAIL_EVENT_DURABLE told the ticket. `ticket` as hail_backend_enrol().
///
/// HAIL_ERR_INVALID: name, group or flags. HAIL_ERR_CONFIG: `url` cannot be used, or is NULL and the back end listens on no
/// hail:// address that a gateway could find.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_enrol_link(
    backend: *mut hail_backend,
    name: *const c_char,
    group: *const c_char,
    flags: u32,
    url: *const c_char,
    key_id: *mut u8,
    line: *mut *mut hail_buffer,
    ticket: *mut u64,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract. What is needed is copied out, since a callback may free the object.
        unsafe {
            let own = reference(backend).ok().and_then(|backend| backend.url.clone());
            ask_node(backend, ticket, |node, _| {
                let (key, line) = (output_array(key_id, "key_id")?, output(line, "line")?);
                let known = node.link_key().ok_or(Status::State)?;
                let url = credential_url(optional_text(url, "url")?, own.as_ref(), known)?;
                let (credential, ticket) = node.enrol_link(enrolment(name, group, flags)?)?;
                key.write(credential.key.0);
                let text = credential_line(&url, &credential.session_id, &credential.secret);
                line.write(hail_buffer::give(text.into_bytes()));
                Ok(ticket)
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

/// What the back end holds, as a JSON list (docs/json.md). `what` is "gateways" (registered now), "enrolments" or "groups",
/// for which `group` is NULL; or "results", "rules" or "models" of a group, where for "rules" NULL means those of all.
///
/// HAIL_ERR_NOT_FOUND: there is no such list.
#[unsafe(no_mangle)]
#[cfg_attr(not(all(feature = "backend", feature = "json")), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_list(
    backend: *const hail_backend,
    what: *const c_char,
    group: *const c_char,
    json: *mut *mut hail_buffer,
) -> hail_status {
    supported_as_json!(
        "backend",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(backend, |node: &mut BackendNode, _| {
                let out = output(json, "json")?;
                let what = text(what, "what")?;
                let held = node.backend();
                let wanted = optional_text(group, "group")?;
                let of = || wanted.ok_or_else(|| invalid("group is NULL"));
                let none = || match wanted {
                    Some(_) => Err(invalid("group is NULL for this list")),
                    None => Ok(()),
                };
                out.write(match what {
                    "gateways" => {
                        none().map(|()| as_json(held.gateways().map(|known| list::gateway(&known))))?
                    }
                    "enrolments" => none().map(|()| {
                        as_json(held.enrolments().map(|(key, known)| list::enrolment(key, known)))
                    })?,
                    "groups" => none().map(|()| as_json(held.groups().map(|known| list::group(&known))))?,
                    "results" => as_json(held.results(of()?).map(|(key, app)| list::result(key, app))),
                    "rules" => {
                        let rules = held.rules(wanted.unwrap_or_default());
                        as_json(rules.map(|(app, pattern)| list::rule(app, pattern)))
                    }
                    "models" => as_json(node.models(of()?).map(|known| list::model(&known))),
                    _ => return Err(Fault::new(Status::NotFound, format!("there is no list {what:?}"))),
                });
                Ok(())
            })
        }
    )
}

/// Reports that wait for the disk, in `count`.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_pending(
    backend: *const hail_backend,
    count: *mut usize,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(backend, |node: &mut BackendNode, _| {
                output(count, "count")?.write(node.backend().pending());
                Ok(())
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
                fill(gateways, capacity, "gateways", node.backend().gateways().map(|known| known.id), count)
            })
        }
    )
}

/// A counter by name, such as "registrations", or "link.sessions" for those of the link: docs/counters.md has them all.
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
                let name = text(name, "name")?;
                out.write(match name.strip_prefix("link.") {
                    Some(name) => handle::counter(node.link_counters(), name)?,
                    None => handle::counter(node.backend().counters().list(), name)?,
                });
                Ok(())
            })
        }
    )
}

/// What C says of a gateway that is to be enrolled.
///
/// # Safety
/// Both are NULL or texts.
#[cfg(feature = "backend")]
unsafe fn enrolment(name: *const c_char, group: *const c_char, flags: u32) -> Result<Enrolment, Fault> {
    if flags & !HAIL_ENROL_TRUSTED != 0 {
        return Err(invalid("flags is 0 or HAIL_ENROL_TRUSTED"));
    }
    // SAFETY: the caller's promise.
    let (name, group) = unsafe { (text(name, "name")?.to_owned(), text(group, "group")?.to_owned()) };
    Ok(Enrolment { name, group, trusted: flags & HAIL_ENROL_TRUSTED != 0, barred: false })
}

/// Writes as many values as there is room for, and how many there are.
///
/// # Safety
/// `room` is NULL or has room for `capacity` values.
#[cfg(feature = "backend")]
pub(super) unsafe fn fill<T>(
    room: *mut T,
    capacity: usize,
    name: &str,
    values: impl Iterator<Item = T>,
    count: Out<usize>,
) -> Result<(), Fault> {
    if capacity > 0 && room.is_null() {
        return Err(invalid(&format!("{name} is NULL")));
    }
    let mut all = 0;
    for value in values {
        if all < capacity {
            // SAFETY: the caller's promise.
            unsafe { room.add(all).write_unaligned(value) };
        }
        all += 1;
    }
    count.write(all);
    Ok(())
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
pub(super) unsafe fn ask_node(
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
