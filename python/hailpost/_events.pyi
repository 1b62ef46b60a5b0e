# Kept like the library's table of events by tests/test_package.py.
from dataclasses import dataclass
from typing import ClassVar

from ._errors import Error
from ._types import Address, GatewayInfo, Record

class Event:
    """Something that happened. Which fields an event has, and in which order for `match`, its class says."""

    kind: ClassVar[str]
    """Its name in JSON."""

BY_KIND: dict[str, type[Event]]
"""The class of each kind."""

@dataclass(frozen=True)
class Registered(Event):
    """This gateway registered."""

@dataclass(frozen=True)
class Refused(Event):
    """The back end refused this gateway: `reason`, `text`."""

    reason: int
    text: str

@dataclass(frozen=True)
class Down(Event):
    """The link is lost, or could not be made; it is tried again: `status`, `text`."""

    error: Error

@dataclass(frozen=True)
class Synced(Event):
    """All that the back end held at registration is here."""

@dataclass(frozen=True)
class Result(Event):
    """The back end told of a result: the fields of a record. `app` 0 takes an earlier one back."""

    record: Record

@dataclass(frozen=True)
class Rules(Event):
    """The set of rules changed: `count` rules hold."""

    count: int

@dataclass(frozen=True)
class Parameters(Event):
    """A trained rule came: `app`, `words`."""

    app: int
    words: tuple[int, ...]

@dataclass(frozen=True)
class Acknowledged(Event):
    """A report is durable at the back end: the fields of a record."""

    record: Record

@dataclass(frozen=True)
class Writable(Event):
    """There is room for reports again."""

@dataclass(frozen=True)
class Deregistered(Event):
    """Off the back end's list: `by_backend`."""

    by_backend: bool

@dataclass(frozen=True)
class FeaturesAcknowledged(Event):
    """Reported features are durable at the back end: `app`."""

    app: int

@dataclass(frozen=True)
class Flow(Event):
    """A flow ended, recognised or not: five-tuple, `app`, `how`, `packets`, `octets`."""

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
    """A rule that came cannot be used and is left out: `app`, `text`."""

    app: int
    text: str

@dataclass(frozen=True)
class ReportDropped(Event):
    """A report was given up, which a plain back end never acknowledged: the fields of a record."""

    record: Record

@dataclass(frozen=True)
class FeaturesDropped(Event):
    """Reported features were given up, which a plain back end never acknowledged: `app`."""

    app: int

@dataclass(frozen=True)
class Recognised(Event):
    """A flow that goes on is recognised, or turns out to be another application: five-tuple, `app`, `how`."""

    app: int
    app_name: str | None
    how: str
    local: Address
    remote: Address
    protocol: int

@dataclass(frozen=True)
class GatewayRegistered(Event):
    """A gateway registered: `gateway`, `name`, `group`, `key`."""

    gateway: GatewayInfo

@dataclass(frozen=True)
class GatewaySynced(Event):
    """A gateway acknowledged its first sync."""

    gateway: GatewayInfo

@dataclass(frozen=True)
class GatewayRefused(Event):
    """Somebody was refused: `key`, `reason`, `text`."""

    reason: int
    text: str
    key: str | None

@dataclass(frozen=True)
class GatewayGone(Event):
    """A gateway is gone: `status`, `text`."""

    gateway: GatewayInfo
    error: Error

@dataclass(frozen=True)
class GatewayDeregistered(Event):
    """A gateway left, or was taken off: `by_backend`."""

    gateway: GatewayInfo
    by_backend: bool

@dataclass(frozen=True)
class Identified(Event):
    """A gateway's identification is durable: `gateway` and the fields of a record."""

    gateway: GatewayInfo
    record: Record

@dataclass(frozen=True)
class Features(Event):
    """A gateway's features are durable: `gateway`, `app`, `words`."""

    gateway: GatewayInfo
    app: int
    words: tuple[int, ...]

@dataclass(frozen=True)
class Durable(Event):
    """What was asked for with `ticket` is durable: at a back end up to it, at an office that alone."""

    ticket: int

@dataclass(frozen=True)
class Trained(Event):
    """Training ended: `group`, `app`, `accepted`, `text`."""

    group: str
    app: int
    accepted: bool
    text: str

