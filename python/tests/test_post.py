"""The post office: an office, its devices and applications, on one machine."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import logging
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import hailpost
import hailpost.aio
import pytest
from conftest import ROOT
from house import PATIENCE
from post import OfficeProcess, Post, free_port


def test_device_login(tmp_path: Path) -> None:
    with Post(announce=True) as post:
        enrolment = post.enrol("anna")
        assert enrolment.line.startswith(f"{post.office.urls[0]} ") and len(enrolment.session) == 32
        assert enrolment.line not in repr(enrolment)
        file = tmp_path / "anna.credential"
        file.touch(mode=0o600)
        file.write_text(enrolment.line + "\n")
        for resumed in (False, True):
            device = hailpost.Device(credential_file=file, store=tmp_path / "device.db", loop=post.loop)
            assert not device.is_up
            assert post.until(device, hailpost.LoggedIn).resumed is resumed
            assert post.until(device, hailpost.Welcome) == hailpost.Welcome(0, 0)
            assert post.until(post.office, hailpost.DeviceOnline).resumed is resumed
            assert device.is_up and post.office.sessions == 1
            device.close()
            assert post.until(post.office, hailpost.DeviceOffline).text == "it said goodbye"
            assert post.office.sessions == 0
        assert post.office.counters()["link_resumed"] == 1


def test_credentials_of_others() -> None:
    """The application knows the credentials, and the office whom it was told that they stand for."""
    with Post(ask_authentication=True) as post:
        key = post.office.urls[0]
        names = {bytes([at]) * 16: (f"user{at}", bytes([at, 1]) * 16) for at in (1, 2)}

        def knock(session: bytes, secret: bytes) -> hailpost.Device:
            credential = base64.urlsafe_b64encode(session + secret).decode().rstrip("=")
            device = hailpost.Device(credential=f"{key} {credential}", loop=post.loop)
            post.devices.append(device)
            return device

        def answer() -> None:
            asked = post.until(post.office, hailpost.Authenticate)
            if asked.session not in names:
                return post.office.refuse(asked.ticket)
            user, secret = names[asked.session]
            post.office.admit(asked.ticket, user, device=asked.session, secret=secret)

        stranger = knock(bytes(16), bytes(32))
        answer()
        assert "not known" in post.until(stranger, hailpost.Refused).text
        assert post.office.sessions == 0
        for session, (_, secret) in names.items():
            device = knock(session, secret)
            answer()
            post.until(device, hailpost.Welcome)
        first, second = post.devices[1:]
        first.put("user:user2", "from somebody else's user")
        message = post.until(second, hailpost.Message)
        assert message.sender == "user:user1"
        with pytest.raises(hailpost.InvalidError):
            post.office.admit(1, "no spaces", device=bytes(16), secret=bytes(32))


def test_device_put_and_confirm() -> None:
    with Post() as post:
        anna, ben, carol = (post.device(user) for user in ("anna", "ben", "carol"))
        number = anna.put("user:ben", "h\u00e9llo", content_type="text/plain;charset=utf-8")
        assert post.until(anna, hailpost.Stored).number == number
        message = post.until(ben, hailpost.Message)
        assert post.until(anna, hailpost.Accepted) == hailpost.Accepted(number, "queued")
        assert (message.sender, message.redelivered) == ("user:anna", False)
        assert (message.content_type, message.body) == ("text/plain;charset=utf-8", "h\u00e9llo".encode())
        ben.confirm(message)
        assert post.until(ben, hailpost.Confirmed).sequence == message.sequence
        with pytest.raises(hailpost.NotFoundError):
            ben.confirm(message.sequence)
        # To several, each once.
        anna.put(("user:ben", "user:carol", "user:ben"), b"\0\xff")
        for device in (ben, carol):
            message = post.until(device, hailpost.Message)
            assert message.body == b"\0\xff"
            device.confirm(message.sequence)
            post.until(device, hailpost.Confirmed)
        number = anna.put_wait("user:nobody", "x", timeout=PATIENCE)
        assert post.until(anna, hailpost.Rejected) == hailpost.Rejected(number, 404)
        assert anna.waiting == 0
        assert [event for event in post.told(ben) if isinstance(event, hailpost.Message)] == []
        assert ben.counters()["confirmed"] == 2


def test_device_away_and_back(tmp_path: Path) -> None:
    with Post() as post:
        anna, line = post.device("anna"), post.enrol("ben").line
        numbers = [anna.put("user:ben", str(number), keep=number != 3) for number in range(1, 6)]
        states = dict(dataclasses.astuple(post.until(anna, hailpost.Accepted)) for _ in numbers)
        assert [states[number] for number in numbers] == ["stored", "stored", "dropped", "stored", "stored"]
        store = tmp_path / "ben.db"
        for life in range(2):
            ben = hailpost.Device(credential=line, store=store, loop=post.loop)
            assert post.until(ben, hailpost.Welcome) == hailpost.Welcome(waiting=4, missed=0)
            shown = [post.until(ben, hailpost.Message) for _ in range(4)]
            assert [message.body for message in shown] == [b"1", b"2", b"4", b"5"]
            assert [message.redelivered for message in shown] == [life == 1] * 4
            if life == 0:
                post.close(ben)
        for message in shown:
            ben.confirm(message)
            post.until(ben, hailpost.Confirmed)
        post.turn_until(lambda: post.office.counters()["hub_confirmed"] == 4)
        post.close(ben)
        ben = post.open(line, store=store)
        anna.put("user:ben", "6")
        assert post.until(ben, hailpost.Message).body == b"6"


def test_device_suspended() -> None:
    with Post() as post:
        anna, ben = post.device("anna"), post.device("ben")
        ben.resume()
        ben.set_metered(True)
        ben.suspend(3600)
        with pytest.raises(hailpost.StateError):
            ben.suspend()
        assert post.until(ben, hailpost.Suspended) == hailpost.Suspended(told=True)
        beats = ben.counters()["link_heartbeats"]
        anna.put("user:ben", "are you awake")
        assert post.until(anna, hailpost.Accepted).state == "queued"
        assert post.office.counters()["link_slept"] == 1
        assert not [event for event in post.told(ben) if isinstance(event, hailpost.Message)]
        ben.resume()
        assert post.until(ben, hailpost.Message).body == b"are you awake"
        assert ben.counters()["link_heartbeats"] == beats + 1
        assert ben.counters()["link_sessions"] == 1


PUTS = """
import sys, time, hailpost
line, store = sys.argv[1:]
device = hailpost.Device(credential=line, store=store)
for number in range(20):
    print(device.put_wait("user:ben", str(number), timeout=20), flush=True)
