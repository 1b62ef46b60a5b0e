"""The package is what the library's tables say, in its stubs too."""

from __future__ import annotations

import ast
import inspect
import logging
import os
import pickle
import re
import sys
from pathlib import Path

import hailpost
import hailpost._errors
import hailpost._events
import pytest
from hailpost import _hailpost, _log
from house import SSH, House

PACKAGE = Path(hailpost.__file__).parent


def classes(stub: str) -> dict[str, ast.ClassDef]:
    tree = ast.parse((PACKAGE / stub).read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def members(known: ast.ClassDef) -> list[tuple[str, str]]:
    fields = [node for node in known.body if isinstance(node, ast.AnnAssign)]
    return [(ast.unparse(field.target), ast.unparse(field.annotation)) for field in fields]


def events_stub() -> str:
    lines = (PACKAGE / "_events.pyi").read_text().split("@dataclass(frozen=True)")[0]
    for kind, help_, fields in _hailpost.EVENTS:
        lines += f"@dataclass(frozen=True)\nclass {hailpost._events.BY_KIND[kind].__name__}(Event):\n"
        lines += f'    """{help_}"""\n\n'
        lines += "".join(f"    {name}: {annotation}\n" for name, annotation in fields) + ("\n" if fields else "")
    names = ["Event", *(event.__name__ for event in hailpost._events.BY_KIND.values())]
    return lines + "__all__ = [\n" + "".join(f'    "{name}",\n' for name in names) + "]\n"


def test_events_are_those_of_the_table() -> None:
    if os.environ.get("HAILPOST_BLESS"):
        (PACKAGE / "_events.pyi").write_text(events_stub())
    stubbed = classes("_events.pyi")
    del stubbed["Event"]
    assert list(stubbed) == [event.__name__ for event in hailpost._events.BY_KIND.values()]
    for kind, help_, fields in _hailpost.EVENTS:
        event = hailpost._events.BY_KIND[kind]
        assert event.kind == kind and event.__doc__ == help_
        assert getattr(hailpost, event.__name__) is event
        assert members(stubbed[event.__name__]) == fields
        if sys.version_info >= (3, 10):
            assert event.__match_args__ == tuple(name for name, _ in fields)  # type: ignore[attr-defined]


def test_exceptions_are_those_of_the_table() -> None:
    stubbed = classes("_errors.pyi")
    assert [name for name in stubbed if name.endswith("Error")][1:] == [
        error.__name__ for error in hailpost._errors.BY_STATUS.values()
    ]
    numbers = {node.targets[0].id: ast.literal_eval(node.value) for node in stubbed["Status"].body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    assert numbers == {status.name: status.value for status in hailpost.Status}
    for variant, number, constant, retry, text in _hailpost.STATUSES:
        assert hailpost.Status(number).name == constant.replace("HAIL_ERR_", "").replace("HAIL_", "")
        if number == 0:
            continue
        error = hailpost._errors.BY_STATUS[number]
        assert error.__name__ == f"{variant}Error" and issubclass(error, hailpost.Error)
        assert getattr(hailpost, error.__name__) is error
        assert (error.status, error.retry) == (hailpost.Status(number), hailpost.Retry(retry))
        assert error.__doc__ and error.__doc__.lower() == f"{text}.".lower()


def test_options_are_those_of_the_table() -> None:
    types = {
        "int": "int",
        "bool": "bool",
        "str": "str",
        "path": "_StrPath",
        "bytes": "bytes | str",
        "list": "str | Sequence[str]",
    }
    stubbed = classes("_hailpost.pyi")
    for role, name, own in (
        ("backend", "Backend", {"listen"}),
        ("gateway", "Gateway", {"backend"}),
        ("office", "Office", {"listen_devices", "listen_apps"}),
        ("device", "Device", {"office"}),
        ("app", "App", {"office", "app", "app_secret"}),
    ):
        new = next(node for node in stubbed[name].body if isinstance(node, ast.FunctionDef) and node.name == "__new__")
        given = {argument.arg: ast.unparse(argument.annotation or argument) for argument in new.args.kwonlyargs}
        assert given.pop("loop") and ("identity" in given) == (name not in ("App", "Device"))
        given.pop("identity", None)
        table = {
            option: ("_StrPath" if option == "rules" else types[kind]) + " | None"
            for option, of, kind, _, _ in _hailpost.OPTIONS
            if role in of and option not in own
        }
        assert given == table


def test_docstrings_of_stub_and_extension_agree() -> None:
    for name, known in classes("_hailpost.pyi").items():
        runtime = getattr(_hailpost, name)
        for node in known.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                ours, theirs = ast.get_docstring(node), inspect.getdoc(getattr(runtime, node.name))
                assert ours and theirs
                # The lines and stops of a stub are its own.
                words = [re.findall(r"\w+", text.lower()) for text in (ours, theirs)]
                assert words[0] == words[1], f"{name}.{node.name}"


def test_events_match_compare_hash_and_pickle() -> None:
    record = hailpost.Record(7, hailpost.Address("10.0.0.1", 1), hailpost.Address("203.0.113.9", 443), hailpost.TCP)
    gateway = hailpost.GatewayInfo(1, "one", "home", None)
    event = hailpost.Identified(gateway, record)
    assert event == hailpost.Identified(gateway, record) and hash(event) == hash(hailpost.Identified(gateway, record))
    other: hailpost.Event = hailpost.GatewayRegistered(gateway)
    assert event != other
    assert pickle.loads(pickle.dumps(event)) == event
    assert repr(event).startswith("Identified(gateway=GatewayInfo(id=1, ")
    with pytest.raises(AttributeError):
        event.record = record  # type: ignore[misc]
    if sys.version_info >= (3, 10):
        match_program = (
            "match event:\n"
            "    case hailpost.Identified(hailpost.GatewayInfo(name=name), hailpost.Record(app, _, (host, port))):\n"
            "        found = name, app, host, port\n"
        )
        scope = {"hailpost": hailpost, "event": event, "found": None}
        exec(match_program, scope)
        assert scope["found"] == ("one", 7, "203.0.113.9", 443)


def test_logs_say_what_happens_and_no_address_name_or_key(
    caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "hailpost")
    with House("tls") as house:
        identity = hailpost.Identity.generate("livingroom")
        gateway = house.registered("livingroom", identity=identity)
        gateway.report(22, *SSH)
        house.until(gateway, hailpost.Acknowledged)
        house.backend.deregister(identity.key_id)
        house.until(gateway, hailpost.Deregistered)
        house.until(house.gateway("stranger", enrol=False), hailpost.Refused)
        house.until(house.backend, hailpost.GatewayRefused)
        keys = [identity.key_id, house.backend.urls[0][-64:]]
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert "gateway_registered" in logged and "refused" in logged and "acknowledged" in logged
    for secret in (*keys, "127.0.0.1", "192.168", "203.0.113", "livingroom", "home", "stranger"):
        assert secret not in logged


def test_a_bare_transport_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    _log._warned.clear()
    for _ in range(2):
        with House("udp") as house:
            house.gateway()
    assert sum("udp:// protects nothing" in record.getMessage() for record in caplog.records) == 1