@dataclass(frozen=True)
class StoreFailing(Event):
    """The store fails: `status`, `text`. Nothing is acknowledged until it works again."""

    error: Error

@dataclass(frozen=True)
class StoreRecovered(Event):
    """The store works again."""

@dataclass(frozen=True)
class LoggedIn(Event):
    """This device or application is logged in: `resumed`."""

    resumed: bool

@dataclass(frozen=True)
class Welcome(Event):
    """What the office holds for this device follows: `waiting`, and `missed`, which are gone because they were too many or too old."""

    waiting: int
    missed: int

@dataclass(frozen=True)
class Message(Event):
    """A message for this device or application: `sequence`, `sender`, `sent`, `redelivered`, `content_type`, `body`. It comes again in the next life unless it is confirmed."""

    sequence: int
    sender: str
    sent: int
    redelivered: bool
    content_type: str
    body: bytes

@dataclass(frozen=True)
class Confirmed(Event):
    """A confirmation is durable: the message is never shown again: `sequence`."""

    sequence: int

@dataclass(frozen=True)
class Stored(Event):
    """A message of this device is durable here, and goes out once whatever happens: `number`."""

    number: int

@dataclass(frozen=True)
class Accepted(Event):
    """The office has a message of this device: `number`, `state`."""

    number: int
    state: str

@dataclass(frozen=True)
class Rejected(Event):
    """The office will not have a message of this device: `number`, `code`."""

    number: int
    code: int

@dataclass(frozen=True)
class Expired(Event):
    """The time of a message of this device was over before the office had it: `number`."""

    number: int

@dataclass(frozen=True)
class Answer(Event):
    """What became of a request: `request`, `code`."""

    request: int
    code: int

@dataclass(frozen=True)
class Presence(Event):
    """Where a user is, one event for each that was asked for: `user`, `online`, `since`, and `request` of a device or `id` of an application."""

    user: str
    online: bool
    since: int
    request: int | None
    id: str | None

@dataclass(frozen=True)
class Draining(Event):
    """The office is about to stop: it is logged in elsewhere, or later, by itself."""

@dataclass(frozen=True)
class Answered(Event):
    """The end of an application's request: `id`, `code`, and of a message that was taken `state`, of what was refused `text`."""

    id: str
    code: int
    state: str | None
    text: str | None

@dataclass(frozen=True)
class Suspended(Event):
    """This device sends nothing, and has nothing due, until it is resumed: `told`."""

    told: bool

@dataclass(frozen=True)
class DeviceOnline(Event):
    """A device logged in at this office: `inbox`, `resumed`."""

    inbox: int
    resumed: bool

@dataclass(frozen=True)
class DeviceOffline(Event):
    """A device is no longer there: `inbox`, `text`."""

    inbox: int
    text: str

@dataclass(frozen=True)
class Stale(Event):
    """So much waited for a device, or it was silent for so long, that nothing is kept for it until it comes: `inbox`, `missed`."""

    inbox: int
    missed: int

@dataclass(frozen=True)
class Failed(Event):
    """What was asked for cannot be done: `ticket`, `status`, `text`."""

    ticket: int
    error: Error

@dataclass(frozen=True)
class BrokerUp(Event):
    """A broker can be used: a balancer gives it to devices: `name`."""

    name: str

@dataclass(frozen=True)
class BrokerDown(Event):
    """A broker cannot be used any more: `name`, `text`."""

    name: str
    text: str

@dataclass(frozen=True)
class Authenticate(Event):
    """Somebody logs in by a `session` that the store does not know: the application admits or refuses it by this `ticket`."""

    ticket: int
    session: bytes

@dataclass(frozen=True)
class Warning(Event):
    """Something to know that is no failure: `text`."""

    text: str

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
    "LoggedIn",
    "Welcome",
    "Message",
    "Confirmed",
    "Stored",
    "Accepted",
    "Rejected",
    "Expired",
    "Answer",
    "Presence",
    "Draining",
    "Answered",
    "Suspended",
    "DeviceOnline",
    "DeviceOffline",
    "Stale",
    "Failed",
    "BrokerUp",
    "BrokerDown",
    "Authenticate",
    "Warning",
]
