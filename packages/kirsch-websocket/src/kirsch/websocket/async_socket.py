"""A wire on a socket, read when asyncio's loop says so: no transport stands between."""

import asyncio
import logging
import socket
import ssl
from itertools import islice
from typing import Any

from kirsch.websocket.application import WebSocket
from kirsch.websocket.async_descriptor import DescriptorWire
from kirsch.websocket.async_handshake import Handshake
from kirsch.websocket.async_transport import TransportHandshake
from kirsch.websocket.async_wire import Connections, Ticker, shared
from kirsch.websocket.listening import peer, unknown
from kirsch.websocket.site import Site
from kirsch.websocket.speedups import Pump

log = logging.getLogger("kirsch.websocket")

# So many are accepted before others have their turn; so many seconds pass when no more can be.
ACCEPT = 64
PAUSE = 1.0
# So many buffers are written at once: the system's limit (IOV_MAX).
VECTOR = 1024


class SocketWire(DescriptorWire):
    """A wire on a socket that does not block."""

    def __init__(
        self, websocket: WebSocket, sock: socket.socket, connections: Connections | None = None
    ) -> None:
        super().__init__(websocket, sock, connections)
        self._pump = Pump(self, websocket, sock, self._buffer, Ticker.of(self.loop))
        if type(websocket).wake is WebSocket.wake:
            # What it sends goes there without a call of ours.
            websocket.wake = self._pump.wake  # type: ignore[method-assign]
        self._send = sock.send
        self._sendmsg = sock.sendmsg

    def write(self, pieces: list[bytes | memoryview]) -> None:
        try:
            count = self._send(pieces[0]) if len(pieces) == 1 else self._sendmsg(pieces[:VECTOR])
        except (BlockingIOError, InterruptedError):
            count = 0
        except OSError:
            self._full = True
            self.plain = False
            self.loop.call_soon(self.abort)
            return
        self.wrote(pieces, count)

    def wrote(self, pieces: list[bytes | memoryview], count: int) -> None:
        """So much of this was written: the rest is when the system takes more."""
        rest: list[memoryview] = []
        for piece in pieces:
            if count < len(piece):
                rest.append(memoryview(piece)[count:])
                count = 0
            else:
                count -= len(piece)
        if not rest:
            return
        self._full = True
        self.plain = False
        self._rest.extend(rest)
        self._left += sum(map(len, rest))
        self.loop.add_writer(self._fd, self._writable)

    def _writable(self) -> None:
        rest = self._rest
        try:
            count = self._sendmsg(list(islice(rest, VECTOR)))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        self.websocket.heard = True
        self._left -= count
        while rest and count >= len(rest[0]):
            count -= len(rest.popleft())
        if rest:
            rest[0] = rest[0][count:]
        else:
            self._written()

    def wake(self) -> None:
        self._pump.wake()

    def _resume(self) -> None:
        self.loop.add_reader(self._fd, self._pump.readable)


class SocketHandshake(Handshake):
    """The handshake on a connection just accepted; the socket is a SocketWire's then."""

    def __init__(self, site: Site, connections: Connections, sock: socket.socket, address: Any) -> None:
        super().__init__(site, connections)
        self._socket = sock
        self._peer = peer(address)
        self.begin()
        self.loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            count = self._socket.recv_into(shared.buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            count = 0
        if count:
            self.received(bytes(shared.buffer[:count]))
        else:
            self.abort()

    def abort(self) -> None:
        self.left()
        if self._socket.fileno() >= 0:
            self.loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _say(self, response: bytes) -> bool:
        # It fits the buffer of a socket that nothing was written to.
        try:
            if self._socket.send(response) == len(response):
                return True
        except OSError:
            pass
        self.abort()
        return False

    def _open(self, websocket: WebSocket, rest: bytes) -> None:
        SocketWire(websocket, self._socket, self._connections).begin(rest)

    def _linger(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()


class Listener:
    """Sockets that are listened on, and what is accepted there; with a context it is TLS."""

    def __init__(self, site: Site, context: ssl.SSLContext | None) -> None:
        self.sockets: list[socket.socket] = []
        self.connections = Connections()
        self._site = site
        self._context = context
        self.loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()

    def listen(self, sock: socket.socket, backlog: int) -> None:
        """Accept on a socket that is bound."""
        sock.setblocking(False)
        sock.listen(backlog)
        self.sockets.append(sock)
        self.loop.add_reader(sock.fileno(), self._accept, sock)

    def close(self) -> None:
        """Listen no more."""
        for sock in self.sockets:
            if sock.fileno() >= 0:
                self.loop.remove_reader(sock.fileno())
                sock.close()
        for task in self._opening:
            task.cancel()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPT):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptors or no memory: those who wait do so until there are some.
                log.error("cannot accept a connection: %s; trying again in %g s", error, PAUSE)
                self.loop.remove_reader(listening.fileno())
                self.loop.call_later(PAUSE, self._again, listening)
                return
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is None:
                SocketHandshake(self._site, self.connections, sock, address)
            else:
                task = self.connections.run(self._secure(sock, address, self._context))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)

    def _again(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self.loop.add_reader(listening.fileno(), self._accept, listening)

    async def _secure(self, sock: socket.socket, address: Any, context: ssl.SSLContext) -> None:
        try:
            await self.loop.connect_accepted_socket(
                lambda: TransportHandshake(self._site, self.connections),
                sock,
                ssl=context,
                ssl_handshake_timeout=self._site.limits.handshake_timeout,
            )
        except OSError as error:
            log.warning("%s: no TLS: %s", peer(address), error)
            sock.close()
        except BaseException:
            sock.close()
            raise


async def bound(host: str | None, port: int) -> list[socket.socket]:
    """Sockets bound to each address of a host, all to one port; None and "" are every one. Raises OSError."""
    try:
        # An address needs no thread, which would stay: a process with one has slower system calls.
        flags = socket.AI_PASSIVE | socket.AI_NUMERICHOST
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except socket.gaierror as error:
            raise unknown(host, error) from None
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if len(sockets) > 1 and not port:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            sock.bind(address)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets
