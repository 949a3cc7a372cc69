"""What cannot be offered is said when it is, in one line, not at the first connection."""

import functools

import pytest

from kirsch.websocket import Limits, Policy, WebSocket, threaded
from kirsch.websocket import asyncio as loops
from kirsch.websocket.core.headers import Headers, Request
from kirsch.websocket.core.site import Site


class Echo(WebSocket):
    pass


class Forgetful(WebSocket):
    def __init__(self, **arguments):
        self.color = "red"


async def handler(ws):
    pass


FIELDS = [
    ("Host", "localhost"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
]


@pytest.mark.parametrize(
    ("application", "said"),
    [
        (None, "a class or a function, not NoneType"),
        ("Echo", "a class or a function, not str"),
        (Echo(), "a class or a function, not Echo"),
        (dict, "dict does not extend kirsch.websocket.WebSocket"),
        ({"echo": Echo}, "begins with a slash: not 'echo'"),
        ({"/": Echo, "/other": 5}, "not int"),
    ],
)
def test_what_is_no_application(application, said):
    with pytest.raises(TypeError, match=said):
        Site(application)


def test_settings_of_another_kind():
    with pytest.raises(TypeError, match="policy is a kirsch"):
        Site(Echo, Limits())
    with pytest.raises(TypeError, match="limits is a kirsch"):
        Site(Echo, Policy(), {})


def test_coroutine_functions_where_threads_call():
    with pytest.raises(TypeError, match="handler is a coroutine function: they are for asyncio"):
        threaded.serve(handler)


@pytest.mark.parametrize("provider", ["threaded", "asyncio"])
def test_functions_that_want_more_than_a_connection(provider):
    async def looped(ws, path):
        pass

    def blocking(ws, path):
        pass

    module = {"threaded": threaded, "asyncio": loops}[provider]
    with pytest.raises(TypeError, match=r"\(ws, path\) cannot be called with a connection alone"):
        module.serve({"/": {"threaded": blocking, "asyncio": looped}[provider]})
    # Of what does not tell nothing is known.
    Site(min, wrap=lambda application: lambda **arguments: None)


def test_what_is_one():
    for application in (Echo, lambda ws: None, functools.partial(handler), {"/": Echo, "/a": handler}):
        Site(application)


def test_a_class_that_forgets_its_parent(caplog):
    with pytest.raises(Exception, match="the application failed") as raised:
        Site(Forgetful).open(Request("GET", "/", Headers(FIELDS)), "127.0.0.1:1")
    assert raised.value.status == 500
    assert "127.0.0.1:1: no connection could be made" in caplog.text
