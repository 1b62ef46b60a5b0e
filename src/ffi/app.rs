//! An application of a post office: sends to users and applications, asks where they are, and is sent to.

use std::ffi::{c_char, c_void};

use super::{
    config::hail_config,
    event_loop::hail_loop,
    handle::{self, Handle, Object},
    status::hail_status,
    supported,
};
#[cfg(feature = "post")]
use super::{
    device::{names, receivers},
    event_loop,
    handle::{invalid, optional_text, output, output_array, slice, text},
};
#[cfg(feature = "post")]
use crate::{
    net::open_app,
    node::AppNode,
    status::Fault,
    wire::{
        app::{DEFAULT_TTL, Kind, MAX_BODY, Message, To},
        post::Sequence,
    },
};

/// Room for the id of a message or a request, with its NUL.
pub const HAIL_ID_SIZE: usize = 65;
/// The message waits at the office for who is not there.
pub const HAIL_MESSAGE_KEEP: u32 = 1;
/// The message is for everybody: `to` is "*".
pub const HAIL_MESSAGE_BROADCAST: u32 = 2;

/// A message of an application: `struct hail_message message = { sizeof message };`, then what differs from 0 and NULL.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hail_message {
    /// sizeof(struct hail_message). Later versions may add fields behind; octets that a version does not know must be 0.
    pub size: u32,
    /// HAIL_MESSAGE_..., added up.
    pub flags: u32,
    /// 1 to 64 visible ASCII characters, never used before by this application: sent again with the same content, the message
    /// is delivered once. NULL for one that is made.
    pub id: *const c_char,
    /// "user:NAME" or "app:NAME", up to 1,000 of them with commas; or "*": who follows this application, and with
    /// HAIL_MESSAGE_BROADCAST everybody.
    pub to: *const c_char,
    /// Up to 128 characters; NULL for "text/plain".
    pub content_type: *const c_char,
    /// The body, of up to 65536 octets.
    pub body: *const u8,
    /// How many it has.
    pub body_size: usize,
    /// Of a broadcast for who logs in during a period: its first second of Unix time, else 0.
    pub period_start: u64,
    /// Its end.
    pub period_end: u64,
    /// After how many seconds it is stale, up to 30 days; 0 for a week.
    pub ttl_s: u32,
    /// 0.
    pub reserved: u32,
}

/// An application's end of a post office.
pub struct hail_app {
    handle: Handle,
}

impl Object for hail_app {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Makes an application on a loop, by the options `app`, `app_secret` or `app_secret_file`, and `office`. It connects from the
/// next step on and stays there by itself: HAIL_EVENT_LOGGED_IN, _REFUSED and _DOWN tell how that goes. `user` comes back with
/// each of its events.
///
/// HAIL_ERR_CONFIG: an option cannot be used.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_app_new(
    r#loop: *mut hail_loop,
    config: *const hail_config,
    user: *mut c_void,
    app: *mut *mut hail_app,
) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe {
            event_loop::make(r#loop, config, user, app, "app", |net, config| {
                let id = open_app(net, config)?;
                Ok((id, move |handle| hail_app { handle }))
            })
        }
    )
}

/// Frees an application: its connection is closed, its events are gone, and so is what hail_app_pending() counts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_app_free(app: *mut hail_app) {
    // SAFETY: the contract.
    unsafe { handle::free(app) }
}

/// Sends a message, connected or not; it is said, over lost connections, until the office answers. `id`, unless NULL, has room
/// for HAIL_ID_SIZE octets and gets its id as text: HAIL_EVENT_ANSWERED with it as HAIL_FIELD_ID tells, with code 200, that
/// the office has it, or why not. There is no store on this side: what is not answered when the process ends is to be sent
/// again, with the same id.
///
/// HAIL_ERR_INVALID: the message cannot be. HAIL_ERR_STATE: one by this id is not answered yet. HAIL_ERR_FULL: too many are
/// not; HAIL_EVENT_WRITABLE says when there is room.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_app_send(
    app: *mut hail_app,
    message: *const hail_message,
    id: *mut c_char,
) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(app, |node: &mut AppNode, _| {
                let sent = node.send(read(message)?)?;
                write_id(id, &sent);
                Ok(())
            })
        }
    )
}

/// Asks where users are, by their names, up to 1,000 with commas: a HAIL_EVENT_PRESENCE each, and then HAIL_EVENT_ANSWERED. `id`
/// as in hail_app_send().
///
/// HAIL_ERR_INVALID: the names. HAIL_ERR_FULL: as hail_app_send().
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_app_query(
    app: *mut hail_app,
    users: *const c_char,
    id: *mut c_char,
) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(app, |node: &mut AppNode, _| {
                let asked = node.query(&names(text(users, "users")?))?;
                write_id(id, &asked);
                Ok(())
            })
        }
    )
}

