"""Logging through the standard library, to the logger `hailpost`.

What is logged names kinds of events and what failed; no peer's address, name, key or octets.
"""

from __future__ import annotations

import logging
from typing import Optional

logger = logging.getLogger("hailpost")
logger.addHandler(logging.NullHandler())

LEVELS = {
    "down": logging.WARNING,
    "refused": logging.WARNING,
    "rule_rejected": logging.WARNING,
    "gateway_refused": logging.WARNING,
    "gateway_gone": logging.INFO,
    "gateway_registered": logging.INFO,
    "gateway_deregistered": logging.INFO,
    "registered": logging.INFO,
    "deregistered": logging.INFO,
    "trained": logging.INFO,
    "logged_in": logging.INFO,
    "draining": logging.INFO,
    "rejected": logging.WARNING,
    "expired": logging.WARNING,
    "device_online": logging.INFO,
    "device_offline": logging.INFO,
    "stale": logging.WARNING,
    "failed": logging.WARNING,
    "store_failing": logging.ERROR,
    "store_recovered": logging.WARNING,
    "warning": logging.WARNING,
}
"""Levels of events; all others are logged at DEBUG."""

_UNTOLD = {"answered", "failed"}
"""Kinds whose text names people."""

_warned: set[str] = set()


def event(kind: str, text: Optional[str]) -> None:
    """Logs an event that is being handed over."""
    level = LEVELS.get(kind, logging.DEBUG)
    if logger.isEnabledFor(level):
        text = None if kind in _UNTOLD else text
        logger.log(level, "%s: %s" if text else "%s%s", kind, text or "")


def bare(scheme: str) -> None:
    """Warns, once, of a transport that protects nothing."""
    if scheme not in _warned:
        _warned.add(scheme)
        logger.warning("%s:// protects nothing: use tls:// outside networks that you trust", scheme)
