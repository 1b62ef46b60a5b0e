# Kept like the library's table of events by tests/test_package.py.
from dataclasses import dataclass
from typing import ClassVar

from ._errors import Error
from ._types import Address, GatewayInfo, Record

class Event:
    """Something that happened. Which fields an event has, and in which order for `match`, its class says."""

    kind: ClassVar[str]
    """Its name in JSON."""

@dataclass(frozen=True)
class Registered(Event):
    """This gateway registered."""

@dataclass(frozen=True)
class Refused(Event):
    """The back end refused this gateway."""

    reason: int
    text: str

@dataclass(frozen=True)
class Down(Event):
    """The link is lost, or could not be made; it is tried again."""

    error: Error

@dataclass(frozen=True)
class Synced(Event):
    """All that the back end held at registration is here."""

@dataclass(frozen=True)
class Result(Event):
    """The back end told of a result. An app of 0 takes an earlier one back."""

    record: Record

@dataclass(frozen=True)
class Rules(Event):
    """The set of rules changed."""

    count: int

@dataclass(frozen=True)
class Parameters(Event):
    """A trained rule came."""

    app: int
    words: tuple[int, ...]

@dataclass(frozen=True)
class Acknowledged(Event):
    """A report is durable at the back end."""

    record: Record

@dataclass(frozen=True)
class Writable(Event):
    """There is room for reports again."""

@dataclass(frozen=True)
class Deregistered(Event):
    """Off the back end's list."""

    by_backend: bool

@dataclass(frozen=True)
class FeaturesAcknowledged(Event):
    """Reported features are durable at the back end."""

    app: int

@dataclass(frozen=True)
class Flow(Event):
    """A flow ended: what it was, by `how` (rule, model, shared or none), from the end that began it to the other."""

    app: int | None
    app_name: str | None
    how: str
    local: Address
    remote: Address
    protocol: int
    packets: int
    octets: int

@dataclass(frozen=True)
class RuleRejected(Event):
    """A rule that came cannot be used and is left out."""

    app: int
    text: str

@dataclass(frozen=True)
class ReportDropped(Event):
    """A report was given up, which a plain back end never acknowledged."""

    record: Record

@dataclass(frozen=True)
class FeaturesDropped(Event):
    """Reported features were given up, which a plain back end never acknowledged."""

    app: int

@dataclass(frozen=True)
class Recognised(Event):
    """A flow that goes on is recognised, or turns out to be another application: as `Flow`, which comes when it ends."""

    app: int
    app_name: str | None
    how: str
    local: Address
    remote: Address
    protocol: int

@dataclass(frozen=True)
class GatewayRegistered(Event):
    """A gateway registered."""

    gateway: GatewayInfo

@dataclass(frozen=True)
class GatewaySynced(Event):
    """A gateway acknowledged its first sync."""

    gateway: GatewayInfo

@dataclass(frozen=True)
class GatewayRefused(Event):
    """Somebody was refused."""

    reason: int
    text: str
    key: str | None

@dataclass(frozen=True)
class GatewayGone(Event):
    """A gateway is gone."""

    gateway: GatewayInfo
    error: Error

@dataclass(frozen=True)
class GatewayDeregistered(Event):
    """A gateway left, or was taken off."""

    gateway: GatewayInfo
    by_backend: bool

@dataclass(frozen=True)
class Identified(Event):
    """A gateway's identification is durable."""

    gateway: GatewayInfo
    record: Record

@dataclass(frozen=True)
class Features(Event):
    """A gateway's features are durable."""

    gateway: GatewayInfo
    app: int
    words: tuple[int, ...]

@dataclass(frozen=True)
class Durable(Event):
    """What was asked for up to `ticket` is durable."""

    ticket: int

@dataclass(frozen=True)
class Trained(Event):
    """Training ended."""

    group: str
    app: int
    accepted: bool
    text: str

@dataclass(frozen=True)
class StoreFailing(Event):
    """The store fails."""

    error: Error

@dataclass(frozen=True)
class StoreRecovered(Event):
    """The store works again."""

@dataclass(frozen=True)
class Warning(Event):
    """Something to know that is no failure."""

    text: str

BY_KIND: dict[str, type[Event]]

__all__ = [
    "Event",
    "Registered",
    "Refused",
    "Down",
    "Synced",
    "Result",
    "Rules",
    "Parameters",
    "Acknowledged",
    "Writable",
    "Deregistered",
    "FeaturesAcknowledged",
    "Flow",
    "RuleRejected",
    "ReportDropped",
    "FeaturesDropped",
    "Recognised",
    "GatewayRegistered",
    "GatewaySynced",
    "GatewayRefused",
    "GatewayGone",
    "GatewayDeregistered",
    "Identified",
    "Features",
    "Durable",
    "Trained",
    "StoreFailing",
    "StoreRecovered",
    "Warning",
]
