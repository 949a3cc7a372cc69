"""Listening sockets on asyncio, and the handshakes of the clients that connect."""

import asyncio
import logging
import socket
import ssl
from typing import Any

from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.handshake import refusal
from kirsch.websocket.core.headers import HeadReader, Request
from kirsch.websocket.core.site import Site
from kirsch.websocket.listening import no_such_host, peer_name
from kirsch.websocket.loops.socket_wire import SocketWire
from kirsch.websocket.loops.transport_wire import TransportWire, end_writing
from kirsch.websocket.loops.wire import Connections, Ticker, shared

log = logging.getLogger("kirsch.websocket")

# Connections accepted before the loop's other callbacks get a turn.
ACCEPT = 64
# Seconds until the next attempt when no connection can be accepted.
PAUSE = 1.0


class Handshake:
    """Server's side of a connection until its handshake is done.

    A subclass calls `begin`, `received` and `forget`, and gives `_send`, `_open`, `_linger` and `abort`.
    """

    def __init__(self, site: Site, connections: Connections) -> None:
        self._site = site
        self._connections = connections
        self._peer = "?"
        self._head = HeadReader(site.limits, client=False)
        self.loop = asyncio.get_running_loop()
        # Time of the first tick, from which the time limit runs.
        self._since: float | None = None
        self._refused = False

    def begin(self) -> None:
        """Start the time limit."""
        self._connections.add(self)
        Ticker.of(self.loop).add(self, self._site.limits.tick)

    def received(self, data: bytes) -> None:
        """Process more of the request, and answer it once its head is complete."""
        if self._refused:
            return
        try:
            request = self._head.feed(data)
            if request is None:
                return
            assert isinstance(request, Request)
            websocket, response = self._site.open(request, self._peer)
        except HandshakeError as error:
            log.log(error.level, "%s: %s", self._peer, error)
            self._refused, self._since = True, None
            # The peer may still be sending, and would lose the answer if the connection were closed at once.
            if self._send(refusal(error)):
                self._linger()
            return
        if self._send(response):
            self.forget()
            self._open(websocket, self._head.rest)

    def forget(self) -> None:
        """Leave the server's connections and the timer."""
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
            # A transport may take longer than until the next tick.
            Ticker.of(self.loop).discard(self)
            self.abort()

    def close(self, code: int, reason: str) -> None:
        self.abort()

    def abort(self) -> None:
        raise NotImplementedError

    def _send(self, response: bytes) -> bool:
        """Send the response; return False if that failed and the connection was aborted."""
        raise NotImplementedError

    def _open(self, websocket: WebSocket, rest: bytes) -> None:
        """Begin the WebSocket on this connection."""
        raise NotImplementedError

    def _linger(self) -> None:
        """End our side; read on until the peer ends its own."""
        raise NotImplementedError


class SocketHandshake(Handshake):
    """Handshake on a socket just accepted, which becomes a SocketWire's."""

    def __init__(self, site: Site, connections: Connections, sock: socket.socket, address: Any) -> None:
        super().__init__(site, connections)
        self._socket = sock
        self._peer = peer_name(address)
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
        self.forget()
        if self._socket.fileno() >= 0:
            self.loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _send(self, response: bytes) -> bool:
        # The response fits the empty buffer of a new socket.
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


class TransportHandshake(Handshake, asyncio.BufferedProtocol):
    """Handshake on a transport with TLS, whose protocol becomes a TransportWire."""

    def __init__(self, site: Site, connections: Connections) -> None:
        super().__init__(site, connections)
        self._buffer = shared.buffer
        self._transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._peer = peer_name(transport.get_extra_info("peername"))
        self.begin()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        self.received(bytes(self._buffer[:count]))

    def connection_lost(self, error: Exception | None) -> None:
        self.forget()

    def abort(self) -> None:
        self._transport.abort()

    def _send(self, response: bytes) -> bool:
        self._transport.write(response)
        return True

    def _open(self, websocket: WebSocket, rest: bytes) -> None:
        wire = TransportWire(websocket, self._connections)
        self._transport.set_protocol(wire)
        wire.attach(self._transport, rest)

    def _linger(self) -> None:
        end_writing(self._transport)


class Listener:
    """Listening sockets, and the connections accepted on them; with a context these speak TLS."""

    def __init__(self, site: Site, context: ssl.SSLContext | None) -> None:
        self.sockets: list[socket.socket] = []
        self.connections = Connections()
        self._site = site
        self._context = context
        self.loop = asyncio.get_running_loop()
        self._tls_handshakes: set[asyncio.Task[None]] = set()

    def listen(self, sock: socket.socket, backlog: int) -> None:
        """Accept connections on a bound socket."""
        sock.setblocking(False)
        sock.listen(backlog)
        self.sockets.append(sock)
        self.loop.add_reader(sock.fileno(), self._accept, sock)

    def close(self) -> None:
        """Close the listening sockets, and cancel TLS handshakes."""
        for sock in self.sockets:
            if sock.fileno() >= 0:
                self.loop.remove_reader(sock.fileno())
                sock.close()
        for task in self._tls_handshakes:
            task.cancel()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPT):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptors or no memory: clients wait in the backlog until there are some.
                log.error("cannot accept a connection: %s; trying again in %g s", error, PAUSE)
                self.loop.remove_reader(listening.fileno())
                self.loop.call_later(PAUSE, self._accept_again, listening)
                return
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is None:
                SocketHandshake(self._site, self.connections, sock, address)
            else:
                task = self.connections.run(self._start_tls(sock, address, self._context))
                self._tls_handshakes.add(task)
                task.add_done_callback(self._tls_handshakes.discard)

    def _accept_again(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self.loop.add_reader(listening.fileno(), self._accept, listening)

    async def _start_tls(self, sock: socket.socket, address: Any, context: ssl.SSLContext) -> None:
        try:
            await self.loop.connect_accepted_socket(
                lambda: TransportHandshake(self._site, self.connections),
                sock,
                ssl=context,
                ssl_handshake_timeout=self._site.limits.handshake_timeout,
            )
        except OSError as error:
            log.warning("%s: no TLS: %s", peer_name(address), error)
            sock.close()
        except BaseException:
            sock.close()
            raise


async def bound(host: str | None, port: int) -> list[socket.socket]:
    """Return sockets bound to each address of a host, all to one port; None and "" are every address.

    Raises OSError.
    """
    try:
        # An IP address needs no resolver thread, which would stay and make the process's system calls slower.
        flags = socket.AI_PASSIVE | socket.AI_NUMERICHOST
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except socket.gaierror as error:
            raise no_such_host(host, error) from None
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
