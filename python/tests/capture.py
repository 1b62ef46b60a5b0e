"""Captures made of nothing: frames of one TCP flow, and a pcap file around them."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from pathlib import Path

ETHERNET = 1


def tcp(source: tuple[str, int], target: tuple[str, int], flags: int, sequence: int, data: bytes = b"") -> bytes:
    """An Ethernet frame with a TCP segment over IPv4."""
    segment = struct.pack("!HHIIBBHHH", source[1], target[1], sequence, 1, 5 << 4, flags, 65535, 0, 0) + data
    addresses = ipaddress.IPv4Address(source[0]).packed + ipaddress.IPv4Address(target[0]).packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 1, 0, 64, 6, 0) + addresses
    return b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" + header + segment


def conversation(client: tuple[str, int], server: tuple[str, int], says: bytes, answers: bytes) -> list[bytes]:
    """A connection on which each end says something."""
    return [
        tcp(client, server, 0x02, 0),
        tcp(server, client, 0x12, 0),
        tcp(client, server, 0x10, 1),
        tcp(server, client, 0x18, 1, answers),
        tcp(client, server, 0x18, 1, says),
        tcp(client, server, 0x11, 1 + len(says)),
        tcp(server, client, 0x11, 1 + len(answers)),
    ]


def ssh(client: tuple[str, int], server: tuple[str, int]) -> list[bytes]:
    return conversation(client, server, b"SSH-2.0-OpenSSH_9.2\r\n", b"SSH-2.0-dropbear_2022.83\r\n")


def write(path: Path, frames: Sequence[bytes], start: float = 1_700_000_000.0) -> Path:
    """A classic pcap file, ten milliseconds from frame to frame."""
    octets = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, ETHERNET)
    for number, frame in enumerate(frames):
        micros = round((start + number / 100) * 1_000_000)
        octets += struct.pack("<IIII", *divmod(micros, 1_000_000), len(frame), len(frame)) + frame
    path.write_bytes(octets)
    return path
