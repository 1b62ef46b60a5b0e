"""Wrong calls fail by name, change nothing, and say what to do."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import hailpost
import pytest
from house import SSH, House


def bare(**options: Any) -> hailpost.Backend:
    return hailpost.Backend("tcp://127.0.0.1:0", **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hartbeat_ms": 5}, "did you mean heartbeat_ms"),
        ({"heartbeat_ms": 0}, "at least 1"),
        ({"heartbeat_ms": "soon"}, "whole number"),
        ({"sends": 21}, "1 to 20"),
        ({"train": "yes"}, "true or false"),
        ({"allow_networks": ["10.0.0.0/33"]}, "prefix"),
        ({"rules": "home"}, "option of a gateway"),
        ({"identity_pem": b"nonsense", "listen": "tls://127.0.0.1:0"}, "identity_pem"),
    ],
)
def test_a_wrong_option_says_what_is_wrong(options: dict[str, Any], says: str) -> None:
    listen = options.pop("listen", "tcp://127.0.0.1:0")
    with pytest.raises(hailpost.ConfigError, match=says) as error:
        hailpost.Backend(listen, **options)
    assert isinstance(error.value, ValueError)
    assert error.value.status is hailpost.Status.CONFIG


def test_an_option_of_a_wrong_type_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="heartbeat_ms: float"):
        bare(heartbeat_ms=1.5)
    with pytest.raises(TypeError):
        hailpost.Backend("tcp://127.0.0.1:0", None)  # type: ignore[misc]
    with pytest.raises(hailpost.ConfigError, match="backend"):
        hailpost.Gateway()


@pytest.mark.parametrize("url", ["", "7700", "http://127.0.0.1", "tcp://127.0.0.1:0/x", "hail://127.0.0.1", "tls://127.0.0.1:1"])
def test_a_wrong_url_says_what_is_wrong(url: str) -> None:
    with pytest.raises(hailpost.ConfigError):
        hailpost.Gateway(url, rules="none")


def test_files_that_are_not_there_or_not_ours_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(hailpost.Error, match="missing"):
        hailpost.Identity.load(missing)
    with pytest.raises(hailpost.ConfigError, match="missing"):
        hailpost.Gateway("tcp://127.0.0.1:1", rules=missing)
    with pytest.raises(hailpost.ConfigError, match="missing"):
        hailpost.Recognizer(missing)
    with pytest.raises(hailpost.IoError, match="missing"):
        hailpost.recognize(missing)
    with pytest.raises(hailpost.IoError):
        bare(store=tmp_path / "no" / "backend.db")
    key = tmp_path / "key.pem"
    identity = hailpost.Identity.generate("one")
    identity.save(key)
    assert hailpost.Identity.load(key).key_id == identity.key_id == hailpost.Identity.from_pem(identity.to_pem()).key_id
    assert "PRIVATE" not in identity.certificate_pem() and identity.key_id in repr(identity)
    with pytest.raises(hailpost.ConfigError, match="key.pem"):
        identity.save(key)
    key.chmod(0o644)
    with pytest.raises(hailpost.ConfigError, match="key.pem"):
        hailpost.Identity.load(key)
    with pytest.raises(hailpost.InvalidError):
        hailpost.Identity.generate("")
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"Z" * 8192)
    with pytest.raises(hailpost.StoreCorruptError):
        bare(store=broken)
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\napp_id = 1\nname = "x"\npattern = "("\n')
    with pytest.raises(hailpost.PatternError, match="line 1"):
        hailpost.Recognizer(rules)


def test_an_address_that_is_taken_is_said() -> None:
    with bare() as backend, pytest.raises(hailpost.ListenError):
        hailpost.Backend(backend.urls[0])


def test_wrong_arguments_change_nothing() -> None:
    with bare(train=False) as backend:
        for pattern in ("", "(", b"\xff", "x*", "a" * 2000, r"(?=x)", "a\0b"):
            with pytest.raises(hailpost.PatternError):
                backend.set_rule(1, pattern)
        with pytest.raises(TypeError):
            backend.set_rule(1, 7)  # type: ignore[arg-type]
        for number in (-1, 1 << 32):
            with pytest.raises(OverflowError):
                backend.set_rule(number, "x")
        with pytest.raises(hailpost.NotFoundError):
            backend.remove_rule(1)
        for key in ("", "zz" * 32, "ab"):
            with pytest.raises(hailpost.InvalidError):
                backend.enrol(key, "one", "home")
        with pytest.raises(hailpost.InvalidError):
            backend.enrol("ab" * 32, "", "home")
        with pytest.raises(hailpost.InvalidError):
            backend.enrol("ab" * 32, "one", "")
        for call in (backend.revoke, backend.deregister, backend.allow):
            with pytest.raises(hailpost.NotFoundError) as error:
                call("ab" * 32)
            assert isinstance(error.value, LookupError)
        with pytest.raises(hailpost.NotFoundError):
            backend.disconnect(99)
        with pytest.raises(hailpost.WordsError):
            backend.set_parameters("home", 1, [])
        with pytest.raises(hailpost.WordsError):
            backend.set_parameters("home", 1, [0] * 257)
        with pytest.raises(hailpost.StateError, match="train"):
            backend.samples("home", 1)
        assert backend.rules() == [] and backend.enrolments() == []
        assert [group.name for group in backend.groups()] == [""]


def test_wrong_reports_are_refused() -> None:
    with hailpost.Gateway("tcp://127.0.0.1:1", rules="none", family=4) as gateway:
        for local, remote in ((("here", 1), SSH[1]), (SSH[0], ("203.0.113.9/8", 22)), (SSH[0], ("", 1))):
            with pytest.raises(hailpost.InvalidError, match="is not an IP address"):
                gateway.report(1, local, remote)
        with pytest.raises(OverflowError):
            gateway.report(1, SSH[0], ("203.0.113.9", 65536))
        with pytest.raises(hailpost.InvalidError, match="protocol"):
            gateway.report(1, *SSH, protocol=16)
        with pytest.raises(hailpost.UnsupportedError, match="family = 6"):
            gateway.report(1, ("fd00::1", 1), ("2001:db8::1", 1))
        with pytest.raises(hailpost.WordsError):
            gateway.report_features(1, [0] * 257)
        with pytest.raises(hailpost.StateError, match="rules"):
            gateway.feed(1, b"")
        assert gateway.pending == 0


def test_timeouts_must_make_sense() -> None:
    with bare() as backend:
        for timeout in (-1.0, float("nan")):
            with pytest.raises(ValueError):
                backend.next_event(timeout)
            with pytest.raises(ValueError):
                backend.events(timeout)
        with pytest.raises(TypeError):
            backend.next_event("soon")  # type: ignore[arg-type]
        assert backend.next_event(0) is None
        assert list(backend.events(timeout=0)) == []


def test_what_is_closed_says_so() -> None:
    with House("tcp") as house:
        gateway = house.registered()
        iterator = gateway.events()
        gateway.close()
        gateway.close()
        assert gateway.closed and "closed" in repr(gateway)
        for call in (gateway.rules, gateway.leave, gateway.counters, gateway.next_event, iterator.__next__):
            with pytest.raises(hailpost.StateError, match="closed"):
                call()
        house.until(house.backend, hailpost.GatewayGone)
        # Its loop and the backend on it go on.
        house.registered("another")


def test_what_nobody_holds_is_taken_off() -> None:
    with House("tcp") as house:
        gateway = hailpost.Gateway(house.backend.urls[0], rules="none", loop=house.loop)
        house.until(gateway, hailpost.Synced)
        house.seen.clear()
        del gateway
        gc.collect()
        house.until(house.backend, hailpost.GatewayGone)


def test_a_loop_with_others_unread_events_says_so_and_loses_nothing() -> None:
    loop = hailpost.Loop()
    with bare(loop=loop) as noisy, bare(loop=loop) as quiet:
        tickets = [noisy.set_parameters("home", 1, [number]) for number in range(5000)]
        with pytest.raises(hailpost.FullError, match="read them too"):
            for _ in range(10_000):
                quiet.next_event(0)
        ticket = quiet.set_rule(1, "x")
        told = list(loop.events(timeout=0.2))
        assert [event.ticket for owner, event in told if owner is quiet and isinstance(event, hailpost.Durable)] == [ticket]
        assert any(owner is noisy for owner, _ in told)
        assert max(event.ticket for owner, event in told if owner is noisy and isinstance(event, hailpost.Durable)) >= tickets[-1]


def test_a_fork_does_not_touch_the_parents_loop(tmp_path: Path) -> None:
    store = tmp_path / "backend.db"
    with bare(store=store) as backend:
        backend.set_rule(1, "x")
        backend.next_event(1)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                backend.rules()
            except hailpost.InvalidError:
                try:
                    backend.close()
                except hailpost.InvalidError:
                    del backend
                    gc.collect()
                    code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        backend.set_rule(2, "y")
    with bare(store=store) as backend:
        assert [rule.app for rule in backend.rules()] == [1, 2]


def test_loops_are_equal_when_they_are_one() -> None:
    loop = hailpost.Loop()
    with bare(loop=loop) as backend, bare() as other:
        assert backend.loop == loop and hash(backend.loop) == hash(loop)
        assert backend.fileno() == loop.fileno() != other.fileno()
        assert other.loop != loop and not loop.__eq__(7)
        assert set(loop.counters()) >= {"accepted"}
