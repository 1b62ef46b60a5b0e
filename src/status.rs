//! The one table of statuses. The header, `hail_status_text`, the Python exceptions and the docs come from here.

/// When it makes sense to try again what failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// The same call fails again, always.
    Never,
    /// The same call may succeed later; what retries by itself does so.
    Later,
    /// Only after the configuration, the enrolment or a file was changed.
    AfterConfig,
}

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $constant:literal, $retry:ident, $text:literal;)+) => {
        /// What became of a call or of something asynchronous. Zero is success, all else is negative and ranged:
        /// 1-19 the caller, 20-39 I/O and TLS, 40-59 queues and storage, 60-79 the protocol, 80-89 channels,
        /// 90-99 fatal. A number is never used again for another meaning.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(i32)]
        pub enum Status { $($(#[$doc])* $name = $number,)+ }

        impl Status {
            /// Every status.
            pub const ALL: &'static [Status] = &[$(Status::$name),+];

            /// Its name in C, such as `HAIL_ERR_FULL`.
            pub const fn constant(self) -> &'static str {
                match self { $(Status::$name => $constant),+ }
            }

            /// One line for people: what it means and what to do.
            pub const fn text(self) -> &'static str {
                match self { $(Status::$name => $text),+ }
            }

            /// Whether trying again can help.
            pub const fn retry(self) -> Retry {
                match self { $(Status::$name => Retry::$retry),+ }
            }
        }
    };
}

statuses! {
    /// Done.
    Ok = 0, "HAIL_OK", Never, "done";

    /// NULL, bad UTF-8, a size or number out of range, an object of another loop or process.
    Invalid = -1, "HAIL_ERR_INVALID", Never, "an argument is not valid";
    /// A call into the loop from a callback of the same loop.
    Reentrant = -2, "HAIL_ERR_REENTRANT", Never, "the loop was called from its own callback: return first";
    /// This build profile or platform leaves the function out.
    Unsupported = -3, "HAIL_ERR_UNSUPPORTED", Never, "this build leaves that out: link a fuller profile";
    /// An option has no such name, or its value cannot be used.
    Config = -4, "HAIL_ERR_CONFIG", AfterConfig, "the configuration has an error: the detail names it";
    /// There is no such gateway, rule, file or object.
    NotFound = -5, "HAIL_ERR_NOT_FOUND", Never, "there is nothing by that name";
    /// The call does not fit the object's state.
    State = -6, "HAIL_ERR_STATE", Later, "the object is not in a state for that";

    /// The system refused an operation on a file or socket.
    Io = -20, "HAIL_ERR_IO", Later, "the system refused an operation: the detail names it";
    /// A host name could not be resolved.
    Resolve = -21, "HAIL_ERR_RESOLVE", Later, "the host name could not be resolved";
    /// No address of the peer took the connection.
    Connect = -22, "HAIL_ERR_CONNECT", Later, "the peer could not be reached";
    /// The connection ended.
    Closed = -23, "HAIL_ERR_CLOSED", Later, "the connection was closed";
    /// Nothing came in time.
    Timeout = -24, "HAIL_ERR_TIMEOUT", Later, "there was no answer in time";
    /// TLS failed.
    Tls = -25, "HAIL_ERR_TLS", AfterConfig, "the TLS handshake failed";
    /// The peer's key is not the one that is trusted.
    Identity = -26, "HAIL_ERR_IDENTITY", AfterConfig, "the peer's key is not the trusted one: check the pin or CA";
    /// An address to listen on is taken or not ours.
    Listen = -27, "HAIL_ERR_LISTEN", AfterConfig, "the address cannot be listened on";

    /// A queue or table is at its bound.
    Full = -40, "HAIL_ERR_FULL", Later, "a bound is reached: wait for the writable event";
    /// The store could not make something durable.
    Store = -41, "HAIL_ERR_STORE", Later, "the store failed: nothing was acknowledged";
    /// The store's file is damaged.
    StoreCorrupt = -42, "HAIL_ERR_STORE_CORRUPT", AfterConfig, "the store is damaged: it was set aside";
    /// The store was written by a newer version.
    StoreVersion = -43, "HAIL_ERR_STORE_VERSION", AfterConfig, "the store is of a newer version: upgrade first";
    /// Another process has the store open.
    StoreLocked = -44, "HAIL_ERR_STORE_LOCKED", Later, "the store is in use by another process";

    /// A message that cannot be read.
    Malformed = -60, "HAIL_ERR_MALFORMED", Never, "the message is malformed: the detail names the octet";
    /// The peer refused.
    Refused = -61, "HAIL_ERR_REFUSED", AfterConfig, "the peer refused: the detail has its reason";
    /// The operator took this gateway off.
    Barred = -62, "HAIL_ERR_BARRED", AfterConfig, "barred by the operator: it must be allowed again";
    /// A rule's pattern cannot be used.
    Pattern = -63, "HAIL_ERR_PATTERN", Never, "the rule's pattern cannot be used: the detail says why";
    /// Features or parameters that cannot be used.
    Words = -64, "HAIL_ERR_WORDS", Never, "the words cannot be used: the detail says why";

    /// Our bug. The loop is of no more use.
    Panic = -90, "HAIL_ERR_PANIC", Never, "a bug in the library: free the loop and report it";
    /// No memory.
    NoMem = -91, "HAIL_ERR_NOMEM", Later, "out of memory";
}

impl Status {
    /// Its number in C.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// After a fatal status only the object's `_free` is useful.
    pub const fn is_fatal(self) -> bool {
        self.number() <= -90
    }
}

/// A failure for people: which status, and what failed, on what, and what to do. Holds no secret and no peer's address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Fault {
    /// The class of failure.
    pub status: Status,
    /// What failed, on what, and what to do.
    pub detail: String,
}

impl Fault {
    /// A failure with its text.
    pub fn new(status: Status, detail: impl Into<String>) -> Fault {
        Fault { status, detail: detail.into() }
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Fault {
        Fault::new(status, status.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_in_its_range_and_alone() {
        let mut numbers: Vec<i32> = Status::ALL.iter().map(|status| status.number()).collect();
        assert!(numbers.iter().all(|number| (-99..=0).contains(number)));
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), Status::ALL.len());
        assert!(Status::ALL.iter().skip(1).all(|status| status.constant().starts_with("HAIL_ERR_")));
    }
}
