"""Providers as the tests of their common contract see them, and applications that tell what happens."""

import contextlib
import queue
import time

import pytest
from tests.deadline import eventually
from tests.websocket import serving
from tests.websocket.echoes import recording
from tests.websocket.serving import PATIENCE

from kirsch.websocket import Limits, Policy

PLAIN = Policy(deflate=None)
LARGE = 16 << 20
LIMITS = Limits(message=2 * LARGE, queue=2 * LARGE)
SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20]
of_sizes = pytest.mark.parametrize("sizes", [SIZES, pytest.param([LARGE], marks=pytest.mark.slow)], ids=len)


class Provider:
    """A provider, as a test sees it."""

    def __init__(self, name):
        self.name = name
        self.looped = serving.on_a_loop(name)

    @contextlib.contextmanager
    def serve(self, application, **options):
        with serving.serving(self.name, application, **options) as server:
            yield server

    def function(self, coroutine):
        return serving.function(self.name, coroutine)

    async def wait(self, event):
        await serving.wait(self.name, event)


class Told(queue.SimpleQueue):
    """What an application tells a test."""

    def next(self):
        return self.get(timeout=PATIENCE)


def recorder(**methods):
    """An application class that tells what happens to it; `methods` in place of its own."""
    told = Told()
    return recording(told.put, methods), told


def still(count, least=0):
    """A number once it is at least so large, and has not changed for a while."""
    eventually(lambda: count() >= least)
    same, before = 0, count()
    while same < 50:
        time.sleep(0.002)
        now = count()
        same, before = (same + 1, now) if now == before else (0, now)
    return before
