"""The providers on asyncio's loop, and asyncio on uvloop's: a test of them runs with each."""

import asyncio
import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest
from tests.websocket.looped import PLAIN, Raw


@dataclass(frozen=True)
class Provider:
    """What serves, and on which loop."""

    name: str
    serve: Callable[..., Any]
    loop_factory: Callable[[], asyncio.AbstractEventLoop]


@functools.cache
def found(name: str) -> Provider:
    pytest.importorskip({"uvloop": "uvloop", "tornado": "tornado"}.get(name, "asyncio"))
    module = import_module(f"kirsch.websocket.{'tornado' if name == 'tornado' else 'asyncio'}")
    if name != "uvloop":
        return Provider(name, module.serve, asyncio.SelectorEventLoop)
    new_event_loop = import_module("uvloop").new_event_loop
    # The first has files that are there for all of them.
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(asyncio.sleep(0))
    return Provider(name, module.serve, new_event_loop)


@pytest.fixture(params=["asyncio", "uvloop", "tornado"])
def provider(request):
    return found(request.param)


@pytest.fixture
def loop_factory(provider):
    return provider.loop_factory


@pytest.fixture
def serve(provider):
    return provider.serve


@pytest.fixture
def handled(serve):
    """A server of a function, and what a test talks to it with: bytes and frames."""

    @contextlib.asynccontextmanager
    async def handled(handler, **options):
        async with serve(handler, policy=PLAIN, **options) as server, Raw(server) as raw:
            await raw.head()
            yield raw

    return handled


@pytest.fixture(params=["plain", "tls"])
def ssl(request, certificate):
    """What the server and a client have."""
    return (certificate.server, certificate.client) if request.param == "tls" else (None, None)
