"""Listening sockets in a pool, and the handshakes of the clients; no thread waits for a slow one."""

import errno
import logging
import socket as sockets
import ssl as tls
import threading
import time
from typing import Any, Final

from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.handshake import refusal
from kirsch.websocket.core.headers import HeadReader, Request
from kirsch.websocket.core.site import Site
from kirsch.websocket.listening import peer_name
from kirsch.websocket.threads.link import Link
from kirsch.websocket.threads.poller import IN, ONCE, OUT
from kirsch.websocket.threads.pool import Pool
from kirsch.websocket.threads.writer import NOW, Blocked

log = logging.getLogger("kirsch.websocket")

# Connections accepted before other entries of the pool get a turn.
ACCEPTS: Final = 64
_FULL: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """Accepts connections and starts their handshakes; `socket` listens already."""

    def __init__(self, pool: Pool, socket: sockets.socket, site: Site, ssl: tls.SSLContext | None) -> None:
        self._pool = pool
        self._socket = socket
        self._site = site
        self._ssl = ssl
        self._fd = socket.fileno()
        self._lock = threading.Lock()
        self._closed = self._full = False
        socket.setblocking(False)
        pool.tick_every(site.limits.tick)

    def handle(self, events: int, buffer: memoryview) -> None:
        with self._lock:
            if self._closed:
                return
            for _ in range(ACCEPTS):
                try:
                    socket, address = self._socket.accept()
                except Blocked:
                    break
                except OSError as error:
                    if error.errno in _FULL:
                        log.warning("no connection can be accepted: %s", error.strerror)
                        # Not armed until the next tick, since the event would come again and again.
                        self._full = True
                        return
                    # The client is gone already.
                    continue
                self._begin(socket, address)
            self._pool.poller.modify(self._fd, IN | ONCE)

    def tick(self, now: float) -> None:
        """Accept again, if it was impossible until now."""
        with self._lock:
            if self._full and not self._closed:
                self._full = False
                self._pool.poller.modify(self._fd, IN | ONCE)

    def close(self, code: int, reason: str) -> None:
        self.abort()

    def abort(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._pool.forget(self._fd)
                self._socket.close()

    def _begin(self, socket: sockets.socket, address: Any) -> None:
        try:
            handshake = ServerHandshake(self._pool, self._site, socket, peer_name(address), self._ssl)
        except (OSError, ValueError):
            socket.close()
            return
        try:
            self._pool.add(handshake.fd, handshake)
        except RuntimeError:
            socket.close()


class ServerHandshake:
    """Handshake of one client, after which a link takes its place in the pool.

    A thread that holds an event of the descriptor's former owner may call `handle` at any time, also beside
    the thread that has an event of this client, and after the end.
    """

    __slots__ = (
        "_ended",
        "_late",
        "_lock",
        "_peer",
        "_pool",
        "_reader",
        "_refused",
        "_secured",
        "_site",
        "_socket",
        "_turn",
        "fd",
    )

    def __init__(
        self, pool: Pool, site: Site, socket: sockets.socket, peer: str, ssl: tls.SSLContext | None
    ) -> None:
        if ssl is not None:
            socket.setblocking(False)
            socket = ssl.wrap_socket(socket, server_side=True, do_handshake_on_connect=False)
        elif not NOW:
            socket.setblocking(False)
        timeout = site.limits.handshake_timeout
        self._pool = pool
        self._site = site
        self._socket = socket
        self._peer = peer
        self._secured = ssl is None
        self._late = None if timeout is None else time.monotonic() + timeout
        self._reader: HeadReader | None = None
        self._refused = False
        # Held by the thread that closes the socket or shuts it down.
        self._lock = threading.Lock()
        # Held by the thread that reads; the descriptor is another's once the handshake has ended.
        self._turn = threading.Lock()
        self._ended = False
        self.fd = socket.fileno()

    def handle(self, events: int, buffer: memoryview) -> None:
        with self._turn:
            link = None if self._ended else self._receive(buffer)
            if self._pool.closing and not self._ended:
                # `close` left it to this thread.
                self.abort()
        if link is not None:
            link.handle(events, buffer)

    def _receive(self, buffer: memoryview) -> Link | None:
        """Read what is there; return the link once one has taken over."""
        try:
            if not self._secured:
                self._socket.do_handshake()  # type: ignore[attr-defined]
                self._secured = True
            while True:
                if isinstance(self._socket, tls.SSLSocket):
                    count = self._socket.recv_into(buffer)
                else:
                    count = self._socket.recv_into(buffer, 0, NOW)
                if not count:
                    self._drop()
                    break
                if not self._refused and (link := self._read(buffer[:count])) is not None:
                    return link
        except tls.SSLWantWriteError:
            self._pool.poller.modify(self.fd, OUT | ONCE)
        except Blocked:
            self._pool.poller.modify(self.fd, IN | ONCE)
        except (OSError, ValueError) as error:
            if not self._secured and isinstance(error, tls.SSLError):
                reason = (error.reason or str(error)).replace("_", " ").lower()
                log.warning("%s: no TLS: %s", self._peer, reason)
            self._drop()
        except Exception:
            log.exception("%s: dropped", self._peer)
            self._drop()
        return None

    def tick(self, now: float) -> None:
        """Drop a client that is too slow."""
        if self._late is not None and now >= self._late:
            if not self._refused:
                log.warning("%s: no handshake in %g s", self._peer, self._site.limits.handshake_timeout)
            self.abort()

    def close(self, code: int, reason: str) -> None:
        """End it, unless a thread reads: a request that is whole is answered first, and told why."""
        if self._turn.acquire(blocking=False):
            try:
                if not self._ended:
                    self.abort()
            finally:
                self._turn.release()

    def abort(self) -> None:
        """Shut the connection down; the event that follows has it closed."""
        self._late = None
        with self._lock:
            try:
                sockets.socket.shutdown(self._socket, sockets.SHUT_RDWR)
            except OSError:
                pass

    def _read(self, data: memoryview) -> Link | None:
        """Process more of the request; return the link that is to take over once it is whole."""
        if self._reader is None:
            self._reader = HeadReader(self._site.limits, client=False)
        try:
            request = self._reader.feed(data)
            if request is None:
                return None
            assert isinstance(request, Request)
            websocket, response = self._site.open(request, self._peer)
        except HandshakeError as error:
            self._refuse(error)
            return None
        link = self._pool.link(websocket, self._socket)
        link.queue(response)
        link.initial = self._reader.rest
        self._ended, self._late = True, None
        self._pool.entries[self.fd] = link
        if self._pool.closing:
            close = self._pool.close_frame
            link.close(close.code, close.reason)
        return link

    def _refuse(self, error: HandshakeError) -> None:
        """Answer with the reason, and shut down our side; the client ends the connection."""
        log.log(error.level, "%s: %s", self._peer, error)
        self._refused = True
        self._late = time.monotonic() + self._site.limits.close_timeout
        # It is far smaller than the buffer of a new socket.
        self._socket.send(refusal(error))
        sockets.socket.shutdown(self._socket, sockets.SHUT_WR)

    def _drop(self) -> None:
        self._ended = True
        with self._lock:
            self._pool.forget(self.fd)
            self._socket.close()
        self._pool.handshake_ended()
