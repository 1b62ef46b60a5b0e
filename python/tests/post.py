"""An office with devices on one loop, an office in a process of its own, and an application that speaks text."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Union

import hailpost
from house import PATIENCE, Watched


class Post(Watched):
    """A loop with an office on it."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        options = {"listen_devices": "hail://127.0.0.1:0", "listen_apps": "tcp://127.0.0.1:0", **options}
        self.office = hailpost.Office(loop=self.loop, **options)
        self.users: set[str] = set()
        self.devices: list[hailpost.Device] = []

    def enrol(self, user: str, **options: Any) -> hailpost.DeviceEnrolment:
        """A device of a user, who is added when there is none by that name, and with nothing left to wait for."""
        if user not in self.users:
            self.durable(self.office.add_user(user))
            self.users.add(user)
        enrolment = self.office.add_device(user, **options)
        self.durable(enrolment.ticket)
        return enrolment

    def durable(self, ticket: int) -> None:
        self.until(self.office, hailpost.Durable, lambda event: event.ticket == ticket)

    def open(self, line: Union[str, hailpost.DeviceEnrolment], **options: Any) -> hailpost.Device:
        """A device by its enrolment, which has logged in."""
        credential = line if isinstance(line, str) else line.line
        device = hailpost.Device(credential=credential, loop=self.loop, **options)
        self.devices.append(device)
        self.until(device, hailpost.Welcome)
        return device

    def device(self, user: str, **options: Any) -> hailpost.Device:
        """A new device of a user, which has logged in."""
        return self.open(self.enrol(user), **options)

    def close(self, device: hailpost.Device) -> None:
        """A device says goodbye, and the office hears it."""
        there = self.office.sessions
        device.close()
        self.turn_until(lambda: self.office.sessions < there)

    def app(self, name: str, rights: Union[str, Sequence[str]] = ("send", "broadcast", "query")) -> App:
        """A new application, which has said who it is."""
        enrolment = self.office.add_app(name, rights)
        self.durable(enrolment.ticket)
        app = App(self.office.addresses.apps[0], name, enrolment.secret)
        assert self.answer(app).code == 200
        return app

    def answer(self, app: App) -> Answer:
        """The next answer of the office to an application."""
        self.turn_until(lambda: bool(app.said) or app.read(0) and bool(app.said))
        return app.said.pop(0)

    def message(self, app: App) -> Answer:
        """The next message for an application."""
        self.turn_until(lambda: bool(app.messages) or app.read(0) and bool(app.messages))
        return app.messages.pop(0)

    def __enter__(self) -> Post:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for device in self.devices:
            device.close()
        self.office.close()


class Answer(NamedTuple):
    """An answer of the office, or a message for the application."""

    first: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def code(self) -> int:
        return int(self.first.split()[1])

    def header(self, name: str) -> str:
        return dict(self.headers)[name]


class App:
    """An application: text over TCP, as a person types it."""

    def __init__(self, address: hailpost.Address, name: str, secret: str) -> None:
        self.socket = socket.create_connection(address, PATIENCE)
        self.octets = b""
        self.said: list[Answer] = []
        self.messages: list[Answer] = []
        self.is_over = False
        self.say(f"AUTH {name} {secret}")

    def say(self, *lines: str, body: bytes = b"") -> None:
        self.socket.sendall("".join(f"{line}\n" for line in lines).encode() + body)

    def send(self, id: object, to: str, body: bytes, *headers: str) -> None:
        self.say("SEND HP/1", f"Id {id}", f"To {to}", *headers, f"Content-Length {len(body)}", "", body=body)

    def ask(self, verb: str, *headers: str) -> None:
        self.say(f"{verb} HP/1", *headers, "")

    def read(self, timeout: float) -> bool:
        """Takes in what comes in time. Answers whether something did, the end included."""
        if self.is_over or not select.select([self.socket], [], [], timeout)[0]:
            return False
        try:
            octets = self.socket.recv(1 << 16)
        except ConnectionError:
            octets = b""
        self.octets += octets
        self.is_over = not octets
        while self.cut():
            pass
        return True

    def cut(self) -> bool:
        """Cuts one answer off what has come."""
        head, end, rest = self.octets.partition(b"\r\n\r\n")
        if not end:
            return False
        first, *lines = head.decode().split("\r\n")
        headers = [(name, value) for name, _, value in (line.partition(" ") for line in lines)]
        length = int(dict(headers).get("Content-Length", 0))
        if len(rest) < length:
            return False
        self.octets = rest[length:]
        found = Answer(first, headers, rest[:length])
        (self.messages if first.startswith("MESSAGE ") else self.said).append(found)
        return True

    def next(self) -> Answer:
        """The next that an office in another process says."""
        end = time.monotonic() + PATIENCE
        while not self.said:
            assert self.read(max(0.0, end - time.monotonic())), "the office says nothing"
        return self.said.pop(0)

    def close(self) -> None:
        self.socket.close()


def free_port(kind: socket.SocketKind) -> int:
    """A port that nobody has and nobody is given by chance."""
    while True:
        with socket.socket(socket.AF_INET, kind) as found, contextlib.suppress(OSError):
            port = random.randrange(10_000, 30_000)
            found.bind(("127.0.0.1", port))
            return port


OFFICE = """
import sys, hailpost
store, devices, apps, *users = sys.argv[1:]
with hailpost.Office(devices, apps, store=store) as office:
    print(office.addresses.devices[0].port, office.addresses.apps[0].port, flush=True)
    wanted = {}
    for user in users:
        office.add_user(user)
        enrolment = office.add_device(user)
        wanted[enrolment.ticket] = user, enrolment.line
    if users:
        enrolment = office.add_app("news", ("send", "broadcast", "query"))
        wanted[enrolment.ticket] = "news", enrolment.secret
    for event in office.events():
        if isinstance(event, hailpost.Durable) and event.ticket in wanted:
            print(*wanted.pop(event.ticket), flush=True)
"""


class OfficeProcess:
    """An office in a process of its own, which can be killed and comes back where it was."""

    def __init__(self, store: Path, users: Sequence[str]) -> None:
        self.store = store
        # Not of those that the system gives to clients: one of them could take it while the office is dead.
        self.ports = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
        self.start(users)
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline().strip().partition(" ") for _ in range(len(users) + 1)]
        told = {name: secret for name, _, secret in lines}
        self.secret = told.pop("news")
        self.lines = told

    def start(self, users: Sequence[str] = ()) -> None:
        listens = [f"hail://127.0.0.1:{self.ports[0]}", f"tcp://127.0.0.1:{self.ports[1]}"]
        command = [sys.executable, "-c", OFFICE, str(self.store), *listens, *users]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{self.ports[0]} {self.ports[1]}\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def app(self) -> App:
        app = App(hailpost.Address("127.0.0.1", self.ports[1]), "news", self.secret)
        assert app.next().code == 200
        return app

    def __enter__(self) -> OfficeProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
