//! A recogniser without a back end.

use std::ffi::{c_char, c_void};

use super::{
    config::hail_config,
    event_loop::hail_loop,
    handle::{self, Handle, Object},
    status::hail_status,
    supported,
};
#[cfg(feature = "gateway")]
use super::{
    event_loop,
    handle::{output, slice, text},
};
#[cfg(feature = "gateway")]
use crate::{net::open_recognizer, node::RecognizerNode, wire::packet::LinkType};

/// Names the applications of flows, for a program that shares nothing.
pub struct hail_recognizer {
    handle: Handle,
}

impl Object for hail_recognizer {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Makes a recogniser on a loop, by the options `rules`, `inside`, `max_automaton_octets` and `max_flows`.
///
/// HAIL_ERR_CONFIG: an option cannot be used, or `rules` is none. HAIL_ERR_PATTERN: the rules file.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_recognizer_new(
    r#loop: *mut hail_loop,
    config: *const hail_config,
    user: *mut c_void,
    recognizer: *mut *mut hail_recognizer,
) -> hail_status {
    supported!(
        "gateway",
        // SAFETY: the contract.
        unsafe {
            event_loop::make(r#loop, config, user, recognizer, "recognizer", |net, config| {
                let id = open_recognizer(net, config)?;
                Ok((id, move |handle| hail_recognizer { handle }))
            })
        }
    )
}

/// Frees a recogniser.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_recognizer_free(recognizer: *mut hail_recognizer) {
    // SAFETY: the contract.
    unsafe { handle::free(recognizer) }
}

/// Feeds a captured frame, as hail_gateway_feed(). A flow tells HAIL_EVENT_RECOGNISED once it is recognised, and
/// HAIL_EVENT_FLOW when it ends.
///
/// HAIL_ERR_MALFORMED: it is no IP packet; it is counted and otherwise ignored. HAIL_ERR_FULL: too many events wait:
/// step the loop, pull them, and feed it again.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_recognizer_feed(
    recognizer: *mut hail_recognizer,
    link_type: u32,
    time_us: u64,
    frame: *const u8,
    size: usize,
) -> hail_status {
    supported!(
        "gateway",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(recognizer, |node: &mut RecognizerNode, now| {
                node.feed(now, handle::captured(time_us), LinkType(link_type), slice(frame, size, "frame")?)
            })
        }
    )
}

/// Ends every flow, for a capture that is over: each tells its HAIL_EVENT_FLOW.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_recognizer_finish(recognizer: *mut hail_recognizer) -> hail_status {
    supported!(
        "gateway",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(recognizer, |node: &mut RecognizerNode, now| {
                node.finish(now);
                Ok(())
            })
        }
    )
}

/// A counter by name, such as "flows": docs/counters.md has them all.
///
/// HAIL_ERR_NOT_FOUND: there is none by that name.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
pub unsafe extern "C" fn hail_recognizer_counter(
    recognizer: *const hail_recognizer,
    name: *const c_char,
    value: *mut u64,
) -> hail_status {
    supported!(
        "gateway",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(recognizer, |node: &mut RecognizerNode, _| {
                let out = output(value, "value")?;
                let counters = node.recognition().recognizer().counters();
                out.write(handle::counter(counters.list(), text(name, "name")?)?);
                Ok(())
            })
        }
    )
}
