"""Hailpost in an asyncio program.

    async for event in hailpost.aio.events(backend):
        ...

Work is done by the event loop itself, while somebody iterates over events of the same hailpost loop, or inside attach():
no thread is started.
"""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import time
import weakref
from typing import Optional, Union

from . import App, Backend, Device, Event, Gateway, Loop, Office

__all__ = ["attach", "events", "next_event"]

_Node = Union[App, Backend, Device, Gateway, Office]


@contextlib.contextmanager
def attach(source: Union[_Node, Loop]) -> collections.abc.Iterator[None]:
    """Keeps the work of a loop going, also while nobody iterates. Call it where an asyncio event loop runs."""
    with _Pump.of(source if isinstance(source, Loop) else source.loop):
        yield


async def events(source: _Node, timeout: Optional[float] = None) -> collections.abc.AsyncIterator[Event]:
    """The events of an object, until there was none for `timeout` seconds; without a timeout, until it is closed."""
    pump = _Pump.of(source.loop)
    with pump:
        while True:
            event = await _next(pump, source, timeout)
            if event is None:
                return
            yield event


async def next_event(source: _Node, timeout: Optional[float] = None) -> Optional[Event]:
    """The next event; None when there was none for `timeout` seconds, or when the object was closed."""
    pump = _Pump.of(source.loop)
    with pump:
        return await _next(pump, source, timeout)


async def _next(pump: _Pump, source: _Node, timeout: Optional[float]) -> Optional[Event]:
    until = None if timeout is None else time.monotonic() + timeout
    while not source.closed:
        stepped = pump.stepped
        event = source.next_event(0)
        if event is not None:
            return event
        pump.plan()
        left = None if until is None else max(0.0, until - time.monotonic())
        try:
            await asyncio.wait_for(stepped.wait(), left)
        except asyncio.TimeoutError:
            return None
    return None


class _Pump:
    """Steps a loop when its descriptor is readable or its timeout is over, for all who iterate over its events."""

    _pumps: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, _Pump]] = weakref.WeakKeyDictionary()

    @staticmethod
    def of(net: Loop) -> _Pump:
        host = asyncio.get_running_loop()
        pumps = _Pump._pumps.setdefault(host, {})
        return pumps.setdefault(net.fileno(), _Pump(host, net))

    def __init__(self, host: asyncio.AbstractEventLoop, net: Loop) -> None:
        self.host = host
        self.net = net
        self.users = 0
        self.timer: Optional[asyncio.TimerHandle] = None
        self.stepped = asyncio.Event()

    def __enter__(self) -> None:
        self.users += 1
        if self.users == 1:
            self.host.add_reader(self.net.fileno(), self.step)
            self.plan()

    def __exit__(self, *_: object) -> None:
        self.users -= 1
        if self.users == 0:
            self.host.remove_reader(self.net.fileno())
            if self.timer is not None:
                self.timer.cancel()
            _Pump._pumps[self.host].pop(self.net.fileno(), None)

    def plan(self) -> None:
        """Sees to it that a step is done in time."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        wait = self.net.timeout()
        if wait is not None:
            self.timer = self.host.call_later(wait, self.step)

    def step(self) -> None:
        self.net.step()
        self.plan()
        self.stepped.set()
        self.stepped = asyncio.Event()
