"""What the C programs in ctests/ do too: both ends over each transport."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import hailpost
import pytest
from house import PATIENCE, SSH, House

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import own_trainer  # noqa: E402


def test_a_gateway_registers_and_beats(house: House) -> None:
    gateway = house.gateway(heartbeat_ms=20)
    assert gateway.state == "down"
    registered = house.until(house.backend, hailpost.GatewayRegistered).gateway
    house.until(gateway, hailpost.Registered)
    house.until(gateway, hailpost.Synced)
    assert house.until(house.backend, hailpost.GatewaySynced).gateway == registered
    assert gateway.state == "active"
    assert house.backend.gateways() == [registered]
    assert registered.group == "home"
    assert (registered.key is not None) == (house.scheme in ("tls", "hail"))
    house.turn_until(lambda: gateway.counters()["heartbeats"] >= 3)
    with pytest.raises(hailpost.InvalidError):
        gateway.set_heartbeat_ms(0)
    gateway.set_heartbeat_ms(10)
    assert house.backend.counters()["registrations"] == 1


def test_a_result_travels_from_one_gateway_to_the_others(house: House) -> None:
    one, other = house.registered("one"), house.registered("other")
    local, remote = SSH
    one.report(22, local, remote)
    assert one.pending == 1
    identified = house.until(house.backend, hailpost.Identified)
    assert identified.record == hailpost.Record(22, hailpost.Address(*local), hailpost.Address(*remote), hailpost.TCP)
    acknowledged = house.until(one, hailpost.Acknowledged)
    assert acknowledged.record == identified.record
    assert one.pending == 0
    told = house.until(other, hailpost.Result).record
    assert told == hailpost.Record(22, hailpost.Address("::", 0), hailpost.Address(*remote), hailpost.TCP)
    assert house.backend.results("home") == [told] == other.results()
    assert (other.result(remote), other.result(remote, hailpost.UDP)) == (22, None)
    assert house.backend.pending == 0
    assert house.backend.results("elsewhere") == []
    # One that comes later is told at its registration.
    assert house.registered("late").results() == [told]
    assert [group.results for group in house.backend.groups()] == [0, 1]


def test_an_ipv6_result_travels_too(house: House) -> None:
    one, other = house.registered("one"), house.registered("other")
    one.report(7, ("fd00::2", 1), ("2001:db8::9", 443), hailpost.UDP)
    told = house.until(other, hailpost.Result).record
    assert (told.remote, told.protocol) == (("2001:db8::9", 443), hailpost.UDP)


def test_rules_reach_every_gateway_and_go_again(house: House) -> None:
    gateway = house.registered()
    ticket = house.backend.set_rule(22, rb"^SSH-2\.0-")
    house.until(house.backend, hailpost.Durable, lambda event: event.ticket >= ticket)
    house.until(gateway, hailpost.Rules, lambda event: event.count == 1)
    house.backend.set_rule(80, "^GET ", group="home")
    house.until(gateway, hailpost.Rules, lambda event: event.count == 2)
    assert gateway.rules() == [hailpost.Rule(22, rb"^SSH-2\.0-"), hailpost.Rule(80, b"^GET ")]
    assert house.backend.rules("home") == gateway.rules()
    assert house.backend.rules() == [hailpost.Rule(22, rb"^SSH-2\.0-")]
    house.backend.remove_rule(22)
    house.until(gateway, hailpost.Rules, lambda event: event.count == 1)
    assert gateway.rules() == [hailpost.Rule(80, b"^GET ")]


def test_parameters_reach_every_gateway(house: House) -> None:
    gateway = house.registered()
    words = [1, 2, 0x3F80_0000, 0xFFFF_FFFF]
    house.backend.set_parameters("home", 7, words)
    assert house.until(gateway, hailpost.Parameters).app == 7
    assert house.backend.parameters("home", 7) == tuple(words)
    assert house.backend.parameters("home", 8) is None


def test_models_are_taken_back_and_held() -> None:
    with House("tls") as house:
        gateway = house.registered()
        first, second = (own_trainer.words(silent(bias)) for bias in (-1.0, -2.0))
        with pytest.raises(hailpost.NotFoundError):
            house.backend.hold("home", 7)
        house.backend.set_parameters("home", 7, first)
        with pytest.raises(hailpost.NotFoundError, match="no earlier"):
            house.backend.roll_back("home", 7)
        house.until(gateway, hailpost.Parameters, lambda event: event.words[-1] == first[-1])
        house.backend.set_parameters("home", 7, second)
        house.until(gateway, hailpost.Parameters, lambda event: event.words[-1] == second[-1])
        assert house.backend.models("home") == [hailpost.Model(7, "installed", 2, False)]
        ticket = house.backend.roll_back("home", 7)
        house.until(house.backend, hailpost.Durable, lambda event: event.ticket >= ticket)
        house.until(gateway, hailpost.Parameters, lambda event: event.words[-1] == first[-1])
        [model] = house.backend.models("home")
        assert model.held
        house.backend.hold("home", 7, held=False)
        assert [model.held for model in house.backend.models("home")] == [False]
        assert house.backend.models("elsewhere") == []


def silent(bias: float) -> own_trainer.Network:
    """A model that looks at one feature and says nothing by it."""
    return own_trainer.Network([0], [0.0], [1.0], [[0.0]], [0.0], [0.0], bias)


def test_features_reach_the_backend(house: House) -> None:
    gateway = house.registered()
    gateway.report_features(7, [0x0001_0000, 0x3F80_0000])
    assert house.until(gateway, hailpost.FeaturesAcknowledged).app == 7
    features = house.until(house.backend, hailpost.Features)
    assert (features.app, features.words) == (7, (0x0001_0000, 0x3F80_0000))


def test_a_gateway_leaves_and_comes_back(house: House) -> None:
    gateway = house.registered()
    gateway.leave()
    assert house.until(gateway, hailpost.Deregistered).by_backend is False
    assert house.until(house.backend, hailpost.GatewayDeregistered).by_backend is False
    assert house.backend.gateways() == []
    gateway.join()
    house.until(gateway, hailpost.Registered)


def test_the_backend_takes_off_a_gateway_that_proved_nothing() -> None:
    for scheme in ("tcp", "udp"):
        with House(scheme) as house:
            gateway = house.registered()
            house.backend.disconnect(house.backend.gateways()[0].id)
            assert house.until(gateway, hailpost.Deregistered).by_backend is True


def test_the_backend_bars_a_gateway_and_allows_it_again() -> None:
    with House("tls") as house:
        identity = hailpost.Identity.generate("one")
        gateway = house.registered(identity=identity)
        house.backend.deregister(identity.key_id)
        assert house.until(gateway, hailpost.Deregistered).by_backend is True
        assert [known.barred for known in house.backend.enrolments()] == [True]
        gateway.join()
        house.until(gateway, hailpost.Refused)
        # Enrolling it again, under another name, does not let it in.
        house.backend.enrol(identity.key_id, "again", "home")
        gateway.join()
        house.until(gateway, hailpost.Refused)
        house.backend.allow(identity.key_id)
        gateway.join()
        house.until(gateway, hailpost.Registered)
        assert house.backend.gateways()[0].name == "again"
        house.backend.revoke(identity.key_id)
        house.until(house.backend, hailpost.GatewayDeregistered)
        assert house.backend.enrolments() == []


def test_a_stranger_is_refused_and_learns_nothing() -> None:
    with House("tls") as house:
        house.backend.set_rule(1, "secret")
        stranger = house.gateway("stranger", enrol=False)
        refused = house.until(stranger, hailpost.Refused)
        assert refused.text
        told = house.until(house.backend, hailpost.GatewayRefused)
        assert told.key is not None and len(told.key) == 64
        assert stranger.rules() == []
    with House("tcp", open_group=None) as house:
        house.until(house.gateway(), hailpost.Refused)


def test_a_wrong_pin_is_noticed() -> None:
    with House("tls") as house:
        url = house.backend.urls[0].replace("pin=", "pin=" + "0" * 64 + "&pin=").rsplit("&", 1)[0]
        identity = hailpost.Identity.generate("one")
        house.backend.enrol(identity.key_id, "one", "home")
        with hailpost.Gateway(url, identity=identity, rules="none", loop=house.loop) as gateway:
            error = house.until(gateway, hailpost.Down).error
            assert isinstance(error, hailpost.IdentityError)
            assert error.status is hailpost.Status.IDENTITY
            assert error.retry is hailpost.Retry.AFTER_CONFIG
            assert gateway.state == "down"


def test_nobody_there_is_said_and_tried_again() -> None:
    with hailpost.Gateway("tcp://127.0.0.1:1", rules="none", backoff_ms=10) as gateway:
        for _ in range(2):
            event = gateway.next_event(PATIENCE)
            assert isinstance(event, hailpost.Down)
            assert isinstance(event.error, hailpost.ConnectError)


def test_a_name_that_does_not_resolve_is_said() -> None:
    with hailpost.Gateway("tcp://nowhere.invalid:7700", rules="none") as gateway:
        event = gateway.next_event(PATIENCE)
        assert isinstance(event, hailpost.Down)
        assert isinstance(event.error, (hailpost.ResolveError, hailpost.TimeoutError))


def test_full_then_writable() -> None:
    with House("tcp") as house:
        gateway = house.gateway(max_reports=2)
        local, (host, port) = SSH
        gateway.report(1, local, (host, port))
        gateway.report(2, local, (host, port + 1))
        with pytest.raises(hailpost.FullError) as full:
            gateway.report(3, local, (host, port + 2))
        assert full.value.retry is hailpost.Retry.LATER
        house.until(gateway, hailpost.Writable)
        gateway.report(3, local, (host, port + 2))
        house.until(gateway, hailpost.Acknowledged, lambda event: event.record.app == 3)


BACKEND = """
import sys, hailpost
url, store, identity = sys.argv[1:]
with hailpost.Backend(url, store=store, identity=identity, agreement=1) as backend:
    print(backend.urls[0], flush=True)
    if key := sys.stdin.readline().strip():
        backend.enrol(key, "one", "home")
    for event in backend.events():
        if isinstance(event, hailpost.Durable):
            print("enrolled", flush=True)
