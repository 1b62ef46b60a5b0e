#!/usr/bin/env python3
"""Measures everything that the project promises a figure for, and what stands beside it: bench.py PROGRAM OUT [CAPTURES].

PROGRAM is a release build of `hailpost`; build/sizes has the libraries that ship (scripts/sizes.sh). Prints a Markdown table, and
writes it to OUT/bench.md with a plot of it, OUT/bench.svg. Takes ten minutes, most of them for a million logins
(SESSIONS=100000 for fewer). Processor time, not time on the clock, is
what is measured wherever a process can be asked for it, so that others on the machine count as little as possible.
"""

from __future__ import annotations

import html
import json
import os
import platform
import re
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from mosquitto import Mosquitto

ROOT = Path(__file__).resolve().parents[1]
SIZES = ROOT / "build" / "sizes"
REPEAT = "16"
"""How often the captures are merged in, each time with other addresses."""
SESSIONS = os.environ.get("SESSIONS", "1000000")
MESSAGES = 10_000
"""Acknowledged before the office is killed."""


class Row(NamedTuple):
    """One figure, its bar, and what it stands beside."""

    what: str
    value: float
    unit: str
    bar: Optional[float] = None
    at_least: bool = False
    anchor: Optional[float] = None
    beside: str = ""

    def used(self, value: float) -> Optional[float]:
        """How much of the bar, or of what it stands beside, this value takes up."""
        limit = self.bar or self.anchor
        if limit is None or value == 0:
            return None
        return limit / value if self.at_least else value / limit

    def shown(self, value: Optional[float]) -> str:
        if value is None:
            return ""
        return f"{value:,.0f} {self.unit}" if value >= 100 else f"{value:.3g} {self.unit}"


