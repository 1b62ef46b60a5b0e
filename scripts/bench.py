#!/usr/bin/env python3
"""Measures everything that the project promises a figure for, and what stands beside it: bench.py PROGRAM OUT [CAPTURES].

PROGRAM is a release build of `hailpost`; build/sizes has the libraries that ship (scripts/sizes.sh). Prints a Markdown table, and
writes it to OUT/bench.md with a plot of it, OUT/bench.svg. Takes two minutes. Processor time, not time on the clock, is
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
from typing import Callable, NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[1]
SIZES = ROOT / "build" / "sizes"
REPEAT = "16"
"""How often the captures are merged in, each time with other addresses."""


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
        bench.sizes()
        bench.client()
    (out / "bench.md").write_text(bench.page())
    (out / "bench.svg").write_text(bench.plot())
    print(bench.table())
    print(f"\nwritten to {out / 'bench.md'}, with a plot in {out / 'bench.svg'}")


if __name__ == "__main__":
    main()