"""


def test_a_backend_that_is_killed_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    store, key = tmp_path / "backend.db", tmp_path / "backend.pem"
    hailpost.Identity.generate("backend").save(key)
    assert key.stat().st_mode & 0o777 == 0o600
    identity = hailpost.Identity.generate("one")

    def start(url: str, enrol: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", BACKEND, url, str(store), str(key)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(enrol + "\n")
        process.stdin.close()
        return process, process.stdout.readline().strip()

    process, url = start("tls://127.0.0.1:0", identity.key_id)
    assert process.stdout is not None
    assert process.stdout.readline() == "enrolled\n"
    acknowledged: set[int] = set()
    with hailpost.Gateway(url, identity=identity, rules="none", backoff_ms=20, backoff_max_ms=100) as gateway:
        local, (host, _) = SSH
        for port in range(1, 201):
            gateway.report(7, local, (host, port))
        for event in gateway.events(PATIENCE):
            if isinstance(event, hailpost.Acknowledged):
                acknowledged.add(event.record.remote.port)
                if len(acknowledged) == 50:
                    break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        kept = set(acknowledged)
        process, again = start(url.split("?")[0], "")
        assert process.stdout is not None
        try:
            assert again == url
            # It comes back by itself, and tells what was not acknowledged.
            for event in gateway.events(PATIENCE):
                if isinstance(event, hailpost.Acknowledged):
                    acknowledged.add(event.record.remote.port)
                if len(acknowledged) == 200 and gateway.pending == 0:
                    break
            assert acknowledged == set(range(1, 201))
            assert gateway.counters()["registrations"] >= 2
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    with hailpost.Backend("tls://127.0.0.1:0", store=store, identity=key, agreement=1) as backend:
        assert {known.remote.port for known in backend.results("home")} == acknowledged >= kept
        assert [known.key for known in backend.enrolments()] == [identity.key_id]
        other = "import sys, hailpost; hailpost.Backend('tcp://127.0.0.1:0', store=sys.argv[1])"
        refused = subprocess.run([sys.executable, "-c", other, str(store)], capture_output=True, text=True)
        assert "hailpost.StoreLockedError" in refused.stderr
    assert store.stat().st_mode & 0o777 == 0o600


def test_what_was_asked_for_is_written_when_it_is_closed(tmp_path: Path) -> None:
    store = tmp_path / "backend.db"
    with hailpost.Backend("tcp://127.0.0.1:0", store=store) as backend:
        backend.set_rule(7, "^x")
        backend.enrol("ab" * 32, "one", "home")
    with hailpost.Backend("tcp://127.0.0.1:0", store=store) as backend:
        assert backend.rules() == [hailpost.Rule(7, b"^x")]
        assert backend.enrolments() == [hailpost.Enrolment("ab" * 32, "one", "home", False, False)]
