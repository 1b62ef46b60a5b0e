//! The loop: one descriptor, one timeout, one step.

use std::{
    ffi::{c_char, c_void},
    ptr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mio::Waker;

#[cfg(any(feature = "gateway", feature = "device"))]
use super::{
    config::{copied, hail_config},
    handle::Handle,
    log::Level,
    state::Entry,
};
use super::{
    event::hail_event,
    guard::caught,
    handle::{self, invalid, output, reference},
    log::{HAIL_LOG_DEBUG, HAIL_LOG_OFF, Log, hail_log_fn},
    state::{Inner, NOTHING, Shared},
    status::hail_status,
};
#[cfg(any(feature = "gateway", feature = "device"))]
use crate::{config::Config, net::NodeId};
use crate::{
    net::Loop,
    status::{Fault, Status},
};

/// Owns sockets and timers. All else is made on one.
pub struct hail_loop {
    shared: Rc<Shared>,
    /// All that another thread may touch.
    wake: Arc<Wake>,
}

struct Wake {
    waker: Arc<Waker>,
    was_called: AtomicBool,
    process: u32,
}

/// Makes a loop.
///
/// HAIL_ERR_IO: the system has no descriptors left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_loop_new(r#loop: *mut *mut hail_loop) -> hail_status {
    let new = || {
        // SAFETY: the contract.
        let out = unsafe { output(r#loop, "loop") }?;
        let net = Loop::new()?;
        let wake = Arc::new(Wake {
            waker: net.waker(),
            was_called: AtomicBool::new(false),
            process: std::process::id(),
        });
        out.write(Box::into_raw(Box::new(hail_loop { shared: Rc::new(Shared::new(net)), wake })));
        Ok(())
    };
    match caught(new) {
        Ok(result) => result.err().map_or(Status::Ok, |fault: Fault| fault.status).number(),
        Err(_) => Status::Panic.number(),
    }
}

/// Frees a loop: its sockets are closed, its events are gone. What was made on it may be freed before or after; calls
/// on it then answer HAIL_ERR_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_loop_free(r#loop: *mut hail_loop) {
    // SAFETY: the contract.
    let Ok(object) = (unsafe { reference(r#loop) }) else { return };
    let shared = object.shared.clone();
    // In a forked child the sockets and the store are the parent's: they are left alone.
    if shared.is_foreign() {
        return;
    }
    // SAFETY: it came from `hail_loop_new`, and the contract says that it is not used afterwards.
    drop(unsafe { Box::from_raw(r#loop) });
    shared.close();
}

/// The descriptor to wait on, for reading: one for the loop's whole life. A negative status on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_loop_fd(r#loop: *const hail_loop) -> i32 {
    // SAFETY: the contract.
    unsafe { on_loop(r#loop, |inner| Ok(inner.net.fd())) }.unwrap_or_else(Status::number)
}

/// How long to wait at most, in milliseconds; -1 for as long as it takes; 0 when there is something to do, and on
/// failure, which the step after it then tells of.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_loop_timeout_ms(r#loop: *const hail_loop) -> i32 {
    // SAFETY: the contract.
    unsafe {
        on_loop(r#loop, |inner| {
            if inner.net.events().len() > 0 {
                return Ok(0);
            }
            // Rounded up: a wait that ends too early only costs another one.
            let millis = |wait: Duration| i32::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
            Ok(inner.net.timeout().map_or(-1, millis))
        })
    }
    .unwrap_or(0)
}

/// One turn, without waiting: reads and writes what the sockets allow, lets due timers fire, commits the stores once.
/// Events of it are pulled with hail_loop_next_event().
///
/// HAIL_ERR_IO: the system refuses to say what is ready. HAIL_ERR_PANIC: free the loop.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_loop_step(r#loop: *mut hail_loop) -> hail_status {
    // SAFETY: the contract.
    unsafe {
        with_loop(r#loop, |shared, wake| {
            shared.enter(|inner| {
                shared.show(None);
                wake.was_called.store(false, Ordering::Relaxed);
                turn(inner, Loop::step)
            })
        })
    }
}

/// Turns the loop until an event waits to be pulled, hail_loop_wake() is called or a signal comes: HAIL_OK; or until
/// `limit_ms` milliseconds are over: HAIL_ERR_TIMEOUT. A limit of -1 is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_loop_run(r#loop: *mut hail_loop, limit_ms: i32) -> hail_status {
    // SAFETY: the contract.
    unsafe {
        with_loop(r#loop, |shared, wake| {
            let until = shared.enter(|inner| {
                let limit = match limit_ms {
                    -1 => None,
                    _ => Some(u64::try_from(limit_ms).map_err(|_| invalid("limit_ms is -1, 0 or more"))?),
                };
                shared.show(None);
                Ok(limit.map(|limit| inner.net.now() + Duration::from_millis(limit)))
            })?;
            loop {
                let is_over = shared.enter(|inner| {
                    let now = inner.net.now();
                    if inner.net.events().len() > 0 {
                        return Ok(true);
                    }
                    turn(inner, |net| net.wait(until.map(|until| until.since(now))))?;
                    if inner.net.events().len() > 0 || inner.net.was_interrupted() {
                        return Ok(true);
                    }
                    match until.is_some_and(|until| until <= inner.net.now()) {
                        true => Err(Status::Timeout.into()),
                        false => Ok(false),
                    }
                })?;
                if is_over || wake.was_called.swap(false, Ordering::Relaxed) || shared.is_freed() {
                    return Ok(());
                }
            }
        })
    }
}

/// Ends a wait on the loop's descriptor and hail_loop_run(), now or the next one. From any thread, from a callback, and
/// from a signal handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_loop_wake(r#loop: *const hail_loop) -> hail_status {
    if r#loop.is_null() || !r#loop.is_aligned() {
        return Status::Invalid.number();
    }
    // SAFETY: the contract. Only this field is looked at, which is made to be shared between threads.
    let wake = unsafe { &(*r#loop).wake };
    if std::process::id() != wake.process {
        return Status::Invalid.number();
    }
    wake.was_called.store(true, Ordering::Relaxed);
    match wake.waker.wake() {
        Ok(()) => Status::Ok.number(),
        Err(_) => Status::Io.number(),
    }
}

/// The next event, or NULL when none is left. The one before it is gone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_loop_next_event(r#loop: *mut hail_loop) -> *const hail_event {
    // SAFETY: the contract.
    let Ok(object) = (unsafe { reference(r#loop) }) else { return ptr::null() };
    let shared = object.shared.clone();
    let next = shared.enter(|inner| {
        while let Some((id, event)) = inner.net.next_event() {
            if let Some(entry) = inner.objects.get(&id) {
                return Ok(shared.show(Some(hail_event::new(&event, entry))));
            }
        }
        Ok(shared.show(None))
    });
    next.unwrap_or(ptr::null())
}

/// What failed last on this loop or on what was made on it: what, on what, and what to do. It holds no secret. Empty
/// when nothing failed yet; valid until the next failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_loop_detail(r#loop: *const hail_loop) -> *const c_char {
    // SAFETY: the contract.
    unsafe { reference(r#loop) }.map_or(NOTHING.as_ptr(), |object| object.shared.detail())
}

/// Says that the device has another network now: pauses before a new try end at once, live links are tried, and names
/// are looked up anew.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_loop_network_changed(r#loop: *mut hail_loop) -> hail_status {
    // SAFETY: the contract.
    unsafe {
        with_loop(r#loop, |shared, _| {
            shared.enter(|inner| {
                inner.net.network_changed();
                Ok(())
            })
        })
    }
}

/// Sends log lines up to `level` (a HAIL_LOG_...) to a callback, which must stay good until it is replaced or the loop
/// is freed. NULL, or HAIL_LOG_OFF, stops them. Lines hold no secret and no address.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_loop_set_log(
    r#loop: *mut hail_loop,
    level: i32,
    callback: hail_log_fn,
    user: *mut c_void,
) -> hail_status {
    // SAFETY: the contract.
    unsafe {
        with_loop(r#loop, |shared, _| {
            shared.enter(|inner| {
                if !(HAIL_LOG_OFF..=HAIL_LOG_DEBUG).contains(&level) {
                    return Err(invalid("level is a HAIL_LOG_ number"));
                }
                inner.log = Log { level, callback, user };
                Ok(())
            })
        })
    }
}

/// A counter of the loop by name, such as "accepted": docs/counters.md has them all.
///
/// HAIL_ERR_NOT_FOUND: there is none by that name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_loop_counter(
    r#loop: *const hail_loop,
    name: *const c_char,
    value: *mut u64,
) -> hail_status {
    // SAFETY: the contract.
    let read = unsafe {
        on_loop(r#loop, |inner| {
            let out = output(value, "value")?;
            out.write(handle::counter(inner.net.counters().list(), handle::text(name, "name")?)?);
            Ok(())
        })
    };
    read.err().unwrap_or(Status::Ok).number()
}

