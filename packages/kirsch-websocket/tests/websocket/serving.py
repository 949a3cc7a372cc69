"""Servers and clients of every provider, for tests that are written once for all of them.

A test talks to a server by a blocking socket, whatever loop the server runs on in its own thread. A function
that a server or a client runs is written as a coroutine: where a provider has no loop, `Awaited` gives it
what blocks.
"""

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import inspect
import queue
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import pytest

from kirsch.websocket.core.inbox import Chunks

PATIENCE = 20
BLOCKING = ("threaded", "cherrypy", "gevent")
LOOPED = ("asyncio", "tornado")
# Each provider in every way that has code of its own: on another loop, beside WSGI pages.
SERVERS = ("threaded", "cherrypy", "wsgi", "gevent", "gevent-pages", "asyncio", "uvloop", "tornado")
CLIENTS = ("threaded", "gevent", "asyncio", "uvloop")
MODULES = {"gevent-pages": "gevent", "uvloop": "asyncio"}


def provider(name):
    pytest.importorskip(
        {"threaded": "threading", "wsgi": "wsgiref", "gevent-pages": "gevent"}.get(name, name)
    )
    return import_module(f"kirsch.websocket.{MODULES.get(name, name)}")


def on_a_loop(name):
    return name in ("asyncio", "uvloop", "tornado")


class Running:
    """A server; its `close` is called where the server runs."""

    def __init__(self, server, call):
        self._server, self.call = server, call

    def __getattr__(self, name):
        return getattr(self._server, name)

    def close(self, *arguments, **options):
        return self.call(lambda: self._server.close(*arguments, **options))


@contextlib.contextmanager
def serving(name, *arguments, **options):
    """A server of any provider; those with a loop have one in a thread, and leave nothing in it."""
    serve = provider(name).serve
    if name == "gevent-pages":
        options = {"wsgi": page, "log": None, **options}
    if name.startswith("gevent") or on_a_loop(name):
        runs = (
            gevent_runs if name.startswith("gevent") else functools.partial(asyncio_runs, loop_factory(name))
        )
        calls, there = queue.SimpleQueue(), concurrent.futures.Future()

        def call(function):
            result = concurrent.futures.Future()
            calls.put((function, result))
            return result.result(PATIENCE)

        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(runs, lambda: serve(*arguments, **options), there, calls)
            running.add_done_callback(lambda ended: ended.exception() and _fail(there, ended.exception()))
            server = there.result(PATIENCE)
            try:
                yield Running(server, call)
            finally:
                calls.put(None)
                running.result(PATIENCE)
    else:
        with serve(*arguments, **options) as server:
            yield Running(server, lambda function: function())


def _fail(future, error):
    if not future.done():
        future.set_exception(error)


def page(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"page {environ['PATH_INFO']}".encode()]


@functools.cache
def loop_factory(name):
    if name != "uvloop":
        return asyncio.SelectorEventLoop
    new_event_loop = import_module("uvloop").new_event_loop
    # The first has files that are there for all of them.
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(asyncio.sleep(0))
    return new_event_loop


def asyncio_runs(factory, make, there, calls):
    complaints = []

    async def answer(function, result):
        try:
            value = function()
            result.set_result(await value if inspect.isawaitable(value) else value)
        except Exception as error:
            result.set_exception(error)

    async def run():
        async with make() as server:
            there.set_result(server)
            answers = set()
            while (call := await asyncio.to_thread(calls.get)) is not None:
                answers.add(asyncio.create_task(answer(*call)))
            await asyncio.gather(*answers)
        await nothing_left()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
        runner.run(run())
        gc.collect()
        # A transport's socket is closed in the loop's next turn.
        runner.run(asyncio.sleep(0))
    gc.collect()
    assert complaints == []


async def nothing_left():
    """No task but this one stays in the loop."""
    ours = {asyncio.current_task()}
    if left := asyncio.all_tasks() - ours:
        await asyncio.wait(left, timeout=PATIENCE)
    assert asyncio.all_tasks() == ours


def gevent_runs(make, there, calls):
    import gevent

    def answer(function, result):
        try:
            result.set_result(function())
        except Exception as error:
            result.set_exception(error)

    with make() as server:
        there.set_result(server)
        while (call := gevent.get_hub().threadpool.apply(calls.get)) is not None:
            gevent.spawn(answer, *call)
    gevent.get_hub().destroy(destroy_loop=True)


class Awaited:
    """A connection, message or call of a provider that blocks, with the methods of one on a loop."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __aiter__(self):
        return Iteration(iter(self.inner))

    async def recv(self, timeout=None):
        return awaited(self.inner.recv(timeout))

    async def drain(self, timeout=None):
        self.inner.drain(timeout)

    async def wait_closed(self, timeout=None):
        return self.inner.wait_closed(timeout)


def inner(ws):
    """The connection itself."""
    return ws.inner if isinstance(ws, Awaited) else ws


class Iteration:
    """An iteration that blocks, for `async for`; gone with the loop that broke off."""

    def __init__(self, iterator):
        self._iterator = iterator

    async def __anext__(self):
        try:
            return awaited(next(self._iterator))
        except StopIteration:
            raise StopAsyncIteration from None


def awaited(message):
    """A message as it is, or one in chunks."""
    return Awaited(message) if isinstance(message, Chunks) else message


def finish(coroutine):
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def function(name, coroutine):
    """What a provider serves: the coroutine, or a function that does the same and blocks."""
    return coroutine if on_a_loop(name) else lambda ws: finish(coroutine(Awaited(ws)))


async def elsewhere(name, function, *arguments):
    """What a function that blocks returns, while the provider's other connections go on."""
    if on_a_loop(name):
        return await asyncio.to_thread(function, *arguments)
    if name.startswith("gevent"):
        import gevent

        return gevent.get_hub().threadpool.apply(function, arguments)
    return function(*arguments)


async def wait(name, event):
    assert await elsewhere(name, event.wait, PATIENCE)


class Client:
    """What a test of clients calls: `connect` and `reconnect` of a provider."""

    def __init__(self, name):
        self.name, self.module = name, provider(name)

    def run(self, coroutine):
        if on_a_loop(self.name):

            async def run():
                try:
                    return await coroutine
                finally:
                    await nothing_left()

            with asyncio.Runner(loop_factory=loop_factory(self.name)) as runner:
                return runner.run(run())
        return finish(coroutine)

    def connect(self, *arguments, **options):
        """Awaited, or with `async with`."""
        if on_a_loop(self.name):
            return self.module.connect(*arguments, **options)
        return Connecting(lambda: self.module.connect(*arguments, **options))

    def reconnect(self, *arguments, **options):
        made = self.module.reconnect(*arguments, **options)
        return made if on_a_loop(self.name) else _each(made)


class Connecting:
    """A connection of a provider that blocks, yet to be opened."""

    def __init__(self, connect):
        self._connect = connect

    def __await__(self):
        return Awaited(self._connect())
        yield

    async def __aenter__(self):
        self._ws = await self
        self._exits = contextlib.ExitStack()
        self._exits.enter_context(inner(self._ws))
        return self._ws

    async def __aexit__(self, *error):
        return self._exits.__exit__(*error)


async def _each(connections):
    for ws in connections:
        yield Awaited(ws)
