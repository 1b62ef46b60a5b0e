//! Pointers from C: checked once, here.

use std::{ffi::CStr, ffi::c_char, rc::Rc};

use super::state::Shared;
use crate::{
    net::NodeId,
    status::{Fault, Status},
};
#[cfg(any(feature = "gateway", feature = "device"))]
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
#[cfg(any(feature = "backend", feature = "device"))]
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

/// A switch: 0 or 1.
pub(super) fn switch(number: i32, name: &str) -> Result<bool, Fault> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(invalid(&format!("{name} is 0 or 1"))),
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
#[cfg(any(feature = "gateway", feature = "device"))]
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

/// A struct of C's that begins with its size, which may be larger than what this version knows.
///
/// # Safety
/// NULL, or a `#[repr(C)]` struct that begins with a `u32`, of as many octets as that says.
pub(super) unsafe fn sized<T: Copy>(pointer: *const T, name: &str) -> Result<T, Fault> {
    // SAFETY: the caller's promise.
    let size = unsafe { size_of_sized(pointer, name) }?;
    let known = size_of::<T>();
    // SAFETY: the caller's promise.
    let tail = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) };
    if tail.iter().any(|octet| *octet != 0) {
        let detail = format!("the {name} has fields that this version does not know");
        return Err(Fault::new(Status::Unsupported, detail));
    }
    // SAFETY: the caller's promise; it is large enough.
    Ok(unsafe { std::ptr::read(pointer) })
}

/// The checked size of such a struct.
///
/// # Safety
/// NULL, or a `#[repr(C)]` struct that begins with a `u32`, which is set.
pub(super) unsafe fn size_of_sized<T>(pointer: *const T, name: &str) -> Result<usize, Fault> {
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(invalid(&format!("{name} is NULL")));
    }
    // SAFETY: the caller's promise.
    let size = unsafe { *pointer.cast::<u32>() } as usize;
    // No version of ours will be so large: it was not set.
    match (size_of::<T>()..=4096).contains(&size) {
        true => Ok(size),
        false => Err(invalid(&format!("{name}: size is not sizeof {name}"))),
    }
}

/// What became of a call whose `number`, `ticket` or the like may be asked for or not.
///
/// # Safety
/// NULL, or room for a `T` for as long as the call takes.
pub(super) unsafe fn write_if_wanted<T>(pointer: *mut T, value: T) {
    // SAFETY: the caller's promise.
    if let Ok(out) = unsafe { output(pointer, "output") } {
        out.write(value);
    }
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
