"""Captures become flows, flows become results that the others learn, and samples become models."""

from __future__ import annotations

import csv
import random
import struct
import sys
from pathlib import Path

import capture
import hailpost
import pytest
from conftest import skip
from house import House

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import own_trainer  # noqa: E402

CLIENT, SERVER = ("192.168.1.2", 40000), ("203.0.113.9", 2222)


def test_a_capture_becomes_flows(tmp_path: Path) -> None:
    path = capture.write(tmp_path / "ssh.pcap", [*capture.ssh(CLIENT, SERVER), b"not IP at all, but a frame"])
    [flow] = hailpost.recognize(path)
    assert (flow.app_name, flow.how, flow.protocol, flow.packets) == ("ssh", "rule", hailpost.TCP, 7)
    assert (flow.local, flow.remote) == (CLIENT, SERVER)
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\napp_id = 7\nname = "dropbear"\npattern = "dropbear"\n')
    recognizer = hailpost.Recognizer(rules)
    assert recognizer.names == {7: "dropbear"}
    [flow] = recognizer.feed_pcap(str(path))
    assert (flow.app, flow.app_name) == (7, "dropbear")
    assert recognizer.counters()["frames"] == 8


def test_frames_one_by_one() -> None:
    recognizer = hailpost.Recognizer("home", max_flows=1)
    flows = []
    for number, frame in enumerate(capture.ssh(CLIENT, SERVER)[:5]):
        flows += recognizer.feed(capture.ETHERNET, frame, number / 10)
    # Its greeting was enough, long before it ends.
    assert [(type(flow), flow.app_name, flow.how) for flow in flows] == [(hailpost.Recognised, "ssh", "rule")]
    assert (flows[0].local, flows[0].remote, flows[0].protocol) == (CLIENT, SERVER, hailpost.TCP)
    # There is room for one only: the first ends.
    for frame in capture.ssh(("192.168.1.3", 1), SERVER)[:5]:
        flows += recognizer.feed(capture.ETHERNET, frame)
    flows += recognizer.finish()
    ended = [flow for flow in flows if isinstance(flow, hailpost.Flow)]
    assert [(flow.local.host, flow.app_name) for flow in ended] == [("192.168.1.2", "ssh"), ("192.168.1.3", "ssh")]
    with pytest.raises(hailpost.MalformedError):
        recognizer.feed(capture.ETHERNET, b"")
    with pytest.raises(hailpost.MalformedError, match="link type"):
        recognizer.feed(9999, b"x" * 60)
    with pytest.raises(TypeError):
        recognizer.feed(capture.ETHERNET, "text")  # type: ignore[arg-type]


def test_a_capture_that_is_cut_gives_what_stood_before(tmp_path: Path) -> None:
    whole = capture.write(tmp_path / "whole.pcap", capture.ssh(CLIENT, SERVER))
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(whole.read_bytes()[:-10])
    with pytest.raises(hailpost.MalformedError, match=r"cut\.pcap.*octet") as error:
        hailpost.recognize(cut)
    assert [flow.app_name for flow in error.value.flows] == ["ssh"]
    with hailpost.Gateway("tcp://127.0.0.1:1", rules="home") as gateway:
        with pytest.raises(hailpost.MalformedError, match=r"cut\.pcap.*octet"):
            gateway.feed_pcap(cut)
        assert any(isinstance(event, hailpost.Flow) for event in gateway.events(timeout=0))
    for octets in (b"", b"GIF89a" * 10):
        cut.write_bytes(octets)
        with pytest.raises(hailpost.MalformedError):
            hailpost.recognize(cut)


