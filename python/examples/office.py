"""A post office: keeps what people write to each other, and hands it over when they are there.

    python office.py office.db hail://127.0.0.1:7700 anna ben

adds who is new, and writes for each a file such as anna.credential, which is what anna's device is given.
"""

from __future__ import annotations

import os
import sys

import hailpost


def hand_out(user: str, line: str) -> None:
    """Writes what a device is given, for nobody else to read."""
    with open(f"{user}.credential", "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(line + "\n")


def main(store: str, listen: str, *users: str) -> None:
    with hailpost.Office(listen, "tcp://127.0.0.1:0", store=store, announce=True) as office:
        asked: dict[int, tuple[str, str]] = {}
        for user in users:
            if not os.path.exists(f"{user}.credential"):
                office.add_user(user)
                enrolment = office.add_device(user)
                asked[enrolment.ticket] = user, enrolment.line
        for event in office.events():
            if isinstance(event, hailpost.Durable) and event.ticket in asked:
                user, line = asked.pop(event.ticket)
                hand_out(user, line)
            elif isinstance(event, hailpost.Failed):
                print("cannot:", event.error, flush=True)
            elif isinstance(event, (hailpost.DeviceOnline, hailpost.DeviceOffline)):
                print(office.sessions, "there", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        pass
