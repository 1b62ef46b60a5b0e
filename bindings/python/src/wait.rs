//! Waiting on the loop's descriptor without holding the loop.

use std::{io, os::fd::RawFd, time::Duration};

/// Waits until `fd` is readable, for at most `limit`. A signal ends the wait early.
///
/// Level-triggered, unlike another epoll around the loop's own: what one step left over ends the next wait at once.
pub fn readable(fd: RawFd, limit: Duration) -> io::Result<()> {
    // Whole milliseconds: rather one too long than to spin.
    let millis = match limit {
        Duration::ZERO => 0,
        limit => libc::c_int::try_from(limit.as_millis() + 1).unwrap_or(libc::c_int::MAX),
    };
    let mut polled = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: `polled` is one pollfd, alive and ours alone for the length of the call.
    let outcome = unsafe { libc::poll(&raw mut polled, 1, millis) };
    match outcome {
        -1 => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        },
        _ => Ok(()),
    }
}
