//! A device of a post office: puts messages that are kept until the office has them, gets messages that come until they are
//! confirmed.

use std::ffi::{c_char, c_void};

use super::{
    config::hail_config,
    event_loop::hail_loop,
    handle::{self, Handle, Object},
    status::hail_status,
    supported,
};
#[cfg(feature = "device")]
use super::{
    event_loop,
    handle::{invalid, optional_text, output, slice, text, write_if_wanted},
    state::Shared,
};
#[cfg(feature = "device")]
use crate::{
    net::{NodeId, open_device},
    node::DeviceNode,
    status::{Fault, Status},
    time::Time,
    wire::app::{DEFAULT_TTL, MAX_BODY, MAX_RECEIVERS, To},
};

/// A device's end of a post office: its session, its outbox and its inbox.
pub struct hail_device {
    handle: Handle,
}

impl Object for hail_device {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Makes a device on a loop, by the options `credential` or `credential_file` and those of docs/options.md; with `store` its
/// outbox, and what it confirmed, outlast the process. It logs in from the next step on and stays there by itself:
/// HAIL_EVENT_LOGGED_IN, _REFUSED and _DOWN tell how that goes. `user` comes back with each of its events.
///
/// HAIL_ERR_CONFIG: an option cannot be used. HAIL_ERR_STORE, _CORRUPT, _VERSION, _LOCKED: the store's file.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "device"), allow(unused_variables))]
pub unsafe extern "C" fn hail_device_new(
    r#loop: *mut hail_loop,
    config: *const hail_config,
    user: *mut c_void,
    device: *mut *mut hail_device,
) -> hail_status {
    supported!(
        "device",
        // SAFETY: the contract.
        unsafe {
            event_loop::make(r#loop, config, user, device, "device", |net, config| {
                let id = open_device(net, config)?;
                Ok((id, move |handle| hail_device { handle }))
            })
        }
    )
}

/// Frees a device: its session ends without a word (hail_device_close() says one), its events are gone. What a later one is
/// to tell of is in its store.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_device_free(device: *mut hail_device) {
    // SAFETY: the contract.
    unsafe { handle::free(device) }
}

/// Puts a message into the outbox, logged in or not. `to` is "user:NAME" or "app:NAME", up to 1,000 of them with commas.
/// `keep` is 1 for it to wait at the office for who is not there, else 0; `ttl_s` is after how many seconds it is stale, up
/// to 30 days, and 0 for a week; `content_type` is up to 128 characters, and NULL for "text/plain"; the body has up to
/// 65536 octets. `number`, unless NULL, gets what its events have as HAIL_FIELD_NUMBER: HAIL_EVENT_STORED, that it is durable
/// here and will go out once whatever happens, and nothing claims that earlier; then one of HAIL_EVENT_ACCEPTED, _REJECTED
/// and _EXPIRED.
///
/// HAIL_ERR_INVALID: one of them cannot be. HAIL_ERR_FULL: `max_outbox` or `max_outbox_octets` wait already;
/// HAIL_EVENT_WRITABLE says when there is room.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "device"), allow(unused_variables))]
pub unsafe extern "C" fn hail_device_put(
    device: *mut hail_device,
    to: *const c_char,
    keep: i32,
    ttl_s: u32,
    content_type: *const c_char,
    body: *const u8,
    size: usize,
    number: *mut u64,
) -> hail_status {
    supported!(
        "device",
        // SAFETY: the contract.
        unsafe {
            on_device(device, |node, now| {
                let put = put(node, now, (to, keep, ttl_s), content_type, (body, size))?;
                write_if_wanted(number, put);
                Ok(())
            })
        }
    )
}

