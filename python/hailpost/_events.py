"""The events, one class for each kind of the library's table."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from ._hailpost import EVENTS


class Event:
    """Something that happened. Which fields an event has, and in which order for `match`, its class says."""

    kind: ClassVar[str] = ""
    """Its name in JSON."""


Event.__module__ = "hailpost"

BY_KIND: dict[str, type[Event]] = {}
"""The class of each kind."""

for _kind, _help, _fields in EVENTS:
    _name = "".join(_part.title() for _part in _kind.split("_"))
    _class = dataclasses.make_dataclass(
        _name,
        _fields,
        bases=(Event,),
        namespace={"kind": _kind, "__doc__": _help, "__module__": "hailpost"},
        frozen=True,
    )
    _class.__module__ = "hailpost"
    BY_KIND[_kind] = globals()[_name] = _class

__all__ = ["Event", *(_class.__name__ for _class in BY_KIND.values())]
