"""What an MQTT broker does with the work that a post office does: mosquitto, with sessions that persist."""

from __future__ import annotations

import resource
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

CONNECT, PUBACK, SUBSCRIBE, PING, DISCONNECT = 0x10, 0x40, 0x82, b"\xc0\x00", b"\xe0\x00"
WINDOW = 100
"""Messages that wait for their acknowledgement."""


class Mosquitto:
    """A broker of its own, on loopback; its files are in `work`."""

    def __init__(self, work: Path) -> None:
        work.mkdir(exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.config = work / "mosquitto.conf"
        # Without the first line a queue of more than a thousand is cut without a word.
        self.config.write_text(
            f"max_queued_messages 0\nlistener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n"
            f"persistence true\npersistence_location {work}/\nlog_type error\n"
        )
        self.start()

    def start(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.process = subprocess.Popen(["mosquitto", "-c", self.config], stderr=subprocess.DEVNULL)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.05)
        raise RuntimeError("mosquitto does not listen")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Mosquitto:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def version(self) -> str:
        said = subprocess.run(["mosquitto", "-h"], stdout=subprocess.PIPE, text=True).stdout
        return " ".join(said.split()[:3]).replace(" version", "")

    def memory(self) -> int:
        """Octets."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) * 1024

    def processor(self) -> float:
        """Seconds."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9

    def connect(self, name: str, clean: bool = True) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = text("MQTT") + bytes([4, 2 if clean else 0]) + struct.pack(">H", 600) + text(name)
        client.sendall(packet(CONNECT, body))
        client.recv(4)
        return client

    def sessions(self, count: int, rate: int, seconds: float) -> tuple[float, float]:
        """Octets of the broker's own memory that a connected client takes; microseconds of processor that a PINGREQ takes, so
        many a second."""
        before = self.memory()
        clients = [self.connect(f"device{at}") for at in range(count)]
        octets = (self.memory() - before) / count
        used, begun, pings = self.processor(), time.monotonic(), 0
        while (passed := time.monotonic() - begun) < seconds:
            if pings > passed * rate:
                time.sleep(0.0005)
                continue
            client = clients[pings % count]
            client.sendall(PING)
            client.recv(2)
            pings += 1
        cost = (self.processor() - used) / pings * 1e6
        for client in clients:
            client.close()
        return octets, cost

    def lost(self, count: int) -> int:
        """Messages of so many acknowledged for a client that was away that did not come after the broker was killed."""
        with self.connect("away", clean=False) as away:
            away.sendall(packet(SUBSCRIBE, struct.pack(">H", 1) + text("away") + b"\x01"))
            away.recv(5)
            away.sendall(DISCONNECT)
        with self.connect("sender") as sender:
            begun, acknowledged = 0, 0
            reader = packets(sender)
            while acknowledged < count:
                while begun < count and begun - acknowledged < WINDOW:
                    begun += 1
                    sender.sendall(packet(0x32, text("away") + struct.pack(">H", begun) + bytes(200)))
                head, _ = next(reader)
                acknowledged += head == PUBACK
        self.kill()
        self.start()
        came = 0
        with self.connect("away", clean=False) as away:
            away.settimeout(2)
            for head, body in packets(away):
                if head & 0xF0 == 0x30:
                    came += 1
                    name = struct.unpack(">H", body[:2])[0]
                    away.sendall(packet(PUBACK, body[2 + name : 4 + name]))
        return count - came


def packets(client: socket.socket) -> Iterator[tuple[int, bytes]]:
    """What comes, until nothing does."""
    held = b""
    while True:
        length, at = 0, 1
        while at < len(held):
            length |= (held[at] & 0x7F) << 7 * (at - 1)
            at += 1
            if held[at - 1] < 0x80:
                break
        if at > 1 and held[at - 1] < 0x80 and len(held) >= at + length:
            yield held[0], held[at : at + length]
            held = held[at + length :]
            continue
        try:
            more = client.recv(65536)
        except TimeoutError:
            return
        if not more:
            return
        held += more


def packet(head: int, body: bytes) -> bytes:
    length, rest = b"", len(body)
    while True:
        rest, low = rest >> 7, rest & 0x7F
        length += bytes([low | (0x80 if rest else 0)])
        if not rest:
            return bytes([head]) + length + body


def text(value: str) -> bytes:
    return struct.pack(">H", len(value)) + value.encode()
