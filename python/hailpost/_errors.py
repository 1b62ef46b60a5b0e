"""The exceptions, one for each status of the library's table."""

from __future__ import annotations

import builtins
import enum
from typing import Any

from ._hailpost import STATUSES


class Retry(enum.Enum):
    """When it makes sense to try again what failed."""

    NEVER = "never"
    LATER = "later"
    AFTER_CONFIG = "after_config"


def _short(constant: str) -> str:
    return constant.replace("HAIL_ERR_", "").replace("HAIL_", "")


Status = enum.IntEnum(  # type: ignore[misc]
    "Status", {_short(constant): number for _, number, constant, _, _ in STATUSES}, module="hailpost"
)
Status.__doc__ = "What became of a call or of something asynchronous: the numbers of the C header."


class Error(Exception):
    """A failure. Its text says what failed, on what, and what to do; it holds no secret and no peer's address."""

    status: Any
    retry: Retry


Error.__module__ = Retry.__module__ = "hailpost"

# What Python's own code would catch.
_ALSO: dict[str, type[Exception]] = {
    "INVALID": ValueError,
    "CONFIG": ValueError,
    "MALFORMED": ValueError,
    "PATTERN": ValueError,
    "WORDS": ValueError,
    "NOT_FOUND": LookupError,
    "TIMEOUT": builtins.TimeoutError,
}

BY_STATUS: dict[int, type[Error]] = {}
"""The class of each status."""

for _variant, _number, _constant, _retry, _text in STATUSES:
    if _number == 0:
        continue
    _bases = (Error, _ALSO[_short(_constant)]) if _short(_constant) in _ALSO else (Error,)
    _members = {
        "__module__": "hailpost",
        "__doc__": f"{_text[0].upper()}{_text[1:]}.",
        "status": Status(_number),
        "retry": Retry(_retry),
    }
    BY_STATUS[_number] = globals()[f"{_variant}Error"] = type(f"{_variant}Error", _bases, _members)

__all__ = ["Error", "Retry", "Status", *(_class.__name__ for _class in BY_STATUS.values())]
