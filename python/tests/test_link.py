"""The link as docs/link-protocol.md has it, spoken by an independent Noise implementation against our server's end.

Nothing of Hailpost is imported: what is here was written from the page.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from noise.connection import Keypair, NoiseConnection  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
SESSION_ID = bytes(range(16))
SECRET = bytes(range(100, 132))


def expand(key: bytes, label: bytes, length: int) -> bytes:
    out = hmac.digest(key, label + b"\x01", hashlib.sha256)
    assert length <= len(out)
    return out[:length]


def extract(salt: bytes, material: bytes) -> bytes:
    return hmac.digest(salt, material, hashlib.sha256)


class Welcome:
    def __init__(self, octets: bytes) -> None:
        self.id, self.interval, _ = struct.unpack(">IHH", octets[:8])
        self.reset = octets[8:20]
        self.resume = octets[20:52]
        self.ticket = octets[52:156]
        self.next_key = octets[156:188]
        assert len(octets) == 188


class Device:
    """A device's end, as much of it as logging in and a message need."""

    def __init__(self, server: tuple[str, int], key: bytes) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(5)
        self.socket.connect(server)
        self.key = key

    def ask(self, request: bytes, cookie_at: int, echo: bytes) -> bytes:
        assert len(request) == 256
        self.socket.send(request)
        answer = self.socket.recv(2048)
        assert len(answer) <= len(request)
        if answer[4] == 2:
            assert answer[8:16] == echo
            request = request[:cookie_at] + answer[16:32] + request[cookie_at + 16 :]
            self.socket.send(request)
            answer = self.socket.recv(2048)
        assert answer[:4] == bytes(4) and answer[5] == 1 and answer[8:16] == echo
        return answer

    def hello(self) -> None:
        noise: Any = NoiseConnection.from_name(b"Noise_NKpsk0_25519_AESGCM_SHA256")
        noise.set_as_initiator()
        noise.set_psks(SECRET)
        noise.set_prologue(b"hailpost link\x01" + SESSION_ID)
        noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, self.key)
        noise.start_handshake()
        first = bytes(noise.write_message(struct.pack(">HH", 0, 30)))
        request = bytes([0, 0, 0, 0, 1, 1]) + self.key[:2] + SESSION_ID + bytes(16)
        request += struct.pack(">H", len(first)) + first
        answer = self.ask(request.ljust(256, b"\0"), 24, first[:8])
        assert answer[4] == 3
        self.begin(Welcome(bytes(noise.read_message(answer[16:]))))
        protocol = noise.noise_protocol
        split = protocol.cipher_state_encrypt.k + protocol.cipher_state_decrypt.k
        self.keys(extract(noise.get_handshake_hash(), split))

    def resume(self) -> None:
        nonce, secret = os.urandom(16), self.welcome.resume
        proven = bytes([0, 0, 0, 0, 5, 1, 0, 0]) + nonce + self.welcome.ticket
        proven += bytes(16) + struct.pack(">HH", 0, 30)
        proof = hmac.digest(expand(secret, b"hail proof", 32), proven, hashlib.sha256)[:16]
        answer = self.ask((proven + proof).ljust(256, b"\0"), 128, nonce[:8])
        assert answer[4] == 6 and len(answer) == 236
        root = extract(nonce + answer[16:32], secret)
        key = AESGCM(expand(root, b"hail resumed", 16))
        self.begin(Welcome(key.decrypt(bytes(12), answer[32:], answer[:32])))
        self.keys(root)

    def begin(self, welcome: Welcome) -> None:
        self.welcome = welcome
        self.counter = 0

    def keys(self, root: bytes) -> None:
        self.data_up = AESGCM(expand(root, b"hail data up", 16))
        self.data_down = AESGCM(expand(root, b"hail data down", 16))
        self.beat_up = AESCCM(expand(root, b"hail beat up", 16), tag_length=8)
        self.beat_down = AESCCM(expand(root, b"hail beat down", 16), tag_length=8)

    def send(self, key: AESGCM | AESCCM, plain: bytes) -> int:
        head = struct.pack(">IH", self.welcome.id, self.counter & 0xFFFF)
        nonce = bytes(4) + struct.pack(">Q", self.counter)
        self.socket.send(head + key.encrypt(nonce, plain, head))
        self.counter += 1
        return self.counter - 1

    def receive(self) -> bytes:
        while True:
            datagram = self.socket.recv(2048)
            head, sealed = datagram[:6], datagram[6:]
            id_, sequence = struct.unpack(">IH", head)
            if id_ == self.welcome.id:
                break
            # Of the session that this one replaced, whose close is still under way.
        nonce = bytes(4) + struct.pack(">Q", sequence)
        key = self.beat_down if len(datagram) == 16 else self.data_down
        return key.decrypt(nonce, sealed, head)

    def exchange(self, message: bytes) -> None:
        """A heartbeat, then a message that comes back."""
        self.send(self.beat_up, b"\x01\x00")
        assert self.receive() == b"\x02\x00"
        pieces = [message[at : at + 480] for at in range(0, len(message), 480)]
        counters = {
            self.send(self.data_up, struct.pack(">BBIHH", 1, 0, 0, index, len(pieces)) + piece)
            for index, piece in enumerate(pieces)
        }
        back: dict[int, bytes] = {}
        while len(back) < len(pieces) or counters:
            plain = self.receive()
            kind, _, number, index, count = struct.unpack(">BBIHH", plain[:10])
            if kind == 1:
                assert (number, count) == (0, len(pieces))
                back[index] = plain[10:]
            elif kind == 2:
                highest, _ = struct.unpack(">QH", plain[10:20])
                last = highest
                for run, gap in struct.iter_unpack(">HH", plain[20:]):
                    counters -= set(range(last - run + 1, last + 1))
                    last -= run + gap
        assert b"".join(back[index] for index in sorted(back)) == message


@pytest.fixture(scope="module")
def program() -> Path:
    build = ["cargo", "build", "--quiet", "--example", "link_server"]
    subprocess.run(build, cwd=ROOT, check=True)
    return ROOT / "target/debug/examples/link_server"


@pytest.fixture(params=[[], ["cookies"]], ids=["at ease", "under load"])
def device(program: Path, request: pytest.FixtureRequest) -> Iterator[Device]:
    command = [program, SESSION_ID.hex(), SECRET.hex(), *request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        address, key = process.stdout.readline().decode().split()
        host, port = address.rsplit(":", 1)
        device = Device((host, int(port)), bytes.fromhex(key))
        yield device
        device.socket.close()
        process.communicate()


def test_a_login_and_a_message(device: Device) -> None:
    device.hello()
    assert device.welcome.interval == 30
    assert device.welcome.next_key == bytes(32)
    device.exchange(b"a short one")


def test_a_message_of_pieces_after_a_resume(device: Device) -> None:
    device.hello()
    device.send(device.beat_up, b"\x01\x00")
    device.receive()
    device.resume()
    device.exchange(os.urandom(4 * 480 + 7))


def test_an_unknown_id_gets_a_reset_with_the_token(device: Device) -> None:
    device.hello()
    device.send(device.data_up, struct.pack(">BBIHHH", 5, 0, 0, 0, 1, 0))
    # To a heartbeat one reset in four is left out; twenty of them are not.
    for _ in range(20):
        device.send(device.beat_up, b"\x01\x00")
    assert device.socket.recv(2048) == struct.pack(">I", device.welcome.id) + device.welcome.reset
