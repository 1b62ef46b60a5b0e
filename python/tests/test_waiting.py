"""Waits: other threads run, signals are seen, other loops can do the waiting."""

from __future__ import annotations

import asyncio
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import hailpost
import hailpost.aio
import pytest
from house import PATIENCE, SSH, House

WAITS = """
import sys, threading, hailpost
backend = hailpost.Backend("tcp://127.0.0.1:0")
if sys.argv[1] == "office":
    waiter = hailpost.Office("hail://127.0.0.1:0", "tcp://127.0.0.1:0")
elif sys.argv[1] == "device":
    waiter = hailpost.Device("hail://127.0.0.1:1?key=" + "A" * 43, credential="A" * 64)
elif sys.argv[1] == "app":
    waiter = hailpost.App("tcp://127.0.0.1:1", "news", "s3cret")
elif sys.argv[1] == "shared":
    other = hailpost.Gateway("tcp://127.0.0.1:1", rules="none", loop=backend.loop, backoff_ms=60_000)
    threading.Thread(target=backend.next_event, daemon=True).start()
    waiter = other.loop
else:
    waiter = backend
try:
    print("waiting", flush=True)
    for event in waiter.events():
        pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
    backend.close()
    sys.exit(42)
"""


@pytest.mark.parametrize("how", ["private", "shared", "office", "device", "app"])
def test_ctrl_c_ends_a_wait(how: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", WAITS, how], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        # A tenth of a second, on a machine that has nothing else to do.
        assert process.wait(timeout=5) == 42
        assert process.stdout.read() == "interrupted\n"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_signal_handler_runs_during_a_wait() -> None:
    class Rang(Exception):
        pass

    def ring(number: int, frame: object) -> None:
        raise Rang

    with hailpost.Backend("tcp://127.0.0.1:0") as backend:
        old = signal.signal(signal.SIGUSR1, ring)
        try:
            threading.Timer(0.05, signal.raise_signal, (signal.SIGUSR1,)).start()
            with pytest.raises(Rang):
                backend.next_event(PATIENCE)
        finally:
            signal.signal(signal.SIGUSR1, old)
        assert backend.next_event(0) is None


def test_another_thread_runs_and_calls_while_one_waits() -> None:
    with House("tcp") as house:
        gateway = house.registered()
        events: list[hailpost.Event] = []
        waits = threading.Event()

        def wait() -> None:
            waits.set()
            for event in gateway.events():
                events.append(event)

        thread = threading.Thread(target=wait)
        thread.start()
        waits.wait()
        # The one who waits turns the loop for the backend too: this needs no wait of ours.
        house.backend.set_rule(1, "x")
        gateway.report(22, *SSH)
        end = time.monotonic() + PATIENCE
        while len(events) < 2 and time.monotonic() < end:
            assert gateway.state == "active"
            time.sleep(0.001)
        assert {type(event) for event in events} >= {hailpost.Rules, hailpost.Acknowledged}
        # Closing ends the other's wait.
        gateway.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_each_of_two_threads_gets_its_own_events() -> None:
    with House("tcp") as house:
        one, other = house.registered("one"), house.registered("other")
        house.loop.step()
        got: dict[str, set[int]] = {"one": set(), "other": set()}
        count = 200

        def listen(name: str, gateway: hailpost.Gateway) -> None:
            for event in gateway.events(PATIENCE):
                if isinstance(event, (hailpost.Result, hailpost.Acknowledged)):
                    got[name].add(event.record.remote.port)
                if len(got[name]) == count:
                    return

        threads = [
            threading.Thread(target=listen, args=("one", one)),
            threading.Thread(target=listen, args=("other", other)),
        ]
        for thread in threads:
            thread.start()
        for port in range(1, count + 1):
            one.report(7, ("10.0.0.1", 1), ("203.0.113.9", port))
        for thread in threads:
            thread.join(PATIENCE)
        assert got["one"] == got["other"] == set(range(1, count + 1))


def test_many_threads_on_one_backend_do_no_harm() -> None:
    with House("tcp") as house:
        backend = house.backend

        def work(number: int) -> None:
            for turn in range(50):
                backend.set_rule(number, f"^{turn}x")
                backend.rules()
                backend.next_event(0)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(backend.rules()) == 400


def test_a_loop_of_ones_own_can_do_the_waiting() -> None:
    with House("tls") as house:
        gateway = house.gateway()
        poll = select.poll()
        poll.register(house.loop, select.POLLIN)
        seen: list[hailpost.Event] = []
        end = time.monotonic() + PATIENCE
        while not any(isinstance(event, hailpost.Synced) for event in seen):
            assert time.monotonic() < end
            wait = house.loop.timeout()
            poll.poll(None if wait is None else wait * 1000 + 1)
            house.loop.step()
            while (found := house.loop.next_event(0)) is not None:
                seen.append(found[1])
        assert gateway.state == "active"


def test_wake_and_calls_make_the_descriptor_readable() -> None:
    with hailpost.Backend("tcp://127.0.0.1:0") as backend:
        loop = backend.loop
        for call in (loop.wake, lambda: backend.set_rule(1, "x"), loop.network_changed):
            while backend.next_event(0) is not None:
                pass
            loop.step()
            assert select.select([loop], [], [], 0)[0] == []
            call()
            assert select.select([loop], [], [], PATIENCE)[0] == [loop]


def test_asyncio() -> None:
    async def main() -> None:
        loop = hailpost.Loop()
        with hailpost.Backend("tcp://127.0.0.1:0", open_group="home", agreement=1, loop=loop) as backend:
            one = hailpost.Gateway(backend.urls[0], rules="none", loop=loop)
            # Another on a loop of its own.
            other = hailpost.Gateway(backend.urls[0], rules="none")
            told: list[hailpost.Record] = []

            async def watch() -> None:
                async for event in hailpost.aio.events(backend):
                    if isinstance(event, hailpost.Identified):
                        told.append(event.record)

            async def until(gateway: hailpost.Gateway, kind: type[hailpost.Event]) -> hailpost.Event:
                async for event in hailpost.aio.events(gateway, PATIENCE):
                    if isinstance(event, kind):
                        return event
                raise AssertionError(kind)

            watcher = asyncio.create_task(watch())
            await asyncio.gather(until(one, hailpost.Synced), until(other, hailpost.Synced))
            one.report(22, *SSH)
            _, result = await asyncio.gather(until(one, hailpost.Acknowledged), until(other, hailpost.Result))
            assert isinstance(result, hailpost.Result) and result.record.remote == SSH[1]
            assert [record.remote for record in told] == [SSH[1]]
            # An iteration can be cancelled, and another one begun.
            watcher.cancel()
            with pytest.raises(asyncio.CancelledError):
                await watcher
            backend.set_rule(1, "x")
            with hailpost.aio.attach(backend):
                assert await hailpost.aio.next_event(other, PATIENCE) == hailpost.Rules(1)
            assert await hailpost.aio.next_event(one, PATIENCE) == hailpost.Rules(1)
            assert await hailpost.aio.next_event(one, 0.01) is None
            # Closing ends an iteration.
            ended = asyncio.create_task(until(other, hailpost.Warning))
            await asyncio.sleep(0.01)
            other.close()
            with pytest.raises(AssertionError):
                await asyncio.wait_for(ended, PATIENCE)
            one.close()

    asyncio.run(main())
