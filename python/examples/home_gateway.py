"""A home gateway: frames come in on standard input as a live capture (pcap), and each event is a line on standard output.

    tcpdump -i br0 -U -w - | python home_gateway.py 'tls://gateways.example:7700?pin=HEX' home.pem

makes it recognise what flows through br0, share that through the backend, and learn from it what others recognised. TERM and
INT make it leave in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import struct
import sys

import hailpost
import hailpost.aio

FILE_HEADER = struct.Struct("=IHHiIII")
FRAME_HEADER = struct.Struct("=IIII")


def line(event: hailpost.Event) -> str:
    """An event as a line: its name, and what one may want to know of it."""
    if isinstance(event, hailpost.Flow):
        known = f"app={event.app} app_name={event.app_name} " if event.app is not None else ""
        return f"flow {known}how={event.how} remote_address={event.remote.host} remote_port={event.remote.port}"
    if isinstance(event, (hailpost.Result, hailpost.Acknowledged)):
        app, _, remote, _ = event.record
        return f"{event.kind} app={app} remote_address={remote.host} remote_port={remote.port}"
    if isinstance(event, (hailpost.Parameters, hailpost.FeaturesAcknowledged)):
        return f"{event.kind} app={event.app}"
    if isinstance(event, hailpost.Down):
        return f"down text={event.error}"
    if isinstance(event, hailpost.Refused):
        return f"refused text={event.text}"
    return event.kind


async def feed(gateway: hailpost.Gateway, capture: asyncio.StreamReader) -> None:
    """Feeds frames as they come, until there are no more."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        magic, *_, link_type = FILE_HEADER.unpack(await capture.readexactly(FILE_HEADER.size))
        if magic != 0xA1B2C3D4:
            print("standard input is no pcap capture of this machine with microseconds", file=sys.stderr)
            return
        while True:
            header = await capture.readexactly(FRAME_HEADER.size)
            seconds, microseconds, size, _ = FRAME_HEADER.unpack(header)
            await feed_frame(gateway, link_type, await capture.readexactly(size), seconds + microseconds / 1e6)


async def feed_frame(gateway: hailpost.Gateway, link_type: int, frame: bytes, time: float) -> None:
    while True:
        try:
            return gateway.feed(link_type, frame, time)
        except hailpost.MalformedError:
            return  # no IP packet: it was counted
        except hailpost.FullError:
            await asyncio.sleep(0.01)  # until events were read


async def main(url: str, identity: str) -> None:
    loop = asyncio.get_running_loop()
    capture = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(capture), sys.stdin.buffer)
    with hailpost.Gateway(url, identity=identity, backoff_ms=200, backoff_max_ms=10_000) as gateway:

        def leave() -> None:
            gateway.leave()
            if gateway.state == "down":  # there is nobody to tell
                gateway.close()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, leave)
        feeding = asyncio.ensure_future(feed(gateway, capture))
        async for event in hailpost.aio.events(gateway):
            print(line(event), flush=True)
            if isinstance(event, hailpost.Deregistered) and not event.by_backend:
                break
        feeding.cancel()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: home_gateway.py BACKEND IDENTITY.pem < CAPTURE.pcap")
    asyncio.run(main(sys.argv[1], sys.argv[2]))
