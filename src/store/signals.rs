//! Signals of the process are for its own threads: one that a thread of ours took would end no wait of theirs.
#![allow(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use std::{mem, ptr};

/// Calls while no signal is taken by this thread, nor, for as long as it lives, by a thread that the call starts.
pub(super) fn without_signals<R>(call: impl FnOnce() -> R) -> R {
    // SAFETY: a signal set is plain data, and both are filled by the system before they are read.
    let (mut all, mut before) = unsafe { (mem::zeroed(), mem::zeroed()) };
    // SAFETY: both sets are ours. It cannot fail: the sets are there, and the verb is one of the three.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before);
    }
    let result = call();
    // SAFETY: as above; the set is the one that was in force.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
    }
    result
}
