"""Streams: what happens in the event loop, as WebSocket messages of JSON, one a happening."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any

import cherrypy

from kirsch.bus import AsyncioPlugin
from kirsch.websocket import Closed, Limits, WebSocket
from kirsch.websocket.cherrypy import WebSocketTool
from kirsch.websocket.core.frame import GOING_AWAY, INTERNAL

log = logging.getLogger(__name__)

Source = AsyncIterator[Any]

# Bytes that may wait for a reader before nothing more is taken from its source; clients say nothing to us.
ENOUGH = 256 * 1024
LIMITS = Limits(message=4096, queue=1 << 20, close_timeout=2.0)
# How often one who reads slowly is looked at again, in seconds.
LATER = 0.05


class Streams:
    """Opens streams on an API's own paths. They end with their source, their client, or the bus."""

    def __init__(self, bus: Any, loop: AsyncioPlugin) -> None:
        self.loop = loop
        self._tool = WebSocketTool(bus)

    def wanted(self) -> bool:
        """Return True if the request asks for a stream."""
        return "Upgrade" in cherrypy.serving.request.headers

    def open(self, source: Callable[[], Source]) -> None:
        """Answer the request by a stream of what `source` makes. Raises HTTPError for no handshake."""
        self._tool.begin(application=Stream, limits=LIMITS, deflate=None)
        stream = cherrypy.serving.request.websocket
        stream.source, stream.loop = source, self.loop


class Stream(WebSocket):
    """Connection of one stream to its client."""

    source: Callable[[], Source]
    loop: AsyncioPlugin
    _pump: "Future[None] | None" = None

    def opened(self) -> None:
        """The client is there: have the event loop begin."""
        try:
            self._pump = self.loop.submit(self._run())
        except RuntimeError:  # kirschd is about to end
            self.close(GOING_AWAY)

    def closed(self, code: int, reason: str) -> None:
        """The client has left: nothing is to be sent any more."""
        if self._pump is not None:
            self._pump.cancel()

    async def _run(self) -> None:
        source = self.source()
        try:
            async for item in source:
                self.send(json.dumps(item, ensure_ascii=False))
                # A reader that is slow, or paused, waits for itself alone: its source may drop or gather.
                while self.buffered > ENOUGH:  # noqa: ASYNC110 - it tells threads alone
                    await asyncio.sleep(LATER)
            self.close(GOING_AWAY)
        except Closed:
            pass
        except Exception:
            log.exception("a stream's source failed")
            self.close(INTERNAL)
        finally:
            if hasattr(source, "aclose"):
                await source.aclose()
