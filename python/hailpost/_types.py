"""What methods return and events carry."""

from __future__ import annotations

import typing
from typing import Optional, Tuple

__all__ = [
    "Address",
    "AppEnrolment",
    "DeviceEnrolment",
    "Enrolment",
    "GatewayEnrolment",
    "GatewayInfo",
    "GroupInfo",
    "Model",
    "OfficeAddresses",
    "Record",
    "Rule",
    "Sample",
]


class Address(typing.NamedTuple):
    """An IP address and a port."""

    host: str
    port: int


class Record(typing.NamedTuple):
    """Flows to a remote end are of an application."""

    app: int
    """AppID."""
    local: Address
    """The end inside. `Address("::", 0)` when it stays with the gateway that saw it."""
    remote: Address
    """The end outside."""
    protocol: int
    """1 TCP, 2 UDP."""


class GatewayInfo(typing.NamedTuple):
    """A gateway that is, or was, registered."""

    id: int
    """Names this registration; never used again."""
    name: str
    """Its name, or for one that proved nothing its address."""
    group: str
    """Whom it shares with."""
    key: Optional[str]
    """The key that it proved, as `Identity.key_id`."""


class GroupInfo(typing.NamedTuple):
    """What a group holds."""

    name: str
    """Empty for what all groups share."""
    gateways: int
    """Gateways registered now."""
    results: int
    """Results that its gateways are told."""
    rules: int
    """Rules of its own."""
    models: int
    """Applications with trained parameters."""


class Enrolment(typing.NamedTuple):
    """An enrolled gateway."""

    key: str
    """As `Identity.key_id`."""
    name: str
    """What people call it."""
    group: str
    """Whom it shares with."""
    trusted: bool
    """Its word alone is enough."""
    barred: bool
    """Taken off by the operator."""


class Model(typing.NamedTuple):
    """A trained model in use."""

    app: int
    """AppID."""
    origin: str
    """trained, offered or installed."""
    revision: int
    """Rises with each model of the application."""
    held: bool
    """It is not trained by itself."""


class Rule(typing.NamedTuple):
    """Flows that a pattern matches are of an application."""

    app: int
    """AppID."""
    pattern: bytes
    """A regular expression over octets."""


class Sample(typing.NamedTuple):
    """A flow's features, for a trainer of one's own."""

    app: int
    """The AppID it was reported for."""
    source: int
    """Who reported it: a number that means only "the same one"."""
    weight: float
    """Those of one AppID add up to 1."""
    features: Tuple[float, ...]
    """The features, in the order of the feature set."""


class OfficeAddresses(typing.NamedTuple):
    """Where an office listens."""

    devices: Tuple[Address, ...]
    """In the order of `listen_devices`."""
    apps: Tuple[Address, ...]
    """In the order of `listen_apps`."""
    inner: Tuple[Address, ...] = ()
    """In the order of `listen_inner`: where brokers apart connect."""


class DeviceEnrolment(typing.NamedTuple):
    """A device that was added."""

    session: str
    """The public name of its credential, in hexadecimal digits: what `revoke_device` takes."""
    line: str
    """What the device is given: the office's URL, a space, the credential. A secret."""
    ticket: int
    """`Durable` names it: from then on the line is good."""

    def __repr__(self) -> str:
        return f"DeviceEnrolment(session={self.session!r}, ticket={self.ticket})"


class GatewayEnrolment(typing.NamedTuple):
    """A gateway that was enrolled for hail://."""

    key: str
    """The name of the key that stands for its credential: what `revoke` and `deregister` take."""
    line: str
    """What the gateway is given: the backend's URL, a space, the credential. A secret."""
    ticket: int
    """`Durable` names it: from then on the line is good."""

    def __repr__(self) -> str:
        return f"GatewayEnrolment(key={self.key!r}, ticket={self.ticket})"


class AppEnrolment(typing.NamedTuple):
    """An application that was added."""

    name: str
    """What it says after AUTH, and first."""
    secret: str
    """What it says then. A secret."""
    ticket: int
    """`Durable` names it: from then on the secret is good."""

    def __repr__(self) -> str:
        return f"AppEnrolment(name={self.name!r}, ticket={self.ticket})"