/// The same, and blocks until the message is durable here, or `limit_ms` milliseconds are over; a limit of -1 is none. A disk
/// that works takes one write. While one does not, the loop goes on turning, and its events wait to be pulled; a signal ends
/// nothing.
///
/// HAIL_ERR_TIMEOUT: the limit passed, or too many events wait. The message is in the outbox all the same and `number` is
/// written: do not put it again, HAIL_EVENT_STORED will tell.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "device"), allow(unused_variables))]
pub unsafe extern "C" fn hail_device_put_wait(
    device: *mut hail_device,
    to: *const c_char,
    keep: i32,
    ttl_s: u32,
    content_type: *const c_char,
    body: *const u8,
    size: usize,
    limit_ms: i32,
    number: *mut u64,
) -> hail_status {
    supported!("device", {
        let mut stored = None;
        // SAFETY: the contract.
        let status = unsafe {
            on_device(device, |node, now| {
                let limit = match limit_ms {
                    -1 => None,
                    _ => Some(u64::try_from(limit_ms).map_err(|_| invalid("limit_ms is -1, 0 or more"))?),
                };
                let put = put(node, now, (to, keep, ttl_s), content_type, (body, size))?;
                write_if_wanted(number, put);
                node.commit(now);
                let until = limit.map(|limit| now + std::time::Duration::from_millis(limit));
                stored = (!node.is_stored(put)).then_some((put, until));
                Ok(())
            })
        };
        // SAFETY: the contract. What is needed is copied out, since a callback may free the object.
        match (stored, unsafe { handle::reference(device) }) {
            (Some((number, until)), Ok(device)) => {
                let (shared, id) = (device.handle.shared.clone(), device.handle.id);
                wait_until_stored(&shared, id, number, until).err().unwrap_or(Status::Ok).number()
            }
            _ => status,
        }
    })
}

/// A message that HAIL_EVENT_MESSAGE showed is dealt with: HAIL_EVENT_CONFIRMED says, once that is durable, that it is never
/// shown again. Until then a crash shows it again.
///
/// HAIL_ERR_NOT_FOUND: no message by that HAIL_FIELD_SEQUENCE waits to be confirmed.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "device"), allow(unused_variables))]
pub unsafe extern "C" fn hail_device_confirm(device: *mut hail_device, sequence: u64) -> hail_status {
    supported!(
        "device",
        // SAFETY: the contract.
        unsafe { on_device(device, |node, _| node.confirm(sequence)) }
    )
}

/// Follows an application, by its name, or no more when `on` is 0. `request`, unless NULL, gets what the HAIL_EVENT_ANSWER has
/// as HAIL_FIELD_REQUEST.
///
/// HAIL_ERR_INVALID: that is no name, or `on` is neither 0 nor 1. HAIL_ERR_STATE: not logged in. HAIL_ERR_FULL: too much waits
/// to be said.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "device"), allow(unused_variables))]
pub unsafe extern "C" fn hail_device_subscribe(
    device: *mut hail_device,
    app: *const c_char,
    on: i32,
    request: *mut u64,
) -> hail_status {
    supported!(
        "device",
        // SAFETY: the contract.
        unsafe {
            on_device(device, |node, _| {
                let asked = node.subscribe(text(app, "app")?, handle::switch(on, "on")?)?;
                write_if_wanted(request, asked);
                Ok(())
            })
        }
    )
}

/// Has messages of this user kept while none of the user's devices is there, or not when `keep` is 0. `request` and failures
/// as hail_device_subscribe().
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "device"), allow(unused_variables))]
pub unsafe extern "C" fn hail_device_keep(
    device: *mut hail_device,
    keep: i32,
    request: *mut u64,
) -> hail_status {
    supported!(
        "device",
        // SAFETY: the contract.
        unsafe {
            on_device(device, |node, _| {
                let asked = node.keep(handle::switch(keep, "keep")?)?;
                write_if_wanted(request, asked);
                Ok(())
            })
        }
    )
}

