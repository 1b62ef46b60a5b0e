//! Pointers from C: checked once, here.

use std::{ffi::CStr, ffi::c_char, rc::Rc};

use super::state::Shared;
use crate::{
    net::NodeId,
    status::{Fault, Status},
};
#[cfg(any(feature = "gateway", feature = "backend"))]
use crate::{node::Node, time::Time};

/// What every object on a loop is: its loop, and which node it is there.
pub(super) struct Handle {
    pub shared: Rc<Shared>,
    pub id: NodeId,
}

/// A type of object on a loop.
pub(super) trait Object {
    fn handle(&self) -> &Handle;
}

/// What a pointer points to.
///
/// # Safety
/// NULL, or a live object of this type.
pub(super) unsafe fn reference<'a, T>(pointer: *const T) -> Result<&'a T, Fault> {
    if !pointer.is_aligned() {
        return Err(invalid("an object's pointer is not one that the library gave"));
    }
    // SAFETY: the caller's promise; alignment and NULL are checked.
    unsafe { pointer.as_ref() }.ok_or_else(|| invalid("an object is NULL"))
}

/// Where a result goes, checked before any work is done.
///
/// # Safety
/// NULL, or room for a `T`, which need not hold one yet, for as long as the call takes.
pub(super) unsafe fn output<T>(pointer: *mut T, name: &str) -> Result<Out<T>, Fault> {
    match pointer.is_null() || !pointer.is_aligned() {
        true => Err(invalid(&format!("{name} is NULL"))),
        false => Ok(Out(pointer)),
    }
}

/// Where a fixed number of octets goes.
///
/// # Safety
/// NULL, or room for `N` octets for as long as the call takes.
pub(super) unsafe fn output_array<const N: usize>(
    pointer: *mut u8,
    name: &str,
) -> Result<Out<[u8; N]>, Fault> {
    // SAFETY: the caller's promise.
    unsafe { output(pointer.cast(), name) }
}

/// Room for a result.
pub(super) struct Out<T>(*mut T);

impl<T> Out<T> {
    pub fn write(self, value: T) {
        // SAFETY: `output` checked it, and its caller promised room for the length of this call.
        unsafe { self.0.write(value) }
    }
}

/// Text that ends in NUL.
///
/// # Safety
/// NULL, or text that ends in NUL and stays as it is for `'a`.
pub(super) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Fault> {
    if pointer.is_null() {
        return Err(invalid(&format!("{name} is NULL")));
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| invalid(&format!("{name} is not UTF-8")))
}

/// Text, or nothing for NULL.
///
/// # Safety
/// As [`text`].
#[cfg(feature = "backend")]
pub(super) unsafe fn optional_text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>, Fault> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { text(pointer, name) }.map(Some)
}

/// `count` values at a pointer, which may be NULL when there is none.
///
/// # Safety
/// NULL, or `count` values that stay as they are for `'a`.
pub(super) unsafe fn slice<'a, T>(pointer: *const T, count: usize, name: &str) -> Result<&'a [T], Fault> {
    match count {
        0 => Ok(&[]),
        _ if pointer.is_null() => Err(invalid(&format!("{name} is NULL"))),
        _ if !pointer.is_aligned() => Err(invalid(&format!("{name} is not aligned"))),
        _ if count > isize::MAX as usize / size_of::<T>().max(1) => {
            Err(invalid(&format!("the size of {name} is out of range")))
        }
        // SAFETY: the caller's promise; NULL, alignment and size are checked.
        _ => Ok(unsafe { std::slice::from_raw_parts(pointer, count) }),
    }
}

/// A fixed number of octets.
///
/// # Safety
/// NULL, or `N` octets.
pub(super) unsafe fn array<const N: usize>(pointer: *const u8, name: &str) -> Result<[u8; N], Fault> {
    // SAFETY: the caller's promise.
    let octets = unsafe { slice(pointer, N, name) }?;
    Ok(octets.try_into().expect("a slice of N octets was asked for"))
}

/// Calls into an object's node.
///
/// # Safety
/// `object` is NULL or a live object.
#[cfg(any(feature = "gateway", feature = "backend"))]
pub(super) unsafe fn on_node<T: Object, N: Node>(
    object: *const T,
    body: impl FnOnce(&mut N, Time) -> Result<(), Fault>,
) -> i32 {
    // SAFETY: the caller's promise. What is needed is copied out, since a callback may free the object.
    let (shared, id) = match unsafe { reference(object) } {
        Ok(object) => (object.handle().shared.clone(), object.handle().id),
        Err(fault) => return fault.status.number(),
    };
    shared.call(|inner| inner.net.with(id, body)?)
}

/// When a frame was captured, as C tells it: 0 is now.
#[cfg(feature = "gateway")]
pub(super) fn captured(micros: u64) -> Option<Time> {
    (micros != 0).then(|| Time::from_micros(micros))
}

/// A counter by name.
pub(super) fn counter(
    mut counters: impl Iterator<Item = (&'static str, &'static str, u64)>,
    name: &str,
) -> Result<u64, Fault> {
    let found = counters.find(|(known, _, _)| *known == name).map(|(_, _, value)| value);
    found.ok_or_else(|| Fault::new(Status::NotFound, format!("there is no counter {name:?}")))
}

/// Frees an object on a loop.
///
/// # Safety
/// `object` is NULL, or a live object that came from `Box::into_raw` and is not used afterwards.
pub(super) unsafe fn free<T: Object>(object: *mut T) {
    if object.is_null() || !object.is_aligned() {
        return;
    }
    // SAFETY: the caller's promise.
    let handle = unsafe { &*object }.handle();
    let (shared, id) = (handle.shared.clone(), handle.id);
    // In a forked child the sockets and the store are the parent's: they are left alone.
    if shared.is_foreign() {
        return;
    }
    shared.forget_source(object.cast());
    // SAFETY: as above; nothing of ours refers to it any more.
    drop(unsafe { Box::from_raw(object) });
    shared.remove(id);
}

/// An argument that cannot be used.
pub(super) fn invalid(why: &str) -> Fault {
    Fault::new(Status::Invalid, why)
}