/// Makes an object on a loop: `open` puts its node there and says how it is wrapped.
///
/// # Safety
/// `object` is NULL or a live loop, `config` is NULL or a live configuration, `out` is NULL or room for a pointer.
#[cfg(any(feature = "gateway", feature = "device"))]
pub(super) unsafe fn make<T, W: FnOnce(Handle) -> T>(
    object: *const hail_loop,
    config: *const hail_config,
    user: *mut c_void,
    out: *mut *mut T,
    role: &'static str,
    open: impl FnOnce(&mut Loop, &Config) -> Result<(NodeId, W), Fault>,
) -> hail_status {
    // SAFETY: the caller's promise.
    let shared = match unsafe { reference(object) } {
        Ok(object) => object.shared.clone(),
        Err(fault) => return fault.status.number(),
    };
    shared.call(|inner| {
        // SAFETY: the caller's promise.
        let out = unsafe { output(out, role) }?;
        // SAFETY: the caller's promise.
        let config = unsafe { copied(config) }?;
        let (id, wrap) = open(&mut inner.net, &config)?;
        let made = Box::into_raw(Box::new(wrap(Handle { shared: shared.clone(), id })));
        inner.objects.insert(id, Entry { role, source: made.cast(), user });
        inner.log.line(Level::Info, &format!("{role}: made"));
        out.write(made);
        Ok(())
    })
}

