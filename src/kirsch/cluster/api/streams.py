"""Streams of server-sent events (HTML, section 9.2): from the event loop to the threads that serve HTTP."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import cherrypy

from kirsch.bus import AsyncioPlugin

log = logging.getLogger(__name__)

HEARTBEAT = 5.0
QUEUE = 1000


class Feed:
    """One stream's queue: filled in the event loop, and filled no faster than it is read."""

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue(QUEUE)
        self.pump = asyncio.create_task(self._fill(source), name="feed")

    async def _fill(self, source: AsyncIterator[Any]) -> None:
        try:
            async for item in source:
                await self.queue.put(item)
        except Exception:
            log.exception("a stream's source failed")
        await self.queue.put(None)

    async def take(self) -> list[Any]:
        """All that is there, at least one item; nothing after a time without news. None is the end."""
        try:
            items = [await asyncio.wait_for(self.queue.get(), HEARTBEAT)]
        except TimeoutError:
            return []
        while not self.queue.empty():
            items.append(self.queue.get_nowait())
        return items

    async def close(self) -> None:
        """Stop filling, and let the reader go."""
        self.pump.cancel()
        while self.queue.full():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Streams:
    """All streams of one API, so that they can be ended together."""

    def __init__(self, loop: AsyncioPlugin) -> None:
        self.loop = loop
        self._feeds: set[Feed] = set()

    def serve(self, source: AsyncIterator[Any]) -> Iterator[bytes]:
        """A response's body: an event for each item. Comments in between tell when a client has left."""
        headers = cherrypy.response.headers
        headers["Content-Type"] = "text/event-stream"
        headers["Cache-Control"] = "no-store"
        cherrypy.response.stream = True
        return self._body(source)

    def close(self) -> None:
        """End every stream."""
        for feed in tuple(self._feeds):
            self.loop.run(feed.close())

    def _body(self, source: AsyncIterator[Any]) -> Iterator[bytes]:
        feed = self.loop.run(self._open(source))
        self._feeds.add(feed)
        try:
            # The first byte at once: a client then knows that it is heard.
            yield b": kirsch\n\n"
            while True:
                items = self.loop.run(feed.take())
                if not items:
                    yield b": still there\n\n"
                for item in items:
                    if item is None:
                        return
                    yield b"data: " + json.dumps(item, ensure_ascii=False).encode() + b"\n\n"
        finally:
            self._feeds.discard(feed)
            with suppress(RuntimeError):  # the loop is closed: nothing is left to cancel
                self.loop.submit(feed.close())

    async def _open(self, source: AsyncIterator[Any]) -> Feed:
        return Feed(source)
