//! Trained rules of a back end: set, shown, taken back, held, and what a trainer elsewhere needs.

use std::ffi::c_char;

#[cfg(all(feature = "backend", feature = "json"))]
use super::codec::as_json;
use super::{backend::hail_backend, codec::hail_buffer, status::hail_status, supported, supported_as_json};
#[cfg(feature = "backend")]
use super::{
    backend::{ask_node, fill},
    handle::{self, output, slice, text},
};
#[cfg(all(feature = "backend", feature = "json"))]
use crate::codec::list;
#[cfg(feature = "backend")]
use crate::{
    node::BackendNode,
    status::{Fault, Status},
    wire::AppId,
};

/// The set of features that gateways measure and models are made of: in the first word of both (docs/training.md).
pub const HAIL_FEATURE_SET: u32 = 1;
/// How many features that set has.
pub const HAIL_FEATURE_COUNT: u32 = 60;

#[cfg(feature = "recognize")]
const _: () = assert!(
    HAIL_FEATURE_SET == crate::recognize::FEATURE_SET as u32
        && HAIL_FEATURE_COUNT == crate::recognize::FEATURE_COUNT as u32
);

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

/// The parameters of a trained rule that a group's gateways are told: up to `capacity` words in `words`, and how many
/// there are in `count`. A `capacity` of 0 only counts.
///
/// HAIL_ERR_NOT_FOUND: the group has none for this application.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_parameters(
    backend: *const hail_backend,
    group: *const c_char,
    app: u32,
    words: *mut u32,
    capacity: usize,
    count: *mut usize,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(backend, |node: &mut BackendNode, _| {
                let count = output(count, "count")?;
                let known = node.backend().parameters(text(group, "group")?, AppId(app));
                let known = known.ok_or_else(|| {
                    Fault::new(Status::NotFound, "the group has no parameters for this application")
                })?;
                fill(words, capacity, "words", known.iter().copied(), count)
            })
        }
    )
}

/// Goes back to the parameters before those in use, and holds the application, so that training does not bring the same
/// ones back. `ticket` as hail_backend_enrol().
///
/// HAIL_ERR_NOT_FOUND: there are none before, or the back end does not train.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_roll_back(
    backend: *mut hail_backend,
    group: *const c_char,
    app: u32,
    ticket: *mut u64,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe { ask_node(backend, ticket, |node, _| node.roll_back(text(group, "group")?, AppId(app))) }
    )
}

/// Stops training an application in a group by itself, or resumes it when `held` is 0. `ticket` as
/// hail_backend_enrol().
///
/// HAIL_ERR_NOT_FOUND: there is no model of it, or the back end does not train.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_hold(
    backend: *mut hail_backend,
    group: *const c_char,
    app: u32,
    held: i32,
    ticket: *mut u64,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe {
            ask_node(backend, ticket, |node, _| node.hold(text(group, "group")?, AppId(app), held != 0))
        }
    )
}

/// Hands in a model that a trainer of yours made, in words as docs/training.md lays them out. It is judged as one that is
/// trained here: HAIL_EVENT_TRAINED says how that ended, and if it was accepted gateways are told.
///
/// HAIL_ERR_WORDS: it is no model. HAIL_ERR_NOT_FOUND: there are no samples to judge it by. HAIL_ERR_STATE: the one before
/// is not judged yet, or `train` is off.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "backend"), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_offer(
    backend: *mut hail_backend,
    group: *const c_char,
    app: u32,
    words: *const u32,
    count: usize,
) -> hail_status {
    supported!(
        "backend",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(backend, |node: &mut BackendNode, _| {
                let words = slice(words, count, "words")?;
                node.offer(text(group, "group")?, AppId(app), words)
            })
        }
    )
}

/// What a trainer of yours may learn an application from, as JSON: a list of objects with `app`, `source`, `weight` and
/// `features`. What judges a model is not among them.
///
/// HAIL_ERR_STATE: `train` is off.
#[unsafe(no_mangle)]
#[cfg_attr(not(all(feature = "backend", feature = "json")), allow(unused_variables))]
pub unsafe extern "C" fn hail_backend_samples(
    backend: *const hail_backend,
    group: *const c_char,
    app: u32,
    json: *mut *mut hail_buffer,
) -> hail_status {
    supported_as_json!(
        "backend",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(backend, |node: &mut BackendNode, _| {
                let out = output(json, "json")?;
                let samples = node.samples(text(group, "group")?, AppId(app))?;
                out.write(as_json(samples.iter().map(list::sample)));
                Ok(())
            })
        }
    )
}
