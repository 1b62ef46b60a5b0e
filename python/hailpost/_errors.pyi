# Kept like the library's table of statuses by tests/test_package.py.
import builtins
import enum

from ._events import Flow

class Retry(enum.Enum):
    """When it makes sense to try again what failed."""

    NEVER = "never"
    LATER = "later"
    AFTER_CONFIG = "after_config"

class Status(enum.IntEnum):
    """What became of a call or of something asynchronous: the numbers of the C header."""

    OK = 0
    INVALID = -1
    REENTRANT = -2
    UNSUPPORTED = -3
    CONFIG = -4
    NOT_FOUND = -5
    STATE = -6
    IO = -20
    RESOLVE = -21
    CONNECT = -22
    CLOSED = -23
    TIMEOUT = -24
    TLS = -25
    IDENTITY = -26
    LISTEN = -27
    FULL = -40
    STORE = -41
    STORE_CORRUPT = -42
    STORE_VERSION = -43
    STORE_LOCKED = -44
    MALFORMED = -60
    REFUSED = -61
    BARRED = -62
    PATTERN = -63
    WORDS = -64
    PANIC = -90
    NOMEM = -91

class Error(Exception):
    """A failure. Its text says what failed, on what, and what to do; it holds no secret and no peer's address."""

    status: Status
    retry: Retry

class InvalidError(Error, ValueError):
    """An argument is not valid."""

class ReentrantError(Error):
    """The loop was called from its own callback: return first."""

class UnsupportedError(Error):
    """This build leaves that out: link a fuller profile."""

class ConfigError(Error, ValueError):
    """The configuration has an error: the detail names it."""

class NotFoundError(Error, LookupError):
    """There is nothing by that name."""

class StateError(Error):
    """The object is not in a state for that."""

class IoError(Error):
    """The system refused an operation: the detail names it."""

class ResolveError(Error):
    """The host name could not be resolved."""

class ConnectError(Error):
    """The peer could not be reached."""

class ClosedError(Error):
    """The connection was closed."""

class TimeoutError(Error, builtins.TimeoutError):
    """There was no answer in time."""

    number: int
    """Of `Device.put_wait`: the message's, which is given all the same."""

class TlsError(Error):
    """The TLS handshake failed."""

class IdentityError(Error):
    """The peer's key is not the trusted one: check the pin or CA."""

class ListenError(Error):
    """The address cannot be listened on."""

class FullError(Error):
    """A bound is reached: wait for the writable event."""

class StoreError(Error):
    """The store failed: nothing was acknowledged."""

class StoreCorruptError(Error):
    """The store is damaged: it was set aside."""

class StoreVersionError(Error):
    """The store is of a newer version: upgrade first."""

class StoreLockedError(Error):
    """The store is in use by another process."""

class MalformedError(Error, ValueError):
    """The message is malformed: the detail names the octet."""

    flows: list[Flow]
    """Of a capture file that is damaged or cut: the flows of what stood before."""

class RefusedError(Error):
    """The peer refused: the detail has its reason."""

class BarredError(Error):
    """Barred by the operator: it must be allowed again."""

class PatternError(Error, ValueError):
    """The rule's pattern cannot be used: the detail says why."""

class WordsError(Error, ValueError):
    """The words cannot be used: the detail says why."""

class PanicError(Error):
    """A bug in the library: free the loop and report it."""

class NoMemError(Error):
    """Out of memory."""

BY_STATUS: dict[int, type[Error]]

__all__ = [
    "Error",
    "Retry",
    "Status",
    "InvalidError",
    "ReentrantError",
    "UnsupportedError",
    "ConfigError",
    "NotFoundError",
    "StateError",
    "IoError",
    "ResolveError",
    "ConnectError",
    "ClosedError",
    "TimeoutError",
    "TlsError",
    "IdentityError",
    "ListenError",
    "FullError",
    "StoreError",
    "StoreCorruptError",
    "StoreVersionError",
    "StoreLockedError",
    "MalformedError",
    "RefusedError",
    "BarredError",
    "PatternError",
    "WordsError",
    "PanicError",
    "NoMemError",
]
