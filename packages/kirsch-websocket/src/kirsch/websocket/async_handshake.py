"""A connection whose handshake is not done, on asyncio: the server's side."""

import asyncio
import logging

from kirsch.websocket.application import WebSocket
from kirsch.websocket.async_wire import Connections, Ticker
from kirsch.websocket.errors import HandshakeError
from kirsch.websocket.handshake import refusal
from kirsch.websocket.headers import HeadReader, Request
from kirsch.websocket.site import Site

log = logging.getLogger("kirsch.websocket")


class Handshake:
    """What extends it calls `begin`, `received`, `left`, and gives `_say`, `_open`, `_linger`, `abort`."""

    def __init__(self, site: Site, connections: Connections) -> None:
        self._site = site
        self._connections = connections
        self._peer = "?"
        self._head = HeadReader(site.limits, client=False)
        self.loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._refused = False

    def begin(self) -> None:
        """The connection is there: its time runs."""
        self._connections.add(self)
        Ticker.of(self.loop).add(self)

    def received(self, data: bytes) -> None:
        """More of the request."""
        if self._refused:
            return
        try:
            request = self._head.feed(data)
            if request is None:
                return
            assert isinstance(request, Request)
            websocket, response = self._site.open(request, self._peer)
        except HandshakeError as error:
            log.warning("%s: %s", self._peer, error)
            self._refused, self._since = True, None
            # The peer may still be sending: what it is told would be lost if we closed at once.
            if self._say(refusal(error)):
                self._linger()
            return
        if self._say(response):
            self.left()
            self._open(websocket, self._head.rest)

    def left(self) -> None:
        """It is no longer this one's."""
        Ticker.of(self.loop).discard(self)
        self._connections.discard(self)

    def tick(self, now: float) -> None:
        limits = self._site.limits
        limit = limits.close_timeout if self._refused else limits.handshake_timeout
        if self._since is None:
            self._since = now
        elif limit is not None and now - self._since >= limit:
            if not self._refused:
                log.warning("%s: no handshake in %g s", self._peer, limit)
            self.abort()

    def close(self, code: int, reason: str) -> None:
        self.abort()

    def abort(self) -> None:
        raise NotImplementedError

    def _say(self, response: bytes) -> bool:
        """Send; whether that could be done."""
        raise NotImplementedError

    def _open(self, websocket: WebSocket, rest: bytes) -> None:
        raise NotImplementedError

    def _linger(self) -> None:
        """End our side; read on until the peer ends its own."""
        raise NotImplementedError