class Bench:
    def __init__(self, program: Path, work: Path) -> None:
        self.program = program
        self.work = work
        self.rows: list[Row] = []

    def figures(self, *arguments: str) -> dict[str, float]:
        """What `hailpost bench` prints."""
        print("measuring:", "hailpost bench", *arguments[:1], file=sys.stderr)
        command: list[str | Path] = [self.program, "bench", *arguments, "--json"]
        lines = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()
        return {line["what"]: line["value"] for line in map(json.loads, lines)}

    def recognition(self, captures: Optional[Path]) -> None:
        merged = self.work / "merged.pcap"
        chosen = ["--pcap", str(captures)] if captures else []
        figures = self.figures("recognize", *chosen, "--repeat", REPEAT, "--write", str(merged))
        own = best(lambda: processor([self.program, "recognize", "--json", merged]))
        says: list[str] = []
        reader = best(lambda: processor(["ndpiReader", "-i", merged], says))
        # What it says of itself: the time that it took for packets on the clock, and its flow's structure alone.
        packets = number(r"IP packets:\s+(\d+)", says[0])
        took = min(number(r"Packet Processing Time:\s+(\d+) msec", text) for text in says)
        flow = number(r"Flow Memory \(per flow\):\s+([\d.]+)", says[0])
        flow *= 1024 if re.search(r"Flow Memory \(per flow\):\s+[\d.]+ KB", says[0]) else 1
        version = re.search(r"nDPI \(([\d.]+)", says[0])
        ndpi = f"ndpiReader {version.group(1) if version else ''}".strip()
        frames, flows = figures["frames"], figures["flows"]
        self.rows += [
            Row("recognition, a packet", figures["a packet"], "ns", 400, anchor=took * 1e6 / packets, beside=f"{ndpi}, its own count"),
            Row("recognition, an open flow", figures["an open flow"], "octets", 512, anchor=flow, beside=f"{ndpi}, its flow structure alone"),
            Row("`hailpost recognize`, the whole program", own * 1000, "ms of processor", anchor=reader * 1000, beside=ndpi),
        ]
        self.capture = f"{frames:,.0f} frames, {flows:,.0f} flows"
        self.capture += " of public test captures" if captures else " of the program's own making"

    def records(self) -> None:
        figures = self.figures("records")
        for what in ("encode", "decode"):
            slowest = min(value for name, value in figures.items() if name.startswith(what))
            self.rows.append(Row(f"records, {what}", slowest, "M/s", 10, at_least=True))

    def sync(self) -> None:
        figures = self.figures("sync", "--results", "60000", "--gateways", "1000")
        what = "60,000 results to 1,000 gateways"
        self.rows += [
            Row(f"{what}: the back end, a record", figures["at the back end, a record"], "ns of processor"),
            Row(f"{what}: a gateway, a record", figures["at a gateway, a record"], "ns of processor"),
        ]

    def gateways(self) -> None:
        figures = self.figures("gateways", "--count", "10000", "--heartbeat", "3000", "--seconds", "15")
        if figures["links lost"]:
            print(f"{figures['links lost']:.0f} links were lost: these figures are of a machine that is too busy", file=sys.stderr)
        what = "10,000 gateways, 3 s heartbeats"
        self.rows += [
            Row(f"{what}: the back end", figures["back end"], "% of a core"),
            Row(f"{what}: its memory", figures["back end, memory"], "MiB"),
            Row(f"{what}: a connected gateway", figures["a connected gateway"], "octets"),
        ]

    def post(self) -> None:
        """The post office, and mosquitto beside it where the work is the same."""
        with Mosquitto(self.work / "mosquitto") as broker:
            name = broker.version()
            memory, ping = broker.sessions(10_000, 3_333, 10)
            lost = broker.lost(MESSAGES)
        held = self.figures("sessions", "--count", SESSIONS)
        what = f"{held['sessions']:,.0f} sessions"
        if held["sessions lost"]:
            print(f"{held['sessions lost']:.0f} sessions were lost: these figures are of a machine that is too busy", file=sys.stderr)
        beats = held["heartbeats, answered"]
        self.rows += [
            Row(f"{what}: a session, everything", held["a session"], "octets", 256, anchor=memory, beside=f"{name}, the kernel's part of a connection not counted"),
            Row(f"{what}: {beats:,.0f} heartbeats a second", held["the office"], "% of a core", 25, anchor=ping * beats / 1e4, beside=f"{name}, by what each of 3,333 pings a second takes"),
            Row(f"{what}: heartbeats lost", held["heartbeats lost"], ""),
        ]
        links, stored, handed = self.figures("handshake"), self.figures("store"), self.figures("replay")
        self.rows += [
            Row("logins by handshake", links["handshakes"], "a second of a core", 3500, at_least=True),
            Row("logins by ticket", links["resumes"], "a second of a core", 40_000, at_least=True),
            Row("messages acknowledged as durable", stored["messages acknowledged, 200 senders"], "a second", 0.6 * stored["SQLite alone, 100 rows a commit"], at_least=True, anchor=stored["SQLite alone, 100 rows a commit"], beside="SQLite alone, 100 rows a commit"),
            Row("messages handed over, confirmed, deleted", handed["read, handed over, confirmed, deleted"], "a second", 80_000, at_least=True),
            Row("a message of 200 octets on the disk", stored["on the disk, everything"], "octets", 340),
            Row(f"kill -9 after {MESSAGES:,} messages: lost", self.lost(), "messages", anchor=lost, beside=name),
        ]

    def lost(self) -> int:
        """Messages of those acknowledged for devices that are away that the office does not have after it was killed."""
        data = self.work / "post"
        serve: list[str | Path] = [self.program, "serve", "--json", "--listen", "tcp://127.0.0.1:0", "--devices", "hail://127.0.0.1:0", "--apps", "tcp://127.0.0.1:0", "--data", data]

        def ask(*arguments: str) -> dict[str, Any]:
            done = subprocess.run([self.program, *arguments, "--json", "--data", data], check=True, stdout=subprocess.PIPE)
            return dict(json.loads(done.stdout))

        def started() -> tuple[subprocess.Popen[str], int]:
            office = subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            assert office.stdout
            while (said := json.loads(office.stdout.readline())).get("for") != "applications":
                pass
            return office, int(said["url"].rsplit(":", 1)[1])

        print("measuring: kill -9", file=sys.stderr)
        office, port = started()
        try:
            users = [f"user{at}" for at in range(MESSAGES // 1000)]
            for user in users:
                ask("user", "add", user)
                ask("device", "add", user)
            secret = ask("app", "add", "bench", "--send")["secret"]
            with socket.create_connection(("127.0.0.1", port)) as app:
                app.sendall(f"AUTH bench {secret}\n".encode())
                said = app.makefile("r")
                head = "SEND HP/1\nId {0}\nTo user:{1}\nOffline store\nContent-Length 200\n\n{2:200}"
                for first in range(0, MESSAGES, 100):
                    some = (head.format(at, users[at % len(users)], "") for at in range(first, first + 100))
                    app.sendall("".join(some).encode())
                    stored = 0
                    while stored < 100:
                        line = said.readline()
                        if not line:
                            raise RuntimeError("the office closed the connection")
                        stored += line.startswith("State stored")
            office.kill()
            office.wait()
            office, _ = started()
            return MESSAGES - int(ask("status")["office"]["waiting"])
        finally:
            office.kill()
            office.wait()

    def sizes(self) -> None:
        size = {path.parent.name: path.stat().st_size / 1e6 for path in SIZES.glob("*/libhailpost.so.*.*.*") if not path.is_symlink()}
        self.rows += [
            Row("library for a gateway, stripped", size["gateway"], "MB", 1.5),
            Row("TLS adds", size["gateway,tls"] - size["gateway"], "MB", 0.9),
            Row("library with everything", size["default"], "MB", 4),
        ]

    def client(self) -> None:
        """examples/c/home_gateway.c, registered and idle."""
        print("measuring: a connected C client", file=sys.stderr)
        client, data = self.work / "home_gateway", self.work / "office"
        compile = [os.environ.get("CC", "cc"), "-O2", "-o", str(client), str(ROOT / "examples/c/home_gateway.c")]
        subprocess.run([*compile, f"-I{ROOT / 'include'}", f"-L{SIZES / 'gateway'}", "-lhailpost"], check=True)
        identity = self.work / "home.pem"
        key = subprocess.run([self.program, "keygen", "--name", "localhost", "--out", identity], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        listen = ["--listen", "tcp://127.0.0.1:0", "--listen", "tls://127.0.0.1:0"]
        serve: list[str | Path] = [self.program, "serve", "--only", "backend", "--json", *listen, "--set", "open_group=bench", "--data", data]
        with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as backend:
            assert backend.stdout
            tcp, tls = (json.loads(backend.stdout.readline())["url"] for _ in range(2))
            enrol: list[str | Path] = ["gateway", "add", "home", "--group", "bench", "--key", key, "--data", data]
            subprocess.run([self.program, *enrol], check=True, stdout=subprocess.DEVNULL)
            for what, library, bar, options in (
                ("C client, TCP", "gateway", 600, [f"backend={tcp}", "rules=none"]),
                ("C client, TLS", "gateway,tls", 600, [f"backend={tls}", f"identity_file={identity}", "rules=none"]),
                ("with TLS and the rules that ship", "gateway,tls", None, [f"backend={tls}", f"identity_file={identity}"]),
            ):
                own, code, _ = private([client, *options], self.copies(client, library, SIZES / library))
                beside = None if bar is None else self.mosquitto(identity if "TLS" in what else None)
                both, written, name, shared = beside or (None, None, "", "")
                self.rows.append(Row(f"{what}: private memory", own + code, "KiB", bar, anchor=both, beside=name + shared))
                self.rows.append(Row(f"{what}: of it written to", own, "KiB", anchor=written, beside=name))
            backend.terminate()

    def mosquitto(self, identity: Optional[Path]) -> tuple[float, float, str, str]:
        """An MQTT client of libmosquitto, subscribed and idle: private memory, what it wrote to, its name, and its
        private memory where OpenSSL is in use already."""
        client = self.work / "mosquitto_client"
        source = str(ROOT / "scripts/mosquitto_client.c")
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", str(client), source, "-lmosquitto"], check=True)
        with socket.create_server(("localhost", 0)) as server:
            threading.Thread(target=broker, args=(server, identity), daemon=True).start()
            command: list[str | Path] = [client, str(server.getsockname()[1]), *([identity] if identity else [])]
            # This process has OpenSSL mapped too, so the system's libraries are shared with it.
            shared = sum(private(command, Path("/usr/lib"))[:2])
            own, code, says = private(command, self.copies(client, "mosquitto", None))
        return own + code, own, f"libmosquitto {says.split()[1]}", f"; {shared:,.0f} KiB with OpenSSL shared"

    def copies(self, client: Path, name: str, first: Optional[Path]) -> Path:
        """Copies of a client's own libraries, not of the system's: what nobody else can have mapped, as on a device that
        runs one such program."""
        directory = self.work / f"lib-{name}"
        directory.mkdir(exist_ok=True)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(first or "")}
        listed = subprocess.run(["ldd", client], env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
        for library in re.findall(r"=> (/\S*/lib(?:hailpost|mosquitto|ssl|crypto|cares)\.so\S*)", listed):
            shutil.copy(library, directory)
        # A page of a file that is not on disk yet would count as written to.
        os.sync()
        return directory

    def table(self) -> str:
        lines = ["| what | figure | bar | beside it |", "| --- | --- | --- | --- |"]
        for row in self.rows:
            bar = f"{'≥' if row.at_least else '≤'} {row.shown(row.bar)}" if row.bar else ""
            beside = f"{row.shown(row.anchor)} ({row.beside})" if row.anchor else ""
            lines.append(f"| {row.what} | {row.shown(row.value)} | {bar} | {beside} |")
        return "\n".join(lines)

    def plot(self) -> str:
        """How much of its bar each figure takes up, as an SVG."""
        rows = [row for row in self.rows if row.used(row.value) is not None]
        left, width, step, top = 300, 400, 46, 64
        height, limit = top + step * len(rows) + 10, left + width / 2
        out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 {height}" font-family="Helvetica,Arial,sans-serif" font-size="14">',
            f'<rect width="960" height="{height}" fill="#ffffff"/>',
            '<text x="20" y="28" font-size="16" font-weight="bold" fill="#1e3a8a">How much of what it may take each part takes</text>',
            f'<text x="{limit}" y="48" text-anchor="middle" font-size="12" fill="#475569">the bar, or what stands beside it</text>',
            f'<line x1="{limit}" y1="54" x2="{limit}" y2="{height - 10}" stroke="#334155" stroke-dasharray="4 3"/>',
        ]
        for at, row in enumerate(rows):
            y = top + step * at
            used = row.used(row.value) or 0.0
            colour = "#3b82f6" if used <= 1 else "#dc2626"
            name = html.escape(row.what.replace("`", ""))
            out.append(f'<text x="{left - 12}" y="{y + 16}" text-anchor="end" fill="#334155">{name}</text>')
            out.append(mark(left, y + 4, min(used, 2) * width / 2, 16, colour))
            over = f", {used:.1f} of the bar" if used > 1 else ""
            out.append(f'<text x="{left + width + 14}" y="{y + 16}" fill="#1e3a8a">{html.escape(row.shown(row.value))}{over}</text>')
            if row.anchor is not None:
                beside = row.used(row.anchor) or 0.0
                out.append(mark(left, y + 23, min(beside, 2) * width / 2, 8, "#cbd5e1"))
                text = f"{row.shown(row.anchor)}, {row.beside.split()[0]}"
                out.append(f'<text x="{left + width + 14}" y="{y + 32}" font-size="11" fill="#475569">{html.escape(text)}</text>')
        return "\n".join([*out, "</svg>", ""])

    def page(self) -> str:
        return f"""# What it costs

Made by `make bench`, which measures all of this again and writes this page: {date.today()}, {machine()}.
Figures are of that machine and that moment; processor time wherever a process can be asked for it. The captures are {self.capture},
merged; both programs read the same file. The best of five runs counts.

![How much of its bar each figure takes up](bench.svg)

{self.table()}

A session's memory is what the serving process grew by from none, over their number: keys, address, replay window and timer at the
link, the hub's presence, and what the allocator keeps. Each device is enrolled and logs in with a full handshake, and beats every 30 s; all
are in another process, behind 64 sockets. Stores are medians of five rounds, each in turn with SQLite alone: the disk is not the same from second to second.

An open flow is what recognition keeps for it, the pool of octets that wait for their turn included. A connected gateway is what the
back end's process grew by. Libraries are stripped, as they ship (`make sizes`). The C client is
[examples/c/home_gateway.c](../examples/c/home_gateway.c), registered and idle, and beside it one of libmosquitto, subscribed and idle
([scripts/mosquitto_client.c](../scripts/mosquitto_client.c)), both with their libraries to themselves; libmosquitto's count OpenSSL.
What a client wrote to is heap, stack and data (`Private_Dirty` of `smaps_rollup`). The rest is code and constants
(`Private_Clean`): the kernel maps them by 64 KiB around each page that is touched, so nearly all of a small library; it drops them
when memory is short, and a second client shares them. How the file lies in the page cache moves that part by a hundred KiB.
What matching builds up is bounded by the option `max_automaton_octets`.
"""


def mark(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{max(width, 1):.1f}" height="{height}" rx="2" fill="{colour}"/>'


def best(measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(5))


def processor(command: Sequence[str | Path], says: Optional[list[str]] = None) -> float:
    """Seconds of processor time that a command takes; `says` takes what it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if says is not None:
        says.append(done.stdout)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"there is no {pattern} in what was read")
    return float(found.group(1))


def private(command: Sequence[str | Path], libraries: Path) -> tuple[float, float, str]:
    """KiB that a client has for itself once it is in step and quiet: what it wrote to, pages of files that nobody else
    maps; and what it said."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            while not (line := process.stdout.readline()).startswith("synced"):
                if line == "":
                    raise RuntimeError(f"{command[0]} ended before it was in step")
            time.sleep(4)  # a heartbeat has passed
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        finally:
            process.terminate()
    return number(r"Private_Dirty:\s+(\d+) kB", rollup), number(r"Private_Clean:\s+(\d+) kB", rollup), line


def broker(server: socket.socket, identity: Optional[Path]) -> None:
    """As much of an MQTT broker as one idle subscriber needs."""
    for _ in range(2):
        link, _ = server.accept()
        if identity:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(identity)
            link = context.wrap_socket(link, server_side=True)
        with link:
            while len(head := link.recv(2)) == 2:
                body = link.recv(head[1]) if head[1] else b""
                answers = {0x10: b"\x20\x02\0\0", 0x80: b"\x90\x03" + body[:2] + b"\0", 0xC0: b"\xd0\0"}
                link.sendall(answers.get(head[0] & 0xF0, b""))


def machine() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    cores = os.cpu_count() or 1
    return f"{cores} core{'s' if cores > 1 else ''} of {found.group(1) if found else platform.machine()}, Linux {platform.machine()}"


def main() -> None:
    program, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    captures = Path(sys.argv[3]) if len(sys.argv) > 3 and Path(sys.argv[3]).is_dir() else None
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hailpost-bench-") as work:
        bench = Bench(program, Path(work))
        bench.recognition(captures)
        bench.records()
        bench.sync()
        bench.gateways()
        bench.post()
        bench.sizes()
        bench.client()
    (out / "bench.md").write_text(bench.page())
    (out / "bench.svg").write_text(bench.plot())
    print(bench.table())
    print(f"\nwritten to {out / 'bench.md'}, with a plot in {out / 'bench.svg'}")


if __name__ == "__main__":
    main()
