"""A server of any provider, whatever it runs on."""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import pytest

PATIENCE = 20
BLOCKING = ("threaded", "cherrypy", "gevent")
LOOPED = ("asyncio", "tornado")


def provider(name):
    pytest.importorskip({"threaded": "threading", "wsgi": "wsgiref"}.get(name, name))
    return import_module(f"kirsch.websocket.{name}")


@contextlib.contextmanager
def serving(name, *arguments, **options):
    """A server of any provider; those with a loop have one in a thread."""
    serve = provider(name).serve
    if name == "gevent":
        with in_a_thread(lambda: serve(*arguments, **options), gevent_runs) as server:
            yield server
    elif name in LOOPED:
        with in_a_thread(lambda: serve(*arguments, **options), asyncio_runs) as server:
            yield server
    else:
        with serve(*arguments, **options) as server:
            yield server


@contextlib.contextmanager
def in_a_thread(make, runs):
    ready, done = threading.Event(), threading.Event()
    there = []
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(runs, make, there, ready, done)
        try:
            assert ready.wait(PATIENCE)
            yield there[0]
        finally:
            done.set()
            running.result(PATIENCE)


def asyncio_runs(make, there, ready, done):
    async def run():
        async with make() as server:
            there.append(server)
            ready.set()
            await asyncio.to_thread(done.wait)

    asyncio.run(run())


def gevent_runs(make, there, ready, done):
    import gevent

    with make() as server:
        there.append(server)
        ready.set()
        gevent.get_hub().threadpool.apply(done.wait)