/// A turn, and a line of the log for each event of it.
pub(super) fn turn(
    inner: &mut Inner,
    turn: impl FnOnce(&mut Loop) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let before = inner.net.events().len();
    let result = turn(&mut inner.net);
    for (id, event) in inner.net.events().skip(before) {
        if let Some(entry) = inner.objects.get(id) {
            inner.log.event(entry.role, event);
        }
    }
    result
}

/// # Safety
/// `object` is NULL or a live loop.
unsafe fn on_loop<R>(
    object: *const hail_loop,
    body: impl FnOnce(&mut Inner) -> Result<R, Fault>,
) -> Result<R, Status> {
    // SAFETY: the caller's promise. What is needed is copied out, since a callback may free the object.
    let shared = unsafe { reference(object) }.map_err(|fault| fault.status)?.shared.clone();
    shared.enter(body)
}

/// # Safety
/// `object` is NULL or a live loop.
unsafe fn with_loop(
    object: *const hail_loop,
    body: impl FnOnce(&Shared, &Wake) -> Result<(), Status>,
) -> hail_status {
    // SAFETY: the caller's promise. What is needed is copied out, since a callback may free the object.
    let (shared, wake) = match unsafe { reference(object) } {
        Ok(object) => (object.shared.clone(), object.wake.clone()),
        Err(fault) => return fault.status.number(),
    };
    body(&shared, &wake).err().unwrap_or(Status::Ok).number()
}
