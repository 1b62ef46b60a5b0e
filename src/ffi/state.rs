//! What the objects of one loop share.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    ffi::{CStr, CString, c_void},
    ptr,
};

use super::{
    event::hail_event,
    guard::caught,
    log::{Level, Log},
};
use crate::{
    net::{Loop, NodeId},
    node::Node,
    status::{Fault, Status},
};

/// One for each loop, held by the loop and all that was made on it.
pub(super) struct Shared {
    /// The process that made it: its sockets, store and timers are not a child's to use.
    process: u32,
    /// Borrowed for the length of a call, so that a call from a callback finds it borrowed. Empty once freed.
    inner: RefCell<Option<Inner>>,
    is_poisoned: Cell<bool>,
    /// Freed from a callback: to be done when the outer call returns.
    is_closing: Cell<bool>,
    doomed: RefCell<Vec<NodeId>>,
    detail: RefCell<CString>,
    /// The event that was pulled last; ours, from `Box::into_raw`.
    current: Cell<*mut hail_event>,
}

/// What a call works on.
pub(super) struct Inner {
    pub net: Loop,
    pub objects: HashMap<NodeId, Entry>,
    pub log: Log,
}

/// What is known about an object on the loop.
pub(super) struct Entry {
    pub role: &'static str,
    /// The object as C knows it. Compared and handed out, never followed.
    pub source: *const c_void,
    pub user: *mut c_void,
}

impl Shared {
    pub fn new(net: Loop) -> Shared {
        let inner = Inner { net, objects: HashMap::new(), log: Log::default() };
        Shared {
            process: std::process::id(),
            inner: RefCell::new(Some(inner)),
            is_poisoned: Cell::new(false),
            is_closing: Cell::new(false),
            doomed: RefCell::default(),
            detail: RefCell::default(),
            current: Cell::new(ptr::null_mut()),
        }
    }

    /// Whether this process is a child of the one that made the loop.
    pub fn is_foreign(&self) -> bool {
        std::process::id() != self.process
    }

    /// Whether the loop was freed.
    pub fn is_freed(&self) -> bool {
        self.inner.try_borrow().is_ok_and(|inner| inner.is_none())
    }

    /// A call into the loop. What goes wrong is kept as the loop's detail.
    pub fn enter<R>(&self, body: impl FnOnce(&mut Inner) -> Result<R, Fault>) -> Result<R, Status> {
        self.try_enter(body).map_err(|fault| {
            let text = CString::new(fault.detail.replace('\0', " ")).expect("every NUL was replaced");
            self.detail.replace(text);
            fault.status
        })
    }

    /// A call that answers with its status.
    pub fn call(&self, body: impl FnOnce(&mut Inner) -> Result<(), Fault>) -> i32 {
        self.enter(body).err().unwrap_or(Status::Ok).number()
    }

    /// The text of the last failure. Valid until the next one.
    pub fn detail(&self) -> *const std::ffi::c_char {
        self.detail.borrow().as_ptr()
    }

    /// Makes `event` the one that C may look at; the one before it is gone.
    pub fn show(&self, event: Option<hail_event>) -> *const hail_event {
        let new = event.map_or(ptr::null_mut(), |event| Box::into_raw(Box::new(event)));
        let old = self.current.replace(new);
        if !old.is_null() {
            // SAFETY: it came from `Box::into_raw` here, and nothing else frees it.
            drop(unsafe { Box::from_raw(old) });
        }
        new
    }

    /// An object is freed: an event that C still looks at must not name it.
    pub fn forget_source(&self, source: *const c_void) {
        // SAFETY: NULL, or ours and alive; only shared references to it exist.
        if let Some(event) = unsafe { self.current.get().as_ref() } {
            event.forget_source(source);
        }
    }

    /// Takes a node off the loop, now or when the outer call returns.
    pub fn remove(&self, id: NodeId) {
        self.doomed.borrow_mut().push(id);
        self.reap();
    }

    /// Closes the loop, now or when the outer call returns.
    pub fn close(&self) {
        self.is_closing.set(true);
        self.reap();
    }

    fn try_enter<R>(&self, body: impl FnOnce(&mut Inner) -> Result<R, Fault>) -> Result<R, Fault> {
        if self.is_foreign() {
            return Err(Fault::new(Status::Invalid, "this process is a fork: make a loop of its own"));
        }
        if self.is_poisoned.get() {
            return Err(Status::Panic.into());
        }
        let result = {
            let mut borrowed = self.inner.try_borrow_mut().map_err(|_| Fault::from(Status::Reentrant))?;
            let inner = borrowed
                .as_mut()
                .ok_or_else(|| Fault::new(Status::Invalid, "the loop of this object was freed"))?;
            caught(|| body(inner)).unwrap_or_else(|place| {
                self.is_poisoned.set(true);
                inner.log.line(Level::Error, &format!("loop: panic at {place}: free it and report this"));
                Err(Fault::new(Status::Panic, format!("a bug in the library, at {place}: free the loop")))
            })
        };
        self.reap();
        result
    }

    /// Does what was put off while a call was under way.
    fn reap(&self) {
        let Ok(mut borrowed) = self.inner.try_borrow_mut() else { return };
        let closing = self.is_closing.get().then(|| borrowed.take()).flatten();
        let doomed = self.doomed.take();
        let removed: Vec<_> = match borrowed.as_mut() {
            Some(inner) if !self.is_poisoned.get() => {
                doomed.into_iter().filter_map(|id| inner.remove(id)).collect()
            }
            _ => Vec::new(),
        };
        drop(borrowed);
        // After a panic nothing is certain, not even that it can be taken apart.
        let _ = caught(|| drop((closing, removed)));
        if self.is_closing.get() {
            self.show(None);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.show(None);
    }
}

impl Inner {
    fn remove(&mut self, id: NodeId) -> Option<Box<dyn Node>> {
        if let Some(entry) = self.objects.remove(&id) {
            self.log.line(Level::Debug, &format!("{}: freed", entry.role));
        }
        caught(|| self.net.remove(id)).ok().flatten()
    }
}

/// An empty text.
pub(super) const NOTHING: &CStr = c"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_poisons_the_loop_and_says_where() {
        let shared = Shared::new(Loop::new().unwrap());
        assert_eq!(shared.call(|_| panic!("oh")), Status::Panic.number());
        let detail = shared.detail.borrow().to_str().unwrap().to_owned();
        assert!(detail.contains("state.rs:"), "{detail}");
        assert_eq!(shared.call(|_| Ok(())), Status::Panic.number());
        shared.close();
        assert!(shared.is_freed());
    }

    #[test]
    fn a_call_inside_a_call_is_refused_and_a_close_waits() {
        let shared = Shared::new(Loop::new().unwrap());
        let outer = shared.call(|_| {
            assert_eq!(shared.call(|_| Ok(())), Status::Reentrant.number());
            shared.close();
            Ok(())
        });
        assert_eq!(outer, 0);
        assert!(shared.is_freed());
        assert_eq!(shared.call(|_| Ok(())), Status::Invalid.number());
    }
}
