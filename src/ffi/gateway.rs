//! A gateway: registers with a back end, tells what it recognised, learns what others did.

use std::ffi::{c_char, c_void};

#[cfg(all(feature = "gateway", feature = "json"))]
use super::codec::as_json;
use super::{
    codec::hail_buffer,
    config::hail_config,
    event_loop::hail_loop,
    handle::{self, Handle, Object},
    record::hail_record,
    status::hail_status,
    supported, supported_as_json,
};
#[cfg(feature = "gateway")]
use super::{
    event_loop,
    handle::{invalid, output, slice, text},
    record,
};
#[cfg(all(feature = "gateway", feature = "json"))]
use crate::codec::list;
#[cfg(feature = "gateway")]
use crate::{
    gateway::{GatewayState, ResultKey},
    net::open_gateway,
    node::GatewayNode,
    status::{Fault, Status},
    wire::{AppId, packet::LinkType},
};

/// Not connected; tries again by itself unless it left.
pub const HAIL_GATEWAY_DOWN: i32 = 1;
/// Waits for the connection.
pub const HAIL_GATEWAY_CONNECTING: i32 = 2;
/// Waits for the answer to its registration.
pub const HAIL_GATEWAY_REGISTERING: i32 = 3;
/// Registered.
pub const HAIL_GATEWAY_ACTIVE: i32 = 4;
/// Waits for the answer to its deregistration.
pub const HAIL_GATEWAY_LEAVING: i32 = 5;

/// Ethernet frames, for hail_gateway_feed() and hail_recognizer_feed(). The numbers are those of capture files
/// (LINKTYPE_...): 0 BSD loopback, 101 and 228 and 229 raw IP, 113 and 276 Linux cooked.
pub const HAIL_LINK_ETHERNET: u32 = 1;
/// Packets that begin with their IP header.
pub const HAIL_LINK_RAW: u32 = 101;

#[cfg(feature = "gateway")]
const _: () = assert!(HAIL_LINK_ETHERNET == LinkType::ETHERNET.0 && HAIL_LINK_RAW == LinkType::RAW.0);

/// A gateway's end of the gateway protocol, and its recognition of flows.
pub struct hail_gateway {
    handle: Handle,
}

impl Object for hail_gateway {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Makes a gateway on a loop. It registers from the next step on and stays registered by itself; HAIL_EVENT_REGISTERED,
/// _REFUSED and _DOWN tell how that goes. `user` comes back with each of its events.
///
/// HAIL_ERR_CONFIG: the option `backend` is missing, or one cannot be used. HAIL_ERR_PATTERN: the rules file.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_gateway_new(
    r#loop: *mut hail_loop,
    config: *const hail_config,
    user: *mut c_void,
    gateway: *mut *mut hail_gateway,
) -> hail_status {
    supported!(
        "gateway",
        // SAFETY: the contract.
        unsafe {
            event_loop::make(r#loop, config, user, gateway, "gateway", |net, config| {
                let id = open_gateway(net, config)?;
                Ok((id, move |handle| hail_gateway { handle }))
            })
        }
    )
}

/// Frees a gateway: its connection is closed without a word (hail_gateway_leave() says one), its events are gone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_gateway_free(gateway: *mut hail_gateway) {
    // SAFETY: the contract.
    unsafe { handle::free(gateway) }
}

/// Where it stands: a HAIL_GATEWAY_..., or a negative status on failure.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_gateway_state(gateway: *const hail_gateway) -> i32 {
    supported!("gateway", {
        let mut state = 0;
        // SAFETY: the contract.
        let status = unsafe {
            on_gateway(gateway, |node, _| {
                state = match node.gateway().state() {
                    GatewayState::Down => HAIL_GATEWAY_DOWN,
                    GatewayState::Connecting => HAIL_GATEWAY_CONNECTING,
                    GatewayState::Registering => HAIL_GATEWAY_REGISTERING,
                    GatewayState::Active => HAIL_GATEWAY_ACTIVE,
                    GatewayState::Leaving => HAIL_GATEWAY_LEAVING,
                };
                Ok(())
            })
        };
        if status == 0 { state } else { status }
    })
}

