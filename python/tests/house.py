"""A loop that is turned until something happened, and a backend with its gateways on one."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Callable, TypeVar, Union

import hailpost

E = TypeVar("E", bound=hailpost.Event)
Node = Union[hailpost.App, hailpost.Backend, hailpost.Device, hailpost.Gateway, hailpost.Office]

PATIENCE = 30.0
"""Seconds after which a test gives up; nothing depends on how fast things are."""

SSH = ("192.168.1.2", 40000), ("203.0.113.9", 22)


class Watched:
    """A loop, and what was told on it."""

    def __init__(self) -> None:
        self.loop = hailpost.Loop()
        self.seen: list[tuple[Node, hailpost.Event]] = []

    def until(self, source: Node, kind: type[E], that: Callable[[E], bool] = lambda _: True) -> E:
        """Turns the loop until `source` tells of such an event, which is then forgotten."""
        end = time.monotonic() + PATIENCE
        while True:
            for at, (owner, event) in enumerate(self.seen):
                if owner is source and isinstance(event, kind) and that(event):
                    del self.seen[at]
                    return event
            left = end - time.monotonic()
            found = self.loop.next_event(max(0.0, left))
            assert found is not None, f"{source} never told of {kind.__name__}; it told of {self.told(source)}"
            self.seen.append(found)

    def turn_until(self, is_so: Callable[[], bool]) -> None:
        """Turns the loop until something is so."""
        end = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < end, "it never was so"
            found = self.loop.next_event(0.02)
            if found is not None:
                self.seen.append(found)

    def told(self, source: Node) -> list[hailpost.Event]:
        return [event for owner, event in self.seen if owner is source]


class House(Watched):
    """A loop with a backend on it."""

    def __init__(self, scheme: str, **options: Any) -> None:
        super().__init__()
        self.scheme = scheme
        self.gateways: list[hailpost.Gateway] = []
        options = {"agreement": 1, **options}
        if scheme == "tls":
            options.setdefault("identity", hailpost.Identity.generate("backend"))
        elif scheme != "hail":
            options.setdefault("open_group", "home")
        self.backend = hailpost.Backend(f"{scheme}://127.0.0.1:0", loop=self.loop, **options)

    def gateway(self, name: str = "one", enrol: bool = True, **options: Any) -> hailpost.Gateway:
        """A gateway, enrolled where that is asked for."""
        options = {"rules": "none", "loop": self.loop, "backoff_ms": 20, "backoff_max_ms": 100, **options}
        if self.scheme == "hail" and enrol:
            options.setdefault("credential", self.backend.enrol_link(name, "home").line)
        if self.scheme == "tls":
            identity = options.setdefault("identity", hailpost.Identity.generate(name))
            if enrol:
                self.backend.enrol(identity.key_id, name, "home")
        gateway = hailpost.Gateway(self.backend.urls[0], **options)
        self.gateways.append(gateway)
        return gateway

    def registered(self, name: str = "one", **options: Any) -> hailpost.Gateway:
        """A gateway that has registered and knows all there is."""
        gateway = self.gateway(name, **options)
        self.until(gateway, hailpost.Registered)
        self.until(gateway, hailpost.Synced)
        return gateway

    def __enter__(self) -> House:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for gateway in self.gateways:
            gateway.close()
        self.backend.close()
