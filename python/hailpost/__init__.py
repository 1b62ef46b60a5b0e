"""Hailpost keeps a device reachable: gateways and their backend, the recognition of what flows through them, and a post
office that keeps messages for devices and people that are not there.

    with hailpost.Backend("tls://127.0.0.1:7700", identity="backend.pem", store="backend.db") as backend:
        backend.set_rule(app_id=7, pattern=rb"^SSH-2\\.0-")
        for event in backend.events(timeout=5):
            match event:
                case hailpost.Identified(gateway, record):
                    print(gateway.name, record.app, record.remote)

Nothing runs in the background: objects do their work while somebody waits for their events. docs/python.md has more.
"""

from __future__ import annotations

import os as _os
from typing import Final as _Final

from ._errors import *  # one class for each status of the library's table
from ._events import *  # one class for each kind of event of the library's table
from ._hailpost import (
    FEATURE_COUNT as FEATURE_COUNT,
    FEATURE_SET as FEATURE_SET,
    App as App,
    Backend as Backend,
    Device as Device,
    Gateway as Gateway,
    Identity as Identity,
    Loop as Loop,
    Office as Office,
    Recognizer as Recognizer,
    __version__ as __version__,
    decode as decode,
    encode as encode,
)
from ._types import *

TCP: _Final = 1
"""A record's protocol."""
UDP: _Final = 2
"""A record's protocol."""


def recognize(path: str | _os.PathLike[str], rules: str | _os.PathLike[str] = "home") -> list[Flow]:
    """The flows of a capture file, with their applications by the rules that ship, or by those of a TOML file."""
    return Recognizer(rules).feed_pcap(path)