device.put("user:ben", "it may be lost")
time.sleep(60)
"""


def test_device_outbox_survives(tmp_path: Path) -> None:
    office, store = tmp_path / "office.db", tmp_path / "anna.db"
    with Post(store=office) as post:
        anna, ben, urls = post.enrol("anna").line, post.enrol("ben").line, post.office.urls
    process = subprocess.Popen([sys.executable, "-c", PUTS, anna, str(store)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    stored = [int(process.stdout.readline()) for _ in range(20)]
    process.kill()
    process.wait()
    process.stdout.close()
    with Post(store=office, listen_devices=urls[0].split("?")[0]) as post:
        assert post.office.urls == urls
        device = post.open(anna, store=store)
        accepted = [post.until(device, hailpost.Accepted).number for _ in range(20)]
        assert accepted == stored
        receiver = post.open(ben)
        bodies = [post.until(receiver, hailpost.Message).body for _ in range(20)]
        assert bodies == [str(number).encode() for number in range(20)]
        # Nothing goes out again.
        last = device.put("user:ben", "last")
        post.until(device, hailpost.Accepted, lambda event: event.number == last)
        post.until(receiver, hailpost.Message, lambda event: event.body == b"last")
        again = [event for event in post.told(receiver) if isinstance(event, hailpost.Message)]
        assert [message.body for message in again] in ([], [b"it may be lost"])


def test_what_was_put_is_written_when_it_is_closed(tmp_path: Path) -> None:
    options = {"credential": "A" * 64, "store": tmp_path / "device.db"}
    for waiting in range(3):
        with hailpost.Device("hail://127.0.0.1:1?key=" + "A" * 43, **options) as device:  # type: ignore[arg-type]
            assert device.waiting == waiting
            device.put("user:anna", "x")
    assert (tmp_path / "device.db").stat().st_mode & 0o777 == 0o600


def test_office_restart(tmp_path: Path) -> None:
    with OfficeProcess(tmp_path / "office.db", ["anna", "ben"]) as office:
        with hailpost.Device(credential=office.lines["anna"]) as anna:
            confirmed: set[bytes] = set()
            bodies: dict[int, bytes] = {}
            app = office.app()
            for number in range(50):
                app.send(number, "user:anna", str(number).encode(), "Offline store")
            for event in anna.events(PATIENCE):
                if isinstance(event, hailpost.Message):
                    bodies[event.sequence] = event.body
                    if len(confirmed) < 10:
                        anna.confirm(event)
                if isinstance(event, hailpost.Confirmed):
                    confirmed.add(bodies[event.sequence])
                if len(bodies) == 20:
                    break
            office.kill()
            acknowledged = set()
            while app.read(PATIENCE):
                pass
            assert app.is_over
            for answer in app.said:
                assert answer.code == 200 and answer.header("State") in ("stored", "queued")
                acknowledged.add(answer.header("Id").encode())
            app.close()
            office.start()
            app = office.app()
            # What was not acknowledged is sent again: it is taken once.
            for number in range(50):
                app.send(number, "user:anna", str(number).encode(), "Offline store")
                assert app.next().code == 200
            app.close()
            # What was shown and not confirmed is not shown again in the same life.
            for sequence in bodies:
                with contextlib.suppress(hailpost.NotFoundError):
                    anna.confirm(sequence)
            for event in anna.events(PATIENCE):
                if isinstance(event, hailpost.Message):
                    assert event.sequence not in bodies and not event.redelivered
                    bodies[event.sequence] = event.body
                    anna.confirm(event)
                if isinstance(event, hailpost.Confirmed):
                    confirmed.add(bodies[event.sequence])
                if len(confirmed) == 50:
                    break
            assert acknowledged <= confirmed == {str(number).encode() for number in range(50)}
            assert sorted(bodies.values(), key=int) == [str(number).encode() for number in range(50)]
            # All of it may have come in the first session, whose loss it is told of now.
            while anna.counters()["link_sessions"] < 2:
                assert anna.next_event(PATIENCE)


def test_app_sends() -> None:
    with Post() as post:
        anna = post.device("anna")
        app = post.app("news")
        app.send(17, "user:anna", b"hello", "Offline store", "Content-Type text/markdown")
        answer = post.answer(app)
        assert (answer.code, answer.header("Id"), answer.header("State")) == (200, "17", "queued")
        message = post.until(anna, hailpost.Message)
        assert (message.sender, message.content_type, message.body) == ("app:news", "text/markdown", b"hello")
        anna.confirm(message)
        # The same again is taken once; another by its id is refused.
        app.send(17, "user:anna", b"hello", "Offline store", "Content-Type text/markdown")
        assert post.answer(app).code == 200
        app.send(17, "user:anna", b"other", "Offline store")
        assert post.answer(app).code == 409
        app.send(18, "user:nobody", b"x")
        assert post.answer(app).code == 404
        # A device writes to an application.
        anna.put("app:news", "to the editor")
        letter = post.message(app)
        assert (letter.header("From"), letter.body) == ("user:anna", b"to the editor")
        app.ask("CONFIRM", f"Id {letter.header('Id')}")
        assert post.answer(app).code == 200
        # What waits can be withdrawn.
        post.enrol("ben")
        app.send(19, "user:ben", b"oh no", "Offline store")
        assert post.answer(app).header("State") == "stored"
        app.ask("CANCEL", "Id 19")
        assert post.answer(app).code == 200
        app.ask("PING")
        assert post.answer(app).code == 200
        assert post.office.counters()["apps_connections"] == 1
        with pytest.raises(hailpost.StateError):
            post.office.add_app("news", "send")
        with pytest.raises(hailpost.InvalidError):
            post.office.add_app("other", "everything")


def test_app_class(tmp_path: Path) -> None:
    with Post() as post:
        anna, line = post.device("anna"), post.enrol("ben").line
        enrolment = post.office.add_app("news", ("send", "broadcast", "query"))
        assert enrolment.secret not in repr(enrolment)
        post.durable(enrolment.ticket)
        (tmp_path / "secret").touch(mode=0o600)
        (tmp_path / "secret").write_text(enrolment.secret + "\n")
        host, port = post.office.addresses.apps[0]
        url = f"tcp://{host}:{port}"
        with hailpost.App(url, "news", app_secret_file=tmp_path / "secret", loop=post.loop) as app:
            # Before it is logged in too.
            id = app.send("user:anna", "hello", content_type="text/markdown")
            answered = post.until(app, hailpost.Answered)
            assert (answered.id, answered.code, answered.state) == (id, 200, "queued") and app.is_up
            message = post.until(anna, hailpost.Message)
            assert (message.sender, message.content_type, message.body) == ("app:news", "text/markdown", b"hello")
            anna.confirm(message)
            # To one who is away: kept, or not; withdrawn.
            states = {app.send("user:ben", "kept"): "stored", app.send("user:ben", "not", keep=False): "dropped"}
            for _ in states:
                answered = post.until(app, hailpost.Answered)
                assert states[answered.id] == answered.state
            id = app.send(["user:ben", "user:anna"], b"oh no", id="my-own")
            assert id == "my-own"
            post.until(app, hailpost.Answered, lambda event: event.id == id)
            post.until(anna, hailpost.Message)
            [kept, *_] = states
            app.cancel(kept)
            assert post.until(app, hailpost.Answered, lambda event: event.id == kept).code == 200
            app.send("user:nobody", "x")
            refused = post.until(app, hailpost.Answered)
            assert refused.code == 404 and refused.text
            # A device writes back.
            anna.put("app:news", b"to the editor")
            letter = post.until(app, hailpost.Message)
            assert (letter.sender, letter.body, letter.redelivered) == ("user:anna", b"to the editor", False)
            app.confirm(letter)
            with pytest.raises(hailpost.NotFoundError):
                app.confirm(letter.sequence)
            asked = app.query(["anna", "ben"])
            told = [post.until(app, hailpost.Presence) for _ in range(2)]
            assert [(one.id, one.user, one.online) for one in told] == [(asked, "anna", True), (asked, "ben", False)]
            assert told[0].request is None
            assert post.until(app, hailpost.Answered).id == asked
            # To who follows it, to everybody, to everybody for a while.
            anna.subscribe("news")
            post.until(anna, hailpost.Answer)
            for body, options in (
                ("followers", {"kind": "directed"}),
                ("everybody", {"kind": "broadcast"}),
                ("for a while", {"kind": "broadcast", "period": (1, 4_000_000_000)}),
            ):
                app.send("*", body, **options)
                assert post.until(anna, hailpost.Message).body == body.encode()
            ben = post.open(line)
            bodies = {post.until(ben, hailpost.Message).body for _ in range(2)}
            assert bodies == {b"oh no", b"for a while"}
            for to, options in (("*", {}), ("anna", {}), ("user:anna", {"kind": "all"}), ("user:anna", {"id": "a b"})):
                with pytest.raises(hailpost.InvalidError):
                    app.send(to, "x", **options)  # type: ignore[arg-type]
            post.turn_until(lambda: app.pending == 0)
            assert app.counters()["logins"] == 1
        with hailpost.App(url, "news", "another", loop=post.loop) as stranger:
            assert post.until(stranger, hailpost.Refused).reason == 401
        with pytest.raises(hailpost.ConfigError, match="app_secret"):
            hailpost.App(url, "news")
        with pytest.raises(hailpost.ConfigError, match="clear"):
            hailpost.App("tcp://192.0.2.1:7701", "news", "s3cret")


def test_presence_query() -> None:
    with Post() as post:
        anna, ben = post.device("anna"), post.device("ben")
        post.close(ben)
        request = anna.query(["anna", "ben", "nobody"])
        told = [post.until(anna, hailpost.Presence) for _ in range(3)]
        assert [presence.request for presence in told] == [request] * 3
        assert [(presence.user, presence.online) for presence in told] == [
            ("anna", True),
            ("ben", False),
            ("nobody", False),
        ]
        assert told[0].since > 0
        app = post.app("news", "query")
        app.ask("QUERY", "Id q", "To user:anna,user:ben")
        words = [value.split()[:2] for name, value in post.answer(app).headers if name == "Presence"]
        assert words == [["user:anna", "online"], ["user:ben", "offline"]]
        app.send(1, "user:anna", b"x")
        assert post.answer(app).code == 403


def test_broadcast() -> None:
    with Post() as post:
        anna, ben = post.device("anna"), post.device("ben")
        app = post.app("news")
        app.send(1, "*", b"all", "Kind broadcast")
        assert post.answer(app).code == 200
        for device in (anna, ben):
            assert post.until(device, hailpost.Message).body == b"all"
        request = anna.subscribe("news")
        assert post.until(anna, hailpost.Answer) == hailpost.Answer(request, 200)
        app.send(2, "*", b"subscribers", "Kind directed", "Offline store")
        assert post.answer(app).code == 200
        assert post.until(anna, hailpost.Message).body == b"subscribers"
        request = anna.unsubscribe("news")
        assert post.until(anna, hailpost.Answer) == hailpost.Answer(request, 200)
        request = ben.subscribe("weather")
        assert post.until(ben, hailpost.Answer) == hailpost.Answer(request, 404)
        app.send(3, "*", b"nobody any more", "Kind directed", "Offline store")
        post.answer(app)
        app.send(4, "*", b"the end", "Kind broadcast")
        for device in (anna, ben):
            assert post.until(device, hailpost.Message).body == b"the end"
        quiet = post.app("quiet", "send")
        quiet.send(1, "*", b"all", "Kind broadcast")
        assert post.answer(quiet).code == 403


def test_a_user_can_have_nothing_kept() -> None:
    with Post() as post:
        anna, ben = post.device("anna"), post.device("ben")
        request = ben.keep(False)
        assert post.until(ben, hailpost.Answer) == hailpost.Answer(request, 200)
        post.close(ben)
        anna.put("user:ben", "x")
        assert post.until(anna, hailpost.Accepted).state == "dropped"


def test_refused_credential() -> None:
    with Post() as post:
        line = post.enrol("anna").line
        # Whose session id nobody knows is told so.
        with hailpost.Device(credential=f"{line.split()[0]} {'A' * 64}", loop=post.loop) as device:
            assert "enrol" in post.until(device, hailpost.Refused).text and not device.is_up
        # Who knows the id and not the secret gets no answer.
        other = line[:-2] + ("AA" if line[-2:] != "AA" else "BA")
        with hailpost.Device(credential=other, loop=post.loop) as device:
            post.turn_until(lambda: post.office.counters()["link_bad_hellos"] >= 2)
            assert not device.is_up
        assert post.office.sessions == 0
    for wrong in ("short", "", f"tcp://127.0.0.1:1 {'A' * 64}"):
        with pytest.raises(hailpost.ConfigError) as error:
            hailpost.Device(credential=wrong)
        assert "A" * 64 not in str(error.value)
    with pytest.raises(hailpost.ConfigError, match="credential_file"):
        hailpost.Device("hail://127.0.0.1:7700?key=" + "A" * 43)


def test_revoked_device() -> None:
    with Post() as post:
        enrolment = post.enrol("anna")
        other, device = post.device("anna"), post.open(enrolment)
        post.durable(post.office.revoke_device(enrolment.session))
        error = post.until(device, hailpost.Down).error
        assert isinstance(error, hailpost.RefusedError) and "revoked" in str(error)
        post.until(device, hailpost.Refused)
        assert other.is_up and not device.is_up
        again = post.office.revoke_device(enrolment.session)
        failed = post.until(post.office, hailpost.Failed)
        assert failed.ticket == again and isinstance(failed.error, hailpost.NotFoundError)
        for wrong in ("", "x" * 32, "+" + "0" * 31, enrolment.session + "0"):
            with pytest.raises(hailpost.InvalidError):
                post.office.revoke_device(wrong)


def test_an_operator_is_told_what_cannot_be() -> None:
    with Post() as post:
        post.durable(post.office.add_user("anna"))
        for ticket in (post.office.add_user("anna"), post.office.add_device("nobody").ticket):
            failed = post.until(post.office, hailpost.Failed, lambda event: event.ticket == ticket)
            assert isinstance(failed.error, (hailpost.StateError, hailpost.NotFoundError))
        with pytest.raises(hailpost.InvalidError):
            post.office.add_user("an,na")
        named = post.office.add_device("anna", host="office.example", expires=1).line
        assert named.startswith(f"hail://office.example:{post.office.addresses.devices[0].port}?key=")
        assert post.office.add_device("anna", host="2001:db8::7", device=bytes(16)).line.startswith("hail://[2001:db8::7]:")
        for wrong in ("a/b", "0.0.0.0", ""):
            with pytest.raises(hailpost.InvalidError, match="host"):
                post.office.add_device("anna", host=wrong)
        with pytest.raises((ValueError, TypeError)):
            post.office.add_device("anna", device=bytes(15))
    with Post(listen_devices="hail://0.0.0.0:0") as post:
        with pytest.raises(hailpost.InvalidError, match="host"):
            post.office.add_device("anna")


def test_full_outbox() -> None:
    with Post() as post:
        line = post.enrol("anna").line
        post.enrol("ben")
        anna = hailpost.Device(credential=line, loop=post.loop, max_outbox=2)
        anna.put("user:ben", "1")
        anna.put("user:ben", "2")
        with pytest.raises(hailpost.FullError) as full:
            anna.put("user:ben", "3")
        assert full.value.retry is hailpost.Retry.LATER and anna.waiting == 2
        post.until(anna, hailpost.Writable)
        number = anna.put("user:ben", "3")
        post.until(anna, hailpost.Accepted, lambda event: event.number == number)
        assert anna.counters()["full"] == 1


def test_what_cannot_be_put_is_refused_at_once() -> None:
    with Post() as post:
        anna = post.device("anna")
        for to, options in (
            ("anna", {}),
            ([], {}),
            ("user:", {}),
            ([f"user:{number}" for number in range(1001)], {}),
            ("user:anna", {"ttl": 0}),
            ("user:anna", {"ttl": 2_592_001}),
            ("user:anna", {"content_type": "text/plain\r\nId 1"}),
        ):
            with pytest.raises(hailpost.InvalidError):
                anna.put(to, "x", **options)
        with pytest.raises(hailpost.InvalidError):
            anna.put("user:anna", bytes(65_537))
        for wrong in (7, None, ["x"]):
            with pytest.raises(TypeError):
                anna.put("user:anna", wrong)  # type: ignore[arg-type]
        for name in ("user:anna", "", "x" * 65):
            with pytest.raises(hailpost.InvalidError):
                anna.query(name)
            with pytest.raises(hailpost.InvalidError):
                anna.subscribe(name)
        away = hailpost.Device(credential=post.enrol("ben").line)
        with pytest.raises(hailpost.StateError):
            away.query("anna")
        away.close()
        with pytest.raises(hailpost.StateError):
            away.put("user:anna", "x")
        assert (anna.waiting, anna.counters()["put"]) == (0, 0)


def test_draining() -> None:
    with Post() as post:
        anna, line = post.device("anna"), post.enrol("ben").line
        post.office.drain()
        ben = hailpost.Device(credential=line, loop=post.loop)
        assert "no more sessions" in post.until(ben, hailpost.Refused).text
        assert anna.is_up and not ben.is_up
        post.office.drain(draining=False)
        post.loop.network_changed()
        post.until(ben, hailpost.Welcome)


def test_brokers() -> None:
    own, other = hailpost.Identity.generate("hub"), hailpost.Identity.generate("broker")
    with Post(
        roles="hub", listen_devices=[], listen_inner="tls://127.0.0.1:0", brokers=other.key_id, identity=own
    ) as post:
        inner = f"tls://127.0.0.1:{post.office.addresses.inner[0].port}?pin={own.key_id}"
        broker = hailpost.Office("hail://127.0.0.1:0", roles="broker", hub=inner, identity=other, loop=post.loop)
        with broker:
            post.until(broker, hailpost.Registered)
            post.durable(post.office.add_user("anna"))
            enrolment = post.office.add_device("anna", host=broker.urls[0])
            post.durable(enrolment.ticket)
            anna = hailpost.Device(credential=enrolment.line, loop=post.loop)
            post.until(anna, hailpost.Welcome)
            anna.put("user:anna", b"to myself")
            assert post.until(anna, hailpost.Message).body == b"to myself"
            assert (broker.sessions, post.office.sessions) == (1, 0)
            assert (broker.counters()["broker_registered"], post.office.counters()["brokers_registered"]) == (1, 1)
            with pytest.raises(hailpost.InvalidError):
                broker.add_user("ben")
            anna.close()


def test_backup(tmp_path: Path) -> None:
    store, copy = tmp_path / "office.db", tmp_path / "copy.db"
    with Post(store=str(store)) as post:
        anna, line = post.device("anna"), post.enrol("ben").line

        def accepted(number: int) -> None:
            post.until(anna, hailpost.Accepted, lambda event: event.number == number)

        for number in range(60):
            accepted(anna.put("user:ben", f"{number} " + "x" * 60_000))
        post.durable(post.office.backup(tmp_path / "first.db"))
        # A disk that is full: what can be written ends before the copy does.
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, before[1]))
        try:
            ticket = post.office.backup(copy)
            failed = post.until(post.office, hailpost.Failed, lambda event: event.ticket == ticket)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "copy.db.part" in str(failed.error)
        assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == []
        accepted(anna.put("user:ben", "60 after"))
        ticket = post.office.backup(str(copy))
        with pytest.raises(hailpost.StateError):
            post.office.backup(tmp_path / "other.db")
        post.durable(ticket)
    with hailpost.Office("hail://127.0.0.1:0", (), store=str(copy)) as office:
        credential = line.split(" ")[1]
        with hailpost.Device(credential=f"{office.urls[0]} {credential}", loop=office.loop) as ben:
            bodies: list[int] = []
            while len(bodies) < 61:
                event = ben.next_event(PATIENCE)
                assert event is not None
                if isinstance(event, hailpost.Message):
                    bodies.append(int(event.body.split(b" ")[0]))
                    ben.confirm(event.sequence)
            assert bodies == list(range(61))


def test_asyncio_and_a_loop_for_each() -> None:
    async def main() -> None:
        with hailpost.Office("hail://127.0.0.1:0", "tcp://127.0.0.1:0") as office:

            async def durable(ticket: int) -> None:
                async for event in hailpost.aio.events(office, PATIENCE):
                    if event == hailpost.Durable(ticket):
                        return

            await durable(office.add_user("anna"))
            enrolments = [office.add_device("anna") for _ in range(2)]
            await durable(enrolments[1].ticket)
            one, other = (hailpost.Device(credential=enrolment.line) for enrolment in enrolments)
            with hailpost.aio.attach(office), one, other:
                one.put("user:anna", "to all of mine")
                for device in (one, other):
                    async for event in hailpost.aio.events(device, PATIENCE):
                        if isinstance(event, hailpost.Message):
                            assert event.body == b"to all of mine"
                            break

    asyncio.run(main())


def test_logs_name_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "hailpost")
    with Post(announce=True) as post:
        enrolment = post.enrol("anna")
        anna, ben = post.open(enrolment), post.device("ben")
        app = post.office.add_app("tidings", "send")
        post.durable(app.ticket)
        with hailpost.App("tcp://127.0.0.1:%d" % post.office.addresses.apps[0].port, *app[:2], loop=post.loop) as tidings:
            tidings.send("user:anna", "a-text")
            post.until(tidings, hailpost.Answered)
            tidings.send("user:nobody", "a-text")
            post.until(tidings, hailpost.Answered)
            tidings.query("anna")
            post.until(tidings, hailpost.Answered)
        anna.confirm(post.until(anna, hailpost.Message))
        ben.put("user:anna", "a-text")
        post.until(ben, hailpost.Accepted)
        post.office.add_user("anna")
        post.until(post.office, hailpost.Failed)
        post.durable(post.office.revoke_device(enrolment.session))
        post.until(anna, hailpost.Refused)
        secrets = [enrolment.line.split()[1], enrolment.session, app.secret, post.office.urls[0][-43:]]
    logged = "\n".join(record.getMessage() for record in caplog.records)
    for kind in ("logged_in", "message", "accepted", "answered", "failed", "device_online", "refused"):
        assert f"{kind}" in logged
    for secret in (*secrets, "anna", "ben", "nobody", "tidings", "a-text", "127.0.0.1"):
        assert secret not in logged


EXAMPLES = ROOT / "python" / "examples"


def test_the_examples(tmp_path: Path) -> None:
    url = f"hail://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(EXAMPLES / arguments[0]), *arguments[1:]]
        return subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def says(process: subprocess.Popen[str], *expected: str) -> None:
        assert process.stdout is not None
        for text in expected:
            line = process.stdout.readline()
            assert text in line, line

    with contextlib.ExitStack() as stack:
        processes = []

        def run(*arguments: str) -> subprocess.Popen[str]:
            process = stack.enter_context(start(*arguments))
            stack.callback(process.kill)
            processes.append(process)
            return process

        office = run("office.py", "office.db", url, "anna", "ben")
        end = time.monotonic() + PATIENCE
        while not (tmp_path / "ben.credential").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        anna = run("device.py", "anna.credential", "anna.db")
        says(office, "1 there")
        assert anna.stdin is not None
        print("user:ben hello ben", "nonsense", file=anna.stdin, sep="\n", flush=True)
        says(anna, "number", "to: a receiver is", "stored")
        ben = run("device.py", "ben.credential", "ben.db")
        says(ben, "user:anna: hello ben")
        says(office, "2 there")
        for process in processes:
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0


FULL_DISK = """
import resource, sys, hailpost
device = hailpost.Device(credential=sys.argv[1], store=sys.argv[2])
device.put_wait("user:ben", "1", timeout=20)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
try:
    device.put_wait("user:ben", "2", timeout=0.2)
except hailpost.TimeoutError as error:
    number = error.number
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
kinds = []
for event in device.events(20):
    kinds.append(event.kind)
    if event == hailpost.Stored(number):
        break
print([kind for kind in kinds if kind != "down"])
"""


def test_a_wait_for_a_disk_that_fails_ends_and_the_message_is_kept(tmp_path: Path) -> None:
    with Post() as post:
        line = post.enrol("anna").line
    command = [sys.executable, "-c", FULL_DISK, line, str(tmp_path / "anna.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "['stored', 'store_failing', 'store_recovered', 'stored']\n", done
