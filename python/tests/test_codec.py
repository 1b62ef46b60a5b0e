"""Every `gw_*` and `bad_gw_*` vector of the specification, both ways."""

from __future__ import annotations

from pathlib import Path

import hailpost
import pytest
from hailpost._hailpost import CODECS


def test_every_vector_decodes_and_encodes_again(shared: Path) -> None:
    vectors = shared / "spec" / "vectors"
    good = bad = 0
    for line in (vectors / "vectors.tsv").read_text().splitlines():
        columns = line.split("\t")
        name, family, verdict = columns[0], columns[2], columns[5]
        if not name.startswith(("gw_", "bad_gw_")):
            continue
        octets = bytes.fromhex((vectors / name).read_text())
        kind = "gateway6" if family == "IPv6" else "gateway"
        if verdict == "ok":
            message = hailpost.decode(kind, octets)
            assert hailpost.encode(kind, message) == octets, name
            good += 1
        else:
            with pytest.raises(hailpost.MalformedError) as error:
                hailpost.decode(kind, octets)
            assert verdict in str(error.value), name
            bad += 1
    assert (good, bad) == (33, 7)


def test_a_message_there_and_back() -> None:
    message = {
        "message": "result",
        "source": "192.0.2.1",
        "source_port": 7700,
        "destination": "192.0.2.2",
        "destination_port": 4000,
        "tag": 9,
        "record": {
            "app": 7,
            "local": "10.0.0.1",
            "local_port": 1,
            "remote": "203.0.113.9",
            "remote_port": 443,
            "protocol": 1,
            "reserved1": 0,
            "reserved2": 0,
            "reserved3": 0,
        },
    }
    octets = hailpost.encode("gateway", message)
    assert len(octets) == 40
    assert hailpost.decode("gateway", octets) == message


def test_what_is_wrong_is_named() -> None:
    assert CODECS == ["gateway", "gateway6"]
    with pytest.raises(hailpost.NotFoundError, match="gateway6"):
        hailpost.decode("nonsense", b"")
    with pytest.raises(hailpost.MalformedError):
        hailpost.decode("gateway", b"")
    with pytest.raises(hailpost.InvalidError, match="tag|source"):
        hailpost.encode("gateway", {"message": "heartbeat"})
    with pytest.raises(hailpost.InvalidError, match="NaN|JSON"):
        hailpost.encode("gateway", {"tag": float("nan")})
    with pytest.raises(TypeError):
        hailpost.encode("gateway", {"tag": b"octets"})
    with pytest.raises(TypeError):
        hailpost.decode("gateway", "text")  # type: ignore[arg-type]
