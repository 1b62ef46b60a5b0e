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

from . import _errors, _events
from ._errors import *  # noqa: F403 - one class for each status, from the library's table
from ._events import *  # noqa: F403 - one class for each kind of event, from the library's table
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


def recognize(path: str | os.PathLike[str], rules: str | os.PathLike[str] = "home") -> list[_events.Flow]:
    """The flows of a capture file, with their applications by the rules that ship, or by those of a TOML file."""
    return Recognizer(rules).feed_pcap(path)


__all__ = [
    "FEATURE_COUNT",
    "FEATURE_SET",
    "TCP",
    "UDP",
    "Address",
    "Backend",
    "Enrolment",
    "Gateway",
    "GatewayInfo",
    "GroupInfo",
    "Identity",
    "Loop",
    "Recognizer",
    "Record",
    "Rule",
    "Sample",
    "__version__",
    "decode",
    "encode",
    "recognize",
]
__all__ += _errors.__all__
__all__ += _events.__all__