/// Asks where users are, by their names, up to 1,000 with commas: a HAIL_EVENT_PRESENCE each. `request` and failures as
/// hail_device_subscribe().
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "device"), allow(unused_variables))]
pub unsafe extern "C" fn hail_device_query(
    device: *mut hail_device,
    users: *const c_char,
    request: *mut u64,
) -> hail_status {
    supported!(
        "device",
        // SAFETY: the contract.
        unsafe {
            on_device(device, |node, _| {
                let asked = node.query(names(text(users, "users")?))?;
                write_if_wanted(request, asked);
                Ok(())
            })
        }
    )
}

/// Says goodbye in the next step, and stays away: what waits in the outbox waits for the next device on the same store.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "device"), allow(unused_variables))]
pub unsafe extern "C" fn hail_device_close(device: *mut hail_device) -> hail_status {
    supported!(
        "device",
        // SAFETY: the contract.
        unsafe {
            on_device(device, |node, now| {
                node.close(now);
                Ok(())
            })
        }
    )
}

/// The platform is about to sleep, for `for_s` seconds at the most, or 0 for 15 hours, which is as much. The office is told, keeps
/// the session and sends nothing. HAIL_EVENT_SUSPENDED comes within eight seconds: from then on the device sends nothing and has
/// nothing due, so that the timeout of a loop with nothing else is -1. Its HAIL_FIELD_TOLD is 0 when there is no session, or the
/// office did not answer. A message that is put meanwhile is made durable, and goes out after hail_device_resume().
///
/// HAIL_ERR_STATE: it is suspended already.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "device"), allow(unused_variables))]
pub unsafe extern "C" fn hail_device_suspend(device: *mut hail_device, for_s: u32) -> hail_status {
    supported!(
        "device",
        // SAFETY: the contract.
        unsafe { on_device(device, |node, now| node.suspend(now, for_s)) }
    )
}

/// The platform is awake, or does not sleep after all: the device speaks in the next step, and what waited comes. A session that is
/// lost meanwhile is got again. It changes nothing of a device that is not suspended.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "device"), allow(unused_variables))]
pub unsafe extern "C" fn hail_device_resume(device: *mut hail_device) -> hail_status {
    supported!(
        "device",
        // SAFETY: the contract.
        unsafe {
            on_device(device, |node, now| {
                node.resume(now);
                Ok(())
            })
        }
    )
}

/// On a network where what is sent is paid for `on` is 1, else 0; the option `metered` says it for the beginning. While it is 1 the
/// device looks for no longer interval and keeps to the one that it found, or to `keepalive_s`; it sends again what is not
/// acknowledged after a second at the soonest, not after a fifth of one, and one piece at a time, not two. Say it before
/// hail_loop_network_changed().
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "device"), allow(unused_variables))]
pub unsafe extern "C" fn hail_device_set_metered(device: *mut hail_device, on: i32) -> hail_status {
    supported!(
        "device",
        // SAFETY: the contract.
        unsafe {
            on_device(device, |node, _| {
                node.set_metered(handle::switch(on, "on")?);
                Ok(())
            })
        }
    )
}

/// 1 while there is a session, else 0; a negative status on failure.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "device"), allow(unused_variables))]
pub unsafe extern "C" fn hail_device_is_up(device: *const hail_device) -> i32 {
    supported!("device", {
        let mut is_up = 0;
        // SAFETY: the contract.
        let status = unsafe {
            on_device(device, |node, _| {
                is_up = node.is_up().into();
                Ok(())
            })
        };
        if status == 0 { is_up } else { status }
    })
}

/// Messages in the outbox, in `count`: put, and not yet told to be accepted, rejected or expired.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "device"), allow(unused_variables))]
pub unsafe extern "C" fn hail_device_pending(device: *const hail_device, count: *mut usize) -> hail_status {
    supported!(
        "device",
        // SAFETY: the contract.
        unsafe {
            on_device(device, |node, _| {
                output(count, "count")?.write(node.waiting());
                Ok(())
            })
        }
    )
}