/// Tells the back end which application is at a remote end. The report is kept, over lost links, until
/// HAIL_EVENT_ACKNOWLEDGED says that it is durable there.
///
/// HAIL_ERR_FULL: `max_reports` wait already; HAIL_EVENT_WRITABLE says when there is room.
/// HAIL_ERR_UNSUPPORTED: an IPv6 flow with `family` = 4.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_gateway_report(
    gateway: *mut hail_gateway,
    record: *const hail_record,
) -> hail_status {
    supported!(
        "gateway",
        // SAFETY: the contract.
        unsafe {
            on_gateway(gateway, |node, now| {
                let record = record::read(record)?;
                node.gateway_mut().report(now, record)
            })
        }
    )
}

/// Tells the back end the features of a flow of an application that is unlike those before it: at most 256 words.
///
/// HAIL_ERR_WORDS: there are more. HAIL_ERR_FULL: as hail_gateway_report().
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_gateway_report_features(
    gateway: *mut hail_gateway,
    app: u32,
    words: *const u32,
    count: usize,
) -> hail_status {
    supported!(
        "gateway",
        // SAFETY: the contract.
        unsafe {
            on_gateway(gateway, |node, now| {
                let words = slice(words, count, "words")?;
                // Before they are copied: the count may be anything.
                if words.len() > crate::wire::gateway::MAX_WORDS {
                    return Err(Fault::new(Status::Words, "at most 256 words can travel"));
                }
                node.gateway_mut().report_features(now, AppId(app), words.to_vec())
            })
        }
    )
}

/// What others recognised at a remote end: 16 octets of address, port, HAIL_PROTOCOL_....
///
/// HAIL_ERR_NOT_FOUND: nothing is known about it.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_gateway_result(
    gateway: *const hail_gateway,
    address: *const u8,
    port: u16,
    protocol: u8,
    app: *mut u32,
) -> hail_status {
    supported!(
        "gateway",
        // SAFETY: the contract.
        unsafe {
            on_gateway(gateway, |node, _| {
                let out = output(app, "app")?;
                let remote = record::end(address, port)?;
                if !matches!(protocol, record::HAIL_PROTOCOL_TCP | record::HAIL_PROTOCOL_UDP) {
                    return Err(invalid("protocol is HAIL_PROTOCOL_TCP or HAIL_PROTOCOL_UDP"));
                }
                let known = node.gateway().result(&ResultKey { remote, protocol });
                let nothing = || Fault::new(Status::NotFound, "nothing is known about that remote end");
                out.write(known.ok_or_else(nothing)?.0);
                Ok(())
            })
        }
    )
}

/// What the back end told, as a JSON list (docs/json.md): `what` is "results" or "rules".
///
/// HAIL_ERR_NOT_FOUND: there is no such list.
#[unsafe(no_mangle)]
#[cfg_attr(not(all(feature = "gateway", feature = "json")), allow(unused_variables))]
pub unsafe extern "C" fn hail_gateway_list(
    gateway: *const hail_gateway,
    what: *const c_char,
    json: *mut *mut hail_buffer,
) -> hail_status {
    supported_as_json!(
        "gateway",
        // SAFETY: the contract.
        unsafe {
            on_gateway(gateway, |node, _| {
                let out = output(json, "json")?;
                let held = node.gateway();
                out.write(match text(what, "what")? {
                    "results" => as_json(held.results().map(|(key, app)| list::result(key, app))),
                    "rules" => as_json(held.rules().map(|(app, pattern)| list::rule(app, pattern))),
                    what => return Err(Fault::new(Status::NotFound, format!("there is no list {what:?}"))),
                });
                Ok(())
            })
        }
    )
}

/// Reports that wait for their acknowledgement, in `count`: once it is 0, all that was reported is durable.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_gateway_pending(
    gateway: *const hail_gateway,
    count: *mut usize,
) -> hail_status {
    supported!(
        "gateway",
        // SAFETY: the contract.
        unsafe {
            on_gateway(gateway, |node, _| {
                output(count, "count")?.write(node.gateway().pending());
                Ok(())
            })
        }
    )
}

