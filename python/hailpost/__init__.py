"""Hailpost keeps a device reachable: gateways and their backend, and the recognition of what flows through them.

    with hailpost.Backend("tls://127.0.0.1:7700", identity="backend.pem", store="backend.db") as backend:
        backend.set_rule(app_id=7, pattern=rb"^SSH-2\\.0-")
        for event in backend.events(timeout=5):
            match event:
                case hailpost.Identified(gateway, record):
                    print(gateway.name, record.app, record.remote)

Nothing runs in the background: objects do their work while somebody waits for their events. docs/python.md has more.
"""

from __future__ import annotations

import os
from typing import Final

from ._errors import (
    BarredError,
    ClosedError,
    ConfigError,
    ConnectError,
    Error,
    FullError,
    IdentityError,
    InvalidError,
    IoError,
    ListenError,
    MalformedError,
    NoMemError,
    NotFoundError,
    PanicError,
    PatternError,
    ReentrantError,
    RefusedError,
    ResolveError,
    Retry,
    StateError,
    Status,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
    StoreVersionError,
    TimeoutError,
    TlsError,
    UnsupportedError,
    WordsError,
)
from ._events import (
    Acknowledged,
    Deregistered,
    Down,
    Durable,
    Event,
    Features,
    FeaturesAcknowledged,
    Flow,
    GatewayDeregistered,
    GatewayGone,
    GatewayRefused,
    GatewayRegistered,
    GatewaySynced,
    Identified,
    Parameters,
    Refused,
    Registered,
    Result,
    RuleRejected,
    Rules,
    StoreFailing,
    StoreRecovered,
    Synced,
    Trained,
    Warning,
    Writable,
)
from ._hailpost import (
    FEATURE_COUNT,
    FEATURE_SET,
    Backend,
    Gateway,
    Identity,
    Loop,
    Recognizer,
    __version__,
    decode,
    encode,
)
from ._types import Address, Enrolment, GatewayInfo, GroupInfo, Record, Rule, Sample

TCP: Final = 1
"""A record's protocol."""
UDP: Final = 2
"""A record's protocol."""


def recognize(path: str | os.PathLike[str], rules: str | os.PathLike[str] = "home") -> list[Flow]:
    """The flows of a capture file, with their applications by the rules that ship, or by those of a TOML file."""
    return Recognizer(rules).feed_pcap(path)


__all__ = [
    "FEATURE_COUNT",
    "FEATURE_SET",
    "TCP",
    "UDP",
    "Acknowledged",
    "Address",
    "Backend",
    "BarredError",
    "ClosedError",
    "ConfigError",
    "ConnectError",
    "Deregistered",
    "Down",
    "Durable",
    "Enrolment",
    "Error",
    "Event",
    "Features",
    "FeaturesAcknowledged",
    "Flow",
    "FullError",
    "Gateway",
    "GatewayDeregistered",
    "GatewayGone",
    "GatewayInfo",
    "GatewayRefused",
    "GatewayRegistered",
    "GatewaySynced",
    "GroupInfo",
    "Identified",
    "Identity",
    "IdentityError",
    "InvalidError",
    "IoError",
    "ListenError",
    "Loop",
    "MalformedError",
    "NoMemError",
    "NotFoundError",
    "PanicError",
    "Parameters",
    "PatternError",
    "Recognizer",
    "Record",
    "ReentrantError",
    "Refused",
    "RefusedError",
    "Registered",
    "ResolveError",
    "Result",
    "Retry",
    "Rule",
    "RuleRejected",
    "Rules",
    "Sample",
    "StateError",
    "Status",
    "StoreCorruptError",
    "StoreError",
    "StoreFailing",
    "StoreLockedError",
    "StoreRecovered",
    "StoreVersionError",
    "Synced",
    "TimeoutError",
    "TlsError",
    "Trained",
    "UnsupportedError",
    "Warning",
    "WordsError",
    "Writable",
    "__version__",
    "decode",
    "encode",
    "recognize",
]
