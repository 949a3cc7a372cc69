"""What is called: the same for every provider, and a line that helps for whoever calls it wrongly."""

import asyncio
import inspect
import logging
import re
import socket
import threading
from importlib import import_module

import pytest
from tests.websocket import wire
from tests.websocket.serving import BLOCKING, LOOPED, PATIENCE, provider, serving

from kirsch.websocket import Closed, Limits, WebSocket

SERVERS = (*BLOCKING, *LOOPED, "wsgi")
CLIENTS = ("threaded", "gevent", "asyncio")
NOWHERE = "ws://127.0.0.1:1/"


class Echo(WebSocket):
    def received_message(self, message):
        self.send(message)


def finished(awaitable):
    """What came of it, awaited where it has to be."""

    async def run():
        return await awaitable

    return asyncio.run(run()) if hasattr(awaitable, "__await__") else awaitable


class TestAlike:
    @pytest.mark.parametrize("name", SERVERS)
    def test_servers_close_with_the_same_arguments(self, name):
        close = inspect.signature(provider(name).Server.close)
        assert str(close.replace(return_annotation=close.empty)) == (
            "(self, code: int = 1001, reason: str = '', timeout: float | None = None)"
        )

    @pytest.mark.parametrize("name", SERVERS)
    def test_drain_and_wait_closed_take_a_timeout(self, name):
        seen, go = [], threading.Event()

        def function(ws):
            with pytest.raises(TimeoutError):
                ws.drain(0.01)
            seen.append(ws.wait_closed(0.01))
            go.set()
            seen.append(ws.wait_closed(PATIENCE))

        async def coroutine(ws):
            with pytest.raises(TimeoutError):
                await ws.drain(0.01)
            seen.append(await ws.wait_closed(0.01))
            go.set()
            seen.append(await ws.wait_closed(timeout=PATIENCE))

        def handler(ws):
            # More than the system takes.
            ws.send(bytes(32 << 20))
            return (coroutine if name in LOOPED else function)(ws)

        async def awaited(ws):
            await handler(ws)

        with serving(name, awaited if name in LOOPED else handler, limits=Limits(message=None)) as server:
            peer = wire.dial(server.address)
            assert go.wait(PATIENCE)
            peer.sock.close()
        assert seen == [False, True]


class TestArguments:
    @pytest.mark.parametrize("name", SERVERS)
    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"port": "80"}, "port is a whole number from 0 to 65535, not '80'"),
            ({"port": 70000}, "port is a whole number from 0 to 65535, not 70000"),
            ({"port": -1}, "port is a whole number from 0 to 65535, not -1"),
            ({"host": 5}, "host is a name or an address, or None for all, not 5"),
            ({"limits": {"message": 3}}, "limits is a kirsch.websocket.Limits, not a dict"),
            ({"policy": "x"}, "policy is a kirsch.websocket.Policy, not 'x'"),
            ({"ssl": True}, "ssl is an ssl.SSLContext or None, not True"),
            ({"unix": 5}, "unix is the path of a socket, or None, not 5"),
            ({"backlog": 0}, "backlog is a whole number of 1 or more, not 0"),
            ({"threads": "2"}, "threads is a whole number of 1 or more, not '2'"),
            ({"threads": 0}, "threads is a whole number of 1 or more, not 0"),
        ],
    )
    def test_of_servers(self, name, options, error):
        serve = provider(name).serve
        if not options.keys() <= inspect.signature(serve).parameters.keys():
            pytest.skip(f"{name} has no such argument")
        with pytest.raises((TypeError, ValueError), match=f"^{re.escape(error)}$"):
            finished(serve(Echo, **options))

    @pytest.mark.parametrize("name", SERVERS)
    def test_a_host_that_is_none_is_named(self, name):
        with pytest.raises(Exception, match=r"no\.such\.host\.invalid"):
            finished(provider(name).serve(Echo, "no.such.host.invalid"))

    @pytest.mark.parametrize("name", CLIENTS)
    @pytest.mark.parametrize(
        ("arguments", "options", "error"),
        [
            ((5,), {}, "url is a text or a kirsch.websocket.Url, not 5"),
            ((b"ws://x",), {}, "url is a text or a kirsch.websocket.Url, not a bytes"),
            (("http://x",), {}, "http:// is not a WebSocket's scheme: write ws://"),
            (("ws://127.0.0.1:99999/",), {}, "the URL's port is no number between 1 and 65535"),
            ((NOWHERE, 5), {}, "an application is a class, not 5"),
            ((NOWHERE, int), {}, "int does not extend kirsch.websocket.WebSocket"),
            (
                (NOWHERE, finished),
                {},
                "finished is a function, and a client's application is a class: leave it"
                " out, and iterate over the connection",
            ),
            ((NOWHERE,), {"options": {}}, "options is kirsch.websocket.ClientOptions or None, not a dict"),
            ((NOWHERE,), {"timeout": "1"}, "timeout is None or a number of seconds above 0, not '1'"),
            ((NOWHERE,), {"timeout": -1}, "timeout is None or a number of seconds above 0, not -1"),
            ((NOWHERE,), {"ssl": True}, "ssl is an ssl.SSLContext or None, not True"),
        ],
    )
    def test_of_clients(self, name, arguments, options, error):
        with pytest.raises((TypeError, ValueError), match=re.escape(error)):
            finished(provider(name).connect(*arguments, **options))