/// Leaves the back end in order, and stays away until hail_gateway_join(). HAIL_EVENT_DEREGISTERED says that it is done.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_gateway_leave(gateway: *mut hail_gateway) -> hail_status {
    supported!(
        "gateway",
        // SAFETY: the contract.
        unsafe {
            on_gateway(gateway, |node, now| {
                node.gateway_mut().leave(now);
                Ok(())
            })
        }
    )
}

/// Registers now, without waiting for a pause: after leaving, or when the operator has allowed the gateway again.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_gateway_join(gateway: *mut hail_gateway) -> hail_status {
    supported!(
        "gateway",
        // SAFETY: the contract.
        unsafe {
            on_gateway(gateway, |node, now| {
                node.gateway_mut().join(now);
                Ok(())
            })
        }
    )
}

/// Changes the pause between heartbeats, at least 1 ms; holds from the next heartbeat on.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_gateway_set_heartbeat_ms(
    gateway: *mut hail_gateway,
    heartbeat_ms: u32,
) -> hail_status {
    supported!(
        "gateway",
        // SAFETY: the contract.
        unsafe {
            on_gateway(gateway, |node, _| {
                if heartbeat_ms == 0 {
                    return Err(invalid("heartbeat_ms is at least 1"));
                }
                node.gateway_mut().set_heartbeat(std::time::Duration::from_millis(heartbeat_ms.into()));
                Ok(())
            })
        }
    )
}

/// Feeds a captured frame to recognition. `link_type` is a LINKTYPE_ number such as HAIL_LINK_ETHERNET; `time_us` is 0
/// for now, or microseconds of any clock of yours that the frames of this gateway keep to. What is recognised is told to
/// the back end, and to you by HAIL_EVENT_RECOGNISED while the flow goes on and HAIL_EVENT_FLOW when it ends.
///
/// HAIL_ERR_MALFORMED: it is no IP packet; it is counted and otherwise ignored. HAIL_ERR_STATE: `rules` is none.
/// HAIL_ERR_FULL: too many events wait: step the loop, pull them, and feed it again.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_gateway_feed(
    gateway: *mut hail_gateway,
    link_type: u32,
    time_us: u64,
    frame: *const u8,
    size: usize,
) -> hail_status {
    supported!(
        "gateway",
        // SAFETY: the contract.
        unsafe {
            on_gateway(gateway, |node, now| {
                let captured = handle::captured(time_us);
                node.feed_captured(now, captured, LinkType(link_type), slice(frame, size, "frame")?)
            })
        }
    )
}

/// Ends every flow, for a capture that is over: each tells its last event.
///
/// HAIL_ERR_STATE: `rules` is none.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_gateway_finish(gateway: *mut hail_gateway) -> hail_status {
    supported!(
        "gateway",
        // SAFETY: the contract.
        unsafe { on_gateway(gateway, |node, now| node.finish(now)) }
    )
}

/// A counter by name, such as "resent", or "recognize.flows" for those of recognition and "link.resumed" for those of the link on
/// hail://: docs/counters.md has them all.
///
/// HAIL_ERR_NOT_FOUND: there is none by that name.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_gateway_counter(
    gateway: *const hail_gateway,
    name: *const c_char,
    value: *mut u64,
) -> hail_status {
    supported!(
        "gateway",
        // SAFETY: the contract.
        unsafe {
            on_gateway(gateway, |node, _| {
                let out = output(value, "value")?;
                let name = text(name, "name")?;
                let counter = match (name.split_once('.'), node.recognition(), node.link_counters()) {
                    (Some(("recognize", name)), Some(recognition), _) => {
                        handle::counter(recognition.recognizer().counters().list(), name)
                    }
                    (Some(("link", name)), _, Some(link)) => handle::counter(link.list(), name),
                    _ => handle::counter(node.gateway().counters().list(), name),
                };
                out.write(counter?);
                Ok(())
            })
        }
    )
}

/// # Safety
/// `gateway` is NULL or a live gateway.
#[cfg(feature = "gateway")]
unsafe fn on_gateway(
    gateway: *const hail_gateway,
    body: impl FnOnce(&mut GatewayNode, crate::time::Time) -> Result<(), Fault>,
) -> hail_status {
    // SAFETY: the caller's promise.
    unsafe { handle::on_node(gateway, body) }
}
