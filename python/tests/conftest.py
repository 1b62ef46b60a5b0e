from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest
from house import House

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _limit() -> Iterator[None]:
    """A test that hangs fails after two minutes."""

    def over(number: int, frame: FrameType | None) -> None:
        raise AssertionError("the test hangs")

    signal.signal(signal.SIGALRM, over)
    signal.alarm(120)
    yield
    signal.alarm(0)


@pytest.fixture(params=["tls", "hail", "tcp", "udp"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    """A backend on each transport in turn."""
    with House(request.param) as house:
        yield house


@pytest.fixture
def shared() -> Path:
    """The specification's directory beside the project, or where `HAILPOST_SHARED` says."""
    path = Path(os.environ.get("HAILPOST_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        skip(f"no {path} (set HAILPOST_SHARED)")
    return path


def skip(why: str) -> NoReturn:
    """Skips a test. That is said at the end of the run (`-rs`)."""
    pytest.skip(why)
