"""Asking a balancer as docs/balancer.md has it, spoken by an independent Noise implementation against our answering end.

Nothing of Hailpost is imported: what is here was written from the page.
"""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
from noise.connection import Keypair, NoiseConnection  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
BROKER = (IPv6Address("::ffff:192.0.2.9"), 7700)


class Asking:
    """One ask and what came of it."""

    def __init__(self, balancer: tuple[str, int], key: bytes) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(5)
        self.socket.connect(balancer)
        self.key = key
        self.cookies = 0

    def ask(self, question: bytes) -> bytes:
        assert len(question) == 84
        noise: Any = NoiseConnection.from_name(b"Noise_NK_25519_AESGCM_SHA256")
        noise.set_as_initiator()
        noise.set_prologue(b"hailpost ask\x01")
        noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, self.key)
        noise.start_handshake()
        first = bytes(noise.write_message(question))
        ask = bytes([0, 0, 0, 0, 7, 1]) + self.key[:2] + bytes(16) + struct.pack(">H", len(first)) + first
        ask = ask.ljust(256, b"\0")
        self.socket.send(ask)
        give = self.socket.recv(2048)
        if give[4] == 2:
            self.cookies += 1
            assert len(give) == 32 and give[8:16] == first[:8]
            self.socket.send(ask[:8] + give[16:32] + ask[24:])
            give = self.socket.recv(2048)
        assert len(give) == 122
        assert give[:8] == bytes([0, 0, 0, 0, 8, 1, 0, 0]) and give[8:16] == first[:8]
        return bytes(noise.read_message(give[16:]))


def question(*brokers: tuple[IPv6Address, int, int, bool]) -> bytes:
    told = b"".join(
        struct.pack(">16sHBB", address.packed, port, rtt, failed) for address, port, rtt, failed in brokers
    )
    return (struct.pack(">HBB", 0, len(brokers), 0) + told).ljust(84, b"\0")


@pytest.fixture(scope="module")
def program() -> Path:
    build = ["cargo", "build", "--quiet", "--example", "balancer_server"]
    subprocess.run(build, cwd=ROOT, check=True)
    return ROOT / "target/debug/examples/balancer_server"


@pytest.fixture(params=[[], ["cookies"]], ids=["at ease", "under load"])
def asking(program: Path, request: pytest.FixtureRequest) -> Iterator[Asking]:
    with subprocess.Popen([program, *request.param], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        address, key = process.stdout.readline().decode().split()
        host, port = address.rsplit(":", 1)
        asking = Asking((host, int(port)), bytes.fromhex(key))
        yield asking
        assert asking.cookies == (1 if request.param else 0)
        asking.socket.close()
        process.communicate()


def test_a_first_login_is_given_a_broker_and_its_key(asking: Asking) -> None:
    state, pause, address, port, key = struct.unpack(">B3xI16sH32s", asking.ask(question()))
    assert (state, pause) == (1, 0)
    assert (IPv6Address(address), port) == BROKER and key == bytes([8] * 32)
    assert IPv6Address(address).ipv4_mapped == IPv4Address("192.0.2.9")


def test_a_broker_that_failed_is_named_and_none_is_an_answer(asking: Asking) -> None:
    state, pause = struct.unpack(">B3xI50x", asking.ask(question((*BROKER, 2, True))))
    assert (state, pause) == (0, 30)
