"""A device of a post office: a line "user:ben hello" on standard input goes to ben, and what comes is printed.

    python device.py anna.credential anna.db

A line is kept before the next one is read: it goes out once, also when there is no network now and the power fails.
"""

from __future__ import annotations

import asyncio
import sys

import hailpost
import hailpost.aio


async def write(device: hailpost.Device) -> None:
    """Puts what is typed, until there is no more."""
    lines = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin.buffer)
    while line := (await lines.readline()).decode():
        to, _, text = line.strip().partition(" ")
        try:
            print("number", device.put_wait(to, text), flush=True)
        except hailpost.Error as error:
            print(error, flush=True)


async def main(credential_file: str, store: str) -> None:
    with hailpost.Device(credential_file=credential_file, store=store) as device:
        writing = asyncio.ensure_future(write(device))
        async for event in hailpost.aio.events(device):
            if isinstance(event, hailpost.Message):
                again = " (again)" if event.redelivered else ""
                print(f"{event.sender}: {event.body.decode(errors='replace')}{again}", flush=True)
                device.confirm(event)
            elif isinstance(event, hailpost.Accepted):
                print("number", event.number, "is", event.state, flush=True)
            elif isinstance(event, hailpost.Rejected):
                print("number", event.number, "is refused:", event.code, flush=True)
            elif isinstance(event, hailpost.Refused):
                sys.exit(event.text)
        await writing


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2]))
    except KeyboardInterrupt:
        pass