/// Withdraws a message: HAIL_EVENT_ANSWERED with its id, after that of the message itself, tells with code 200 that it reached
/// nobody, with 409 that somebody has it, with 404 that it is gone.
///
/// HAIL_ERR_INVALID: that is no id. HAIL_ERR_STATE: it is being withdrawn. HAIL_ERR_FULL: as hail_app_send().
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_app_cancel(app: *mut hail_app, id: *const c_char) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe { handle::on_node(app, |node: &mut AppNode, _| node.cancel(text(id, "id")?)) }
    )
}

/// A message that HAIL_EVENT_MESSAGE showed is dealt with: it is not shown again once the office has heard of it, which is when
/// hail_app_pending() no longer counts it.
///
/// HAIL_ERR_NOT_FOUND: no message by that HAIL_FIELD_SEQUENCE waits to be confirmed.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_app_confirm(app: *mut hail_app, sequence: u64) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe { handle::on_node(app, |node: &mut AppNode, _| node.confirm(Sequence(sequence))) }
    )
}

/// Requests and confirmations that the office has not answered, in `count`: at 0 nothing is lost by hail_app_free().
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_app_pending(app: *const hail_app, count: *mut usize) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(app, |node: &mut AppNode, _| {
                output(count, "count")?.write(node.pending());
                Ok(())
            })
        }
    )
}

/// A counter by name, such as "logins": docs/counters.md has them all.
///
/// HAIL_ERR_NOT_FOUND: there is none by that name.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_app_counter(
    app: *const hail_app,
    name: *const c_char,
    value: *mut u64,
) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(app, |node: &mut AppNode, _| {
                let out = output(value, "value")?;
                out.write(handle::counter(node.counters().list(), text(name, "name")?)?);
                Ok(())
            })
        }
    )
}

/// A message from C.
///
/// # Safety
/// NULL, or a message of as many octets as its `size` says, with texts and a body that are NULL or live.
#[cfg(feature = "post")]
unsafe fn read(message: *const hail_message) -> Result<Message, Fault> {
    // SAFETY: the caller's promise.
    let given = unsafe { handle::sized(message, "message") }?;
    if given.flags & !(HAIL_MESSAGE_KEEP | HAIL_MESSAGE_BROADCAST) != 0 || given.reserved != 0 {
        return Err(invalid("message: flags are HAIL_MESSAGE_ numbers added up, and reserved is 0"));
    }
    // SAFETY: the caller's promise.
    let (id, to, content_type, body) = unsafe {
        (
            optional_text(given.id, "message: id")?,
            receivers(text(given.to, "message: to")?)?,
            optional_text(given.content_type, "message: content_type")?,
            slice(given.body, given.body_size, "message: body")?,
        )
    };
    if id == Some("") {
        return Err(invalid("message: an id has 1 to 64 visible ASCII characters, or is NULL"));
    }
    // Before it is copied: the size may be anything.
    if body.len() > MAX_BODY {
        return Err(invalid("a body has at most 65536 octets"));
    }
    let kind = match &to {
        _ if given.flags & HAIL_MESSAGE_BROADCAST != 0 => Kind::Broadcast,
        To::Named(named) if named.len() == 1 => Kind::One,
        _ => Kind::Directed,
    };
    let period = (given.period_start, given.period_end);
    Ok(Message {
        id: id.unwrap_or_default().to_owned(),
        kind,
        store: given.flags & HAIL_MESSAGE_KEEP != 0,
        ttl: if given.ttl_s == 0 { DEFAULT_TTL } else { given.ttl_s },
        period: (period != (0, 0)).then_some(period),
        content_type: content_type.unwrap_or("text/plain").to_owned(),
        ..Message::new(to, body.to_vec())
    })
}

/// Tells an id, to who wants it.
///
/// # Safety
/// NULL, or room for [`HAIL_ID_SIZE`] octets.
#[cfg(feature = "post")]
unsafe fn write_id(room: *mut c_char, id: &str) {
    // SAFETY: the caller's promise.
    if let Ok(out) = unsafe { output_array::<HAIL_ID_SIZE>(room.cast(), "id") } {
        let mut text = [0; HAIL_ID_SIZE];
        let size = id.len().min(HAIL_ID_SIZE - 1);
        text[..size].copy_from_slice(&id.as_bytes()[..size]);
        out.write(text);
    }
}
