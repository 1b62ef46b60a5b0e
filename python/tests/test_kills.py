"""kill -9 of an office again and again, under load from real clients: nothing that it acknowledged is lost, and nothing is
shown again after its confirmation was durable.

    HAILPOST_KILLS=100 .venv/bin/python -m pytest -s python/tests/test_kills.py

`HAILPOST_SEED` repeats the moments of a run, as far as a machine does.
"""

from __future__ import annotations

import collections
import os
import random
import signal
import statistics
import time
from pathlib import Path
from typing import Optional

import hailpost
from post import App, OfficeProcess

KILLS = int(os.environ.get("HAILPOST_KILLS", "5"))
SEED = int(os.environ.get("HAILPOST_SEED", time.time_ns() % 1_000_000))
USERS = ["anna", "ben", "carol"]

MAX_GIVEN = 32
"""Messages that a client has given and that are not answered."""
MAX_OPEN = 400
"""Messages for one user that are not confirmed; an office keeps 1,000."""
MAX_LATE = 20
"""Messages that a device has shown and not confirmed, while there is more."""
PATIENCE = 30.0
"""Seconds in which what was acknowledged has to come, once nobody kills any more."""


class Load:
    """Three devices and an application that put, receive and confirm all the time, and remember what they were told."""

    def __init__(self, office: OfficeProcess, stores: Path, random: random.Random) -> None:
        self.office = office
        self.stores = stores
        self.random = random
        self.loop = hailpost.Loop()
        self.devices: dict[str, hailpost.Device] = {}
        self.app: Optional[App] = None
        self.given: dict[str, dict[object, tuple[str, list[str]]]] = {name: {} for name in (*USERS, "news")}
        """Of each client: what it gave and was not answered, by number or id, with the receivers."""
        self.counts: collections.Counter[str] = collections.Counter()
        self.last: dict[str, int] = collections.defaultdict(int)
        self.owed: dict[str, set[str]] = {user: set() for user in USERS}
        """Of each user: what was acknowledged, and was not confirmed."""
        self.shown: dict[str, dict[str, int]] = {user: {} for user in USERS}
        """Of each user: bodies with their sequences."""
        self.bodies: dict[str, dict[int, str]] = {user: {} for user in USERS}
        """The other way round."""
        self.confirming: dict[str, set[int]] = {user: set() for user in USERS}
        """Of each user: what was confirmed and is not durable."""
        self.confirmed: dict[str, set[int]] = {user: set() for user in USERS}
        self.unconfirmed: dict[str, list[int]] = {user: [] for user in USERS}
        self.lives: dict[str, set[int]] = {}
        """Of each user: what was shown in this life of the device."""
        self.started = time.monotonic()
        self.back: list[float] = []
        """Seconds from the office's start to a login."""
        self.longest = 0.0
        """Seconds of one turn: how far this machine is to be trusted with the figure before."""
        self.order: dict[tuple[str, str], int] = {}
        """The last that was shown of a sender to a user."""
        for user in USERS:
            self.open(user)

    def open(self, user: str) -> None:
        line, store = self.office.lines[user], self.stores / f"{user}.db"
        self.devices[user] = hailpost.Device(credential=line, store=store, loop=self.loop)
        self.lives[user] = set()
        self.unconfirmed[user] = []

    def reopen(self, user: str) -> None:
        """A device begins a new life, and is shown again what it did not confirm. The office is dead: nothing comes meanwhile."""
        while self.confirming[user]:
            self.turn(is_giving=True)
        self.devices[user].close()
        self.open(user)
        self.counts["lives"] += 1

    def turn(self, is_giving: bool) -> None:
        """Gives, receives and confirms for a moment."""
        began = time.monotonic()
        self.work(is_giving)
        self.longest = max(self.longest, time.monotonic() - began)

    def work(self, is_giving: bool) -> None:
        for user in USERS:
            if is_giving and self.has_room(user):
                self.put(user)
            # Late, and not in order.
            if len(self.unconfirmed[user]) > (MAX_LATE if is_giving else 0):
                at = self.random.randrange(len(self.unconfirmed[user]))
                sequence = self.unconfirmed[user].pop(at)
                self.devices[user].confirm(sequence)
                self.confirming[user].add(sequence)
        self.talk(is_giving)
        found = self.loop.next_event(0.001)
        while found is not None:
            device, event = found
            user = next(user for user in USERS if self.devices[user] is device)
            self.told(user, event)
            found = self.loop.next_event(0)

    def has_room(self, sender: str) -> bool:
        return len(self.given[sender]) < MAX_GIVEN and all(len(owed) < MAX_OPEN for owed in self.owed.values())

    def compose(self, sender: str) -> tuple[str, list[str]]:
        self.last[sender] += 1
        self.counts["given"] += 1
        receivers = self.random.sample(USERS, self.random.choice((1, 1, 1, 2, 3)))
        return f"{sender} {self.last[sender]} " + "x" * self.random.choice((0, 0, 100, 3000)), receivers

    def put(self, user: str) -> None:
        body, receivers = self.compose(user)
        number = self.devices[user].put([f"user:{name}" for name in receivers], body)
        self.given[user][number] = body, receivers

    def talk(self, is_giving: bool) -> None:
        """The application's side: what was not answered when a connection broke is said again on the next."""
        given = self.given["news"]
        if self.app is None:
            try:
                self.app = self.office.app()
            except (OSError, AssertionError):
                return
            for id in given:
                self.say(id)
        if is_giving and self.has_room("news"):
            given[str(self.last["news"])] = self.compose("news")
            self.say(next(reversed(given)))
        self.app.read(0)
        while self.app.said:
            answer = self.app.said.pop(0)
            assert answer.code == 200 and answer.header("State") in ("stored", "queued"), answer
            self.acknowledged("news", answer.header("Id"))
        if self.app.is_over:
            self.app.close()
            self.app = None

    def say(self, id: object) -> None:
        body, receivers = self.given["news"][id]
        to = ",".join(f"user:{name}" for name in receivers)
        kind = "Kind one" if len(receivers) == 1 else "Kind directed"
        assert self.app is not None
        try:
            self.app.send(id, to, body.encode(), kind, "Offline store")
        except OSError:
            self.app.is_over = True

    def acknowledged(self, sender: str, number: object) -> None:
        body, receivers = self.given[sender].pop(number)
        self.counts["acknowledged"] += 1
        for user in receivers:
            if self.shown[user].get(body) not in self.confirmed[user]:
                self.owed[user].add(body)

    def told(self, user: str, event: hailpost.Event) -> None:
        if isinstance(event, hailpost.Accepted):
            assert event.state in ("stored", "queued")
            self.acknowledged(user, event.number)
        elif isinstance(event, hailpost.Message):
            self.show(user, event)
        elif isinstance(event, hailpost.Confirmed):
            self.confirming[user].remove(event.sequence)
            self.confirmed[user].add(event.sequence)
            self.owed[user].discard(self.bodies[user][event.sequence])
            self.counts["confirmed"] += 1
        elif isinstance(event, hailpost.Welcome):
            assert event.missed == 0
            self.back.append(time.monotonic() - self.started)
        elif isinstance(event, (hailpost.Rejected, hailpost.Expired, hailpost.Refused, hailpost.StoreFailing)):
            raise AssertionError(event)

    def show(self, user: str, message: hailpost.Message) -> None:
        body = message.body.decode()
        known = self.shown[user].setdefault(body, message.sequence)
        assert known == message.sequence, f"{body} was taken twice"
        assert known not in self.confirmed[user], f"{body} is shown again after its confirmation was durable"
        assert known not in self.lives[user], f"{body} is shown twice in a life"
        if message.redelivered:
            self.counts["again"] += 1
        else:
            sender, number, *_ = body.split()
            assert self.order.get((sender, user), 0) < int(number), f"{body} is out of order"
            self.order[sender, user] = int(number)
        self.bodies[user][known] = body
        self.lives[user].add(known)
        self.unconfirmed[user].append(known)
        self.counts["shown"] += 1

    def run(self, seconds: float, is_giving: bool = True) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.turn(is_giving)

    def is_settled(self) -> bool:
        return not any(self.given.values()) and not any(self.owed.values()) and not any(self.unconfirmed.values())

    def close(self) -> None:
        for device in self.devices.values():
            device.close()
        if self.app is not None:
            self.app.close()


