"""What tests of the bus share: a deadline, marks to count processes by, and buses of their own."""

import atexit
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cherrypy.process.wspbus import Bus
from tests import deadline

Eventually = Callable[..., None]


@pytest.fixture
def eventually() -> Eventually:
    """eventually(condition, timeout): wait until it holds, or fail."""
    return deadline.eventually


class Mark:
    """An environment variable that descendants inherit, and the processes that have it."""

    def __init__(self) -> None:
        self.value = uuid.uuid4().hex
        self.environment = {**os.environ, "KIRSCH_TEST_MARK": self.value}

    def pids(self) -> list[int]:
        needle = f"KIRSCH_TEST_MARK={self.value}".encode()
        return [
            pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if needle in _environ(pid)
        ]


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def mark() -> Iterator[Mark]:
    mark = Mark()
    yield mark
    assert mark.pids() == [], "processes were left behind"


@pytest.fixture
def bus() -> Iterator[Bus]:
    """A bus of its own, that is stopped at the end."""
    bus = Bus()
    yield bus
    atexit.unregister(bus._clean_exit)
    if bus.state is bus.states.STARTED:
        bus.stop()