def test_what_one_gateway_recognises_the_others_learn(tmp_path: Path) -> None:
    path = capture.write(tmp_path / "ssh.pcap", capture.ssh(CLIENT, SERVER))
    with House("tls") as house:
        one, other = house.registered("one", rules="home"), house.registered("other", rules="home")
        assert one.feed_pcap(path) == 7
        early = house.until(one, hailpost.Recognised)
        assert (early.app_name, early.how, early.local, early.remote) == ("ssh", "rule", CLIENT, SERVER)
        flow = house.until(one, hailpost.Flow)
        assert (flow.app_name, flow.how) == ("ssh", "rule")
        record = house.until(house.backend, hailpost.Identified).record
        assert (record.app, record.local, record.remote) == (flow.app, CLIENT, SERVER)
        house.until(other, hailpost.Result)
        # A flow to that place which says nothing to the rules is now known at the other.
        silent = capture.conversation(("192.168.1.9", 1), SERVER, b"?", b"!")
        for number, frame in enumerate(silent):
            other.feed(capture.ETHERNET, frame, number / 10)
        assert house.until(other, hailpost.Recognised).how == "shared"
        other.feed_pcap(capture.write(tmp_path / "none.pcap", []))
        shared = house.until(other, hailpost.Flow)
        assert (shared.app, shared.how) == (flow.app, "shared")
        # Rules of the backend hold on every gateway.
        house.backend.set_rule(7, r"^HELLO\?")
        house.until(other, hailpost.Rules)
        hello = capture.conversation(("192.168.1.9", 2), ("203.0.113.10", 9), b"HELLO?", b"!")
        other.feed_pcap(capture.write(tmp_path / "hello.pcap", hello))
        assert house.until(other, hailpost.Flow).app == 7
        assert other.counters()["recognition_frames"] == 14


def test_labelled_captures_are_recognised(shared: Path) -> None:
    captures = shared / "captures"
    if not (captures / "labels.tsv").exists():
        skip(f"no labelled captures in {captures}")
    with (captures / "labels.tsv").open(newline="") as table:
        labels = list(csv.DictReader(table, delimiter="\t"))
    found: dict[tuple[str, str, frozenset[tuple[str, int]]], str | None] = {}
    for name in {row["pcap"] for row in labels}:
        for flow in hailpost.recognize(captures / "pcap" / name):
            protocol = "TCP" if flow.protocol == hailpost.TCP else "UDP"
            found[name, protocol, frozenset([flow.local, flow.remote])] = flow.app_name
    right = named = 0
    for row in labels:
        ends = frozenset([(row["src_ip"], int(row["src_port"])), (row["dst_ip"], int(row["dst_port"]))])
        got = found[row["pcap"], row["proto"], ends]
        named += got is not None
        right += got == row["app"]
    # How many are named is for the rules' own tests to say; here, that names are theirs.
    assert right >= 0.95 * named > 0


def feature_words(generator: random.Random, centre: float) -> list[int]:
    features = [generator.gauss(centre if number < 8 else 0.0, 1.0) for number in range(hailpost.FEATURE_COUNT)]
    return [hailpost.FEATURE_SET << 16, *struct.unpack(f">{len(features)}I", struct.pack(f">{len(features)}f", *features))]


def test_a_trainer_of_ones_own() -> None:
    generator = random.Random(7)
    with House("tls", max_features_per_gateway=64) as house:
        gateways = [house.registered(f"gateway {number}") for number in range(3)]
        for gateway in gateways:
            for _ in range(24):
                gateway.report_features(7, feature_words(generator, 4.0))
                gateway.report_features(8, feature_words(generator, -4.0))
        house.turn_until(lambda: house.backend.counters()["features"] == 3 * 48)
        # The library trains too; its own models come first.
        for app in (7, 8):
            assert house.until(house.backend, hailpost.Trained, lambda event: event.app == app).group == "home"
        house.turn_until(lambda: all(gateway.pending == 0 for gateway in gateways))
        house.seen.clear()
        samples = house.backend.samples("home", 7)
        assert {sample.app for sample in samples} == {7, 8}
        assert len(samples[0].features) == hailpost.FEATURE_COUNT
        assert sum(sample.weight for sample in samples if sample.app == 7) == pytest.approx(1.0)
        words = own_trainer.train(samples, 7)
        house.backend.offer("home", 7, words)
        with pytest.raises(hailpost.StateError, match="waits"):
            house.backend.offer("home", 7, words)
        judged = house.until(house.backend, hailpost.Trained, lambda event: event.app == 7)
        assert judged.group == "home" and judged.text
        # One that claims nothing is no better than none.
        useless = own_trainer.words(own_trainer.Network([0], [0.0], [1.0], [[0.0]], [0.0], [0.0], -9.0))
        house.backend.offer("home", 8, useless)
        judged = house.until(house.backend, hailpost.Trained, lambda event: event.app == 8)
        assert judged.accepted is False
        with pytest.raises(hailpost.WordsError):
            house.backend.offer("home", 7, [1, 2, 3])
        with pytest.raises(hailpost.NotFoundError):
            house.backend.offer("home", 99, words)
        assert house.backend.samples("elsewhere", 7) == []