def test_an_office_that_is_killed_again_and_again(tmp_path: Path) -> None:
    signal.alarm(120 + 5 * KILLS)
    chance = random.Random(SEED)
    print(f"\nHAILPOST_KILLS={KILLS} HAILPOST_SEED={SEED}")
    began = time.monotonic()
    with OfficeProcess(tmp_path / "office.db", USERS) as office:
        load = Load(office, tmp_path, chance)
        for _ in range(KILLS):
            load.run(chance.uniform(0.0, 0.6))
            office.kill()
            load.run(chance.uniform(0.0, 0.1))
            if chance.random() < 0.2:
                load.reopen(chance.choice(USERS))
            office.start()
            load.started = time.monotonic()
        end = time.monotonic() + PATIENCE
        while not load.is_settled():
            owed = {user: sorted(body.rstrip(" x") for body in owed)[:5] for user, owed in load.owed.items()}
            assert time.monotonic() < end, f"acknowledged and not confirmed: {owed}"
            load.turn(is_giving=False)
        # Nothing comes again, in another life after another kill.
        for user in USERS:
            load.devices[user].close()
        office.kill()
        office.start()
        load.started = time.monotonic()
        before = load.counts["shown"]
        for user in USERS:
            load.open(user)
        load.run(1.0, is_giving=False)
        assert load.counts["shown"] == before and all(device.is_up for device in load.devices.values())
        load.close()
    figures = ", ".join(f"{load.counts[name]} {name}" for name in ("given", "acknowledged", "shown", "again", "confirmed"))
    print(f"{KILLS} kills, {load.counts['lives']} new lives of devices: {figures};")
    print("0 lost, 0 shown again after their confirmation was durable")
    logins = [round(1000 * seconds) for seconds in sorted(load.back)]
    print(f"logged in after a start: median {statistics.median(logins):.0f} ms, {logins[-5:]} ms the slowest of {len(logins)}")
    print(f"longest turn of the clients {1000 * load.longest:.0f} ms; {time.monotonic() - began:.0f} s in all")
    assert load.counts["acknowledged"] > KILLS
