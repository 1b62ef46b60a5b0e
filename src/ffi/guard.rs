//! The edge that no panic passes.

use std::{
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// Calls of ours on this thread, one inside the other.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Where the last one panicked.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a body. A panic becomes the place in our source where it happened.
///
/// Rust prints a panic to stderr, which belongs to the host. So the hook of our own copy of Rust's library keeps quiet
/// about panics that are caught here, and leaves all others to the hook that was there before.
pub(super) fn caught<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| match DEPTH.get() {
            0 => others(info),
            // The message may quote what a peer sent; the place cannot.
            _ => PLACE.set(info.location().map_or_else(String::new, ToString::to_string)),
        }));
    });
    DEPTH.set(DEPTH.get() + 1);
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|payload| {
        // What was thrown may panic again when it is dropped.
        std::mem::forget(payload);
        PLACE.take()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_place() {
        assert_eq!(caught(|| 7), Ok(7));
        let place = caught(|| {
            if DEPTH.get() == 1 {
                panic!("with a secret")
            }
        })
        .unwrap_err();
        assert!(place.starts_with("src/ffi/guard.rs:") && !place.contains("secret"), "{place}");
        assert_eq!(DEPTH.get(), 0);
    }
}
