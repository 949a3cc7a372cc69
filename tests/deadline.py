"""Waiting for what another thread or process does, until a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 20.0


def eventually(condition: Callable[[], T], timeout: float = PATIENCE, what: str = "it") -> T:
    """The first true value that `condition` returns; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come about within {timeout:g} s"
        time.sleep(0.005)
    return value