/// A counter by name, such as "shown", or "link.sessions" for those of the link: docs/counters.md has them all.
///
/// HAIL_ERR_NOT_FOUND: there is none by that name.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "device"), allow(unused_variables))]
pub unsafe extern "C" fn hail_device_counter(
    device: *const hail_device,
    name: *const c_char,
    value: *mut u64,
) -> hail_status {
    supported!(
        "device",
        // SAFETY: the contract.
        unsafe {
            on_device(device, |node, _| {
                let out = output(value, "value")?;
                let name = text(name, "name")?;
                out.write(match name.split_once('.') {
                    Some(("link", name)) => handle::counter(node.link_counters().list(), name)?,
                    Some(("balancer", name)) => handle::counter(node.balancer_counters().list(), name)?,
                    _ => handle::counter(node.counters().list(), name)?,
                });
                Ok(())
            })
        }
    )
}

/// Puts a message as C gives it: to whom, whether it is kept and for how long; its kind; its body.
///
/// # Safety
/// Texts and body are NULL, or as [`text`] and [`slice`] want them.
#[cfg(feature = "device")]
unsafe fn put(
    node: &mut DeviceNode,
    now: Time,
    (to, keep, ttl_s): (*const c_char, i32, u32),
    content_type: *const c_char,
    (body, size): (*const u8, usize),
) -> Result<u64, Fault> {
    // SAFETY: the caller's promise.
    let (to, content_type, body) = unsafe {
        (text(to, "to")?, optional_text(content_type, "content_type")?, slice(body, size, "body")?)
    };
    // Before it is copied: the size may be anything.
    if body.len() > MAX_BODY {
        return Err(invalid("a body has at most 65536 octets"));
    }
    let ttl = if ttl_s == 0 { DEFAULT_TTL } else { ttl_s };
    let keep = handle::switch(keep, "keep")?;
    node.put(now, receivers(to)?, keep, ttl, content_type.unwrap_or("text/plain"), body.to_vec())
}

/// Turns the loop until a message is durable.
#[cfg(feature = "device")]
fn wait_until_stored(shared: &Shared, id: NodeId, number: u64, until: Option<Time>) -> Result<(), Status> {
    loop {
        let is_over = shared.enter(|inner| {
            if inner.net.with(id, |node: &mut DeviceNode, _| node.is_stored(number))? {
                return Ok(true);
            }
            let now = inner.net.now();
            // While too many events wait, a loop commits nothing: it would turn in vain.
            let most = inner.net.limits_mut().events;
            let is_full = inner.net.events().len() >= most;
            if is_full || until.is_some_and(|until| until <= now) {
                let detail = "the message is in the outbox, and not durable yet: an event will tell";
                return Err(Fault::new(Status::Timeout, detail));
            }
            event_loop::turn(inner, |net| net.wait(until.map(|until| until.since(now))))?;
            Ok(false)
        });
        match is_over {
            Ok(false) => {}
            // A wake that came meanwhile was for whoever waits on the loop.
            Ok(true) | Err(Status::Timeout) => {
                shared.enter(|inner| {
                    let _ = inner.net.waker().wake();
                    Ok(())
                })?;
                return is_over.map(drop);
            }
            Err(status) => return Err(status),
        }
    }
}

/// Names, with commas between.
#[cfg(feature = "device")]
pub(super) fn names(text: &str) -> Vec<String> {
    // One more than can be asked for, so that it is refused, and no more.
    text.split(',').take(MAX_RECEIVERS + 1).map(str::to_owned).collect()
}

/// Receivers, with commas between.
#[cfg(feature = "device")]
pub(super) fn receivers(text: &str) -> Result<To, Fault> {
    text.parse().map_err(|_| invalid("to is user:NAME or app:NAME, up to 1000 of them with commas"))
}

/// # Safety
/// `device` is NULL or a live device.
#[cfg(feature = "device")]
unsafe fn on_device(
    device: *const hail_device,
    body: impl FnOnce(&mut DeviceNode, Time) -> Result<(), Fault>,
) -> hail_status {
    // SAFETY: the caller's promise.
    unsafe { handle::on_node(device, body) }
}