@pytest.mark.parametrize("name", LOOPED)
class TestNotAwaited:
    @pytest.fixture
    def calls(self, name):
        module = import_module(f"kirsch.websocket.{name}")
        return (lambda: module.connect(NOWHERE), "connect"), (lambda: module.serve(Echo), "serve")

    def test_it_says_what_to_write(self, calls):
        for call, called in calls:
            with pytest.raises(AttributeError, match=f"send before it is awaited: `await {called}"):
                call().send("hello")
            with pytest.raises(TypeError, match=f"on a loop it is `async with {called}"), call():
                pass

    def test_what_is_forgotten_is_warned_of(self, calls):
        for call, called in calls:
            with pytest.warns(RuntimeWarning, match=f"{called}.* was never awaited: `await {called}"):
                call()


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "OPTIONS"])
@pytest.mark.parametrize("name", SERVERS)
def test_other_methods_are_refused_and_logged(name, method, caplog):
    caplog.set_level(logging.WARNING, "kirsch.websocket")
    with serving(name, Echo) as server, socket.create_connection(server.address, PATIENCE) as sock:
        sock.sendall(f"{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        assert b" 405 " in sock.recv(4096).split(b"\r\n")[0]
        peer = "{}:{}".format(*sock.getsockname())
    assert f"{peer}: a WebSocket begins with GET, not {method} (HTTP status 405)" in caplog.messages


@pytest.mark.parametrize("name", SERVERS)
def test_another_version_is_refused_and_logged(name, caplog):
    caplog.set_level(logging.WARNING, "kirsch.websocket")
    with serving(name, Echo) as server, socket.create_connection(server.address, PATIENCE) as sock:
        sock.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 7\r\n\r\n"
        )
        assert b" 426 " in sock.recv(4096).split(b"\r\n")[0]
        peer = "{}:{}".format(*sock.getsockname())
    assert f"{peer}: version '7': it is 13 here (HTTP status 426)" in caplog.messages


@pytest.mark.parametrize("name", SERVERS)
def test_too_many_fields_are_refused_and_logged(name, caplog):
    caplog.set_level(logging.WARNING, "kirsch.websocket")
    fields = "".join(f"X-{number}: x\r\n" for number in range(10))
    with (
        serving(name, Echo, limits=Limits(headers=10)) as server,
        socket.create_connection(server.address, PATIENCE) as sock,
    ):
        sock.sendall(wire.REQUEST[:-2] + fields.encode() + b"\r\n")
        assert b" 431 " in sock.recv(4096).split(b"\r\n")[0]
        peer = "{}:{}".format(*sock.getsockname())
    assert f"{peer}: more than 10 header fields (HTTP status 431)" in caplog.messages


def test_a_task_that_waits_is_told_of_the_end():
    """The last thing it says is what ends the connection."""

    async def run():
        module = import_module("kirsch.websocket.asyncio")
        ends = asyncio.Queue()

        async def handler(ws):
            try:
                while True:
                    ws.send(await ws.recv())
            except Closed as closed:
                ends.put_nowait(closed.code)

        async with module.serve(handler) as server, module.connect(server.url) as ws:
            ws.send("last")
            ws.close(3000)
            async with asyncio.timeout(PATIENCE):
                assert await ends.get() == 3000
                assert await ws.wait_closed()

    asyncio.run(run())
