"""HTTP server for WSGI applications: a thread sees a request once it is complete.

All connections are in one epoll(7), and of the threads one leads: it accepts, reads, and looks after
deadlines. When a request is complete it makes another thread the leader and answers the request itself, so
that no request changes hands. Where `Limits.threads` requests are being answered it goes on leading, and
complete requests wait in a queue; so slow clients, however many, hold descriptors and no threads.
"""

import contextlib
import errno
import logging
import os
import select
import socket as sockets
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from kirsch.bus.http import listener
from kirsch.bus.http.connection import IN, Connection, Gone, HandshakeError, peer_environ
from kirsch.bus.http.limits import Limits, Phase
from kirsch.bus.http.listener import Address, ServerError, name_of
from kirsch.bus.http.output import Full, Spool
from kirsch.bus.http.request import Refused, Request
from kirsch.bus.http.response import Response, ResponseError, refusal
from kirsch.bus.http.wsgi import Application, Exchange, base_environ, close_input, environ

_ONESHOT = select.EPOLLONESHOT
_EVENTS = 64
_OUT_OF_DESCRIPTORS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
# A request that has come this far is answered before the server stops.
_BEGUN = frozenset((Phase.BODY, Phase.ANSWER))
_BUSY = Refused(503, "The server is busy.")
_CROWDED = Refused(503, "There are too many connections from this address.")
_LATE = {
    Phase.SILENT: Refused(408, "No request came."),
    Phase.HEAD: Refused(408, "The request's head did not come in time."),
    Phase.BODY: Refused(408, "The request's body came too slowly."),
}

Log = Callable[[str, int, bool], object]


def _log(message: str, level: int, traceback: bool) -> None:
    logging.getLogger(__name__).log(level, message, exc_info=traceback)


class Server:
    """Serves one application at one address: `bind`, `serve`, `stop`, and again.

    `application` is WSGI's. `headers` are fields of the answers that the server gives on its own; the Server
    among them is that of all answers that have none. `stream`, called with method and path, returns True
    where the application reads a body while it comes, on up to half of the threads; beyond that, bodies are
    complete first. `log` is called with a message, its level, and True where a traceback belongs to it.
    """

    def __init__(
        self,
        address: Address,
        application: Application,
        limits: Limits | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        reuse_port: bool = False,
        headers: Mapping[str, str] | None = None,
        stream: Callable[[str, str], bool] | None = None,
        log: Log = _log,
    ) -> None:
        self.address = address
        self.application = application
        self.limits = limits or Limits()
        self.tls = tls
        self.reuse_port = reuse_port
        fields = dict(headers or {})
        self.name = fields.pop("Server", "kirsch").encode("latin-1")
        self.headers = tuple(fields.items())
        self.stream = stream
        self.log = log
        self._listener: sockets.socket | None = None
        self._inode: int | None = None
        self._connections: dict[int, Connection] = {}
        self._addresses: dict[str, int] = {}
        # Those whose body an application reads.
        self._streaming: set[Connection] = set()
        self._spool = Spool(self.limits.spool, max(1, self.limits.threads // 2))
        self._threads: list[threading.Thread] = []
        self._mutex = threading.Lock()
        self._changed = threading.Condition(self._mutex)
        self._running = 0
        self._idle: list[threading.Lock] = []
        self._queue: deque[Connection] = deque()
        self._events: deque[tuple[int, int]] = deque()
        self._draining = self._stopping = self._ended = False
        self._finished = threading.Event()

    @property
    def ready(self) -> bool:
        """True while it listens."""
        return self._listener is not None

    @property
    def socket(self) -> sockets.socket | None:
        """The socket that listens; CherryPy's ServerAdapter asks it for its port."""
        return self._listener

    @property
    def busy(self) -> int:
        """The number of requests that are being answered, or wait for a thread."""
        return self._running + len(self._queue)

    @property
    def open(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    def bind(self) -> None:
        """Listen now; requests wait until `serve`. Raises ServerError."""
        if self._listener is not None:
            return
        sock = listener.listen(self.address, self.limits.backlog, reuse_port=self.reuse_port)
        if isinstance(self.address, str):
            self._inode = os.stat(self.address).st_ino
            name, port = "localhost", "80"
        else:
            name = self.address[0] or sockets.gethostname()
            self.address = sock.getsockname()[:2]  # a port that was free is kept for the next start
            port = str(self.address[1])
            if name in ("0.0.0.0", "::"):  # noqa: S104
                name = sockets.gethostname()
        scheme = "http" if self.tls is None else "https"
        self._base = base_environ(name, port, scheme, {})
        self._listener = sock

    def serve(self) -> None:
        """Serve from now on, in threads of its own. Raises ServerError."""
        self.bind()
        assert self._listener is not None
        self._draining = self._stopping = self._ended = False
        self._finished.clear()
        self._running = 0
        self._accepting = True
        self._swept = time.monotonic()
        self._interval = min(max(min(self.limits.timeout, self.limits.idle) / 10, 0.02), 1.0)
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, IN)
        self._epoll.register(self._listener, IN)
        self._idle = []
        self._threads = []
        # One more than answer requests: the leader.
        for number in range(self.limits.threads + 1):
            turn = threading.Lock()
            turn.acquire()
            self._idle.append(turn)
            thread = threading.Thread(
                target=self._work, args=(turn,), name=f"HTTP {name_of(self.address)} {number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        self._idle.pop().release()

    def start(self) -> None:
        """Serve, and return once `stop` was called: what CherryPy's ServerAdapter asks of a server."""
        self.serve()
        self._finished.wait()

    def drain(self) -> None:
        """Close each connection after its next answer."""
        self._draining = True

    def stop(self) -> None:
        """Stop listening, answer the requests that are complete, and close all connections.

        Waits `Limits.shutdown` for the requests, but not for one that calls this itself.
        """
        if self._listener is None:
            return
        if not self._threads:
            self._close_listener()
            return
        own = int(threading.current_thread() in self._threads)
        until = time.monotonic() + self.limits.shutdown
        with self._changed:
            if self._stopping:
                return
            self._stopping = True
            os.eventfd_write(self._wake, 1)
            while self._listener is not None or self._running > own or self._queue or self._answering():
                self._changed.wait(min(until - time.monotonic(), self._interval))
                if time.monotonic() >= until:
                    unanswered = f"The server stopped before it had answered {self.busy} requests"
                    self.log(unanswered, logging.WARNING, False)
                    break
            self._ended = True
            os.eventfd_write(self._wake, 1)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(until - time.monotonic(), 1.0))
        self._close_listener()
        for connection in list(self._connections.values()):
            self._close(connection)
        self._queue.clear()
        self._events.clear()
        self._epoll.close()
        os.close(self._wake)
        self._threads = []
        self._finished.set()

    def _answering(self) -> bool:
        """True while an answer is being sent, or the body of a request still comes."""
        return any(each.phase in _BEGUN for each in list(self._connections.values()))

    def _close_listener(self) -> None:
        sock, self._listener = self._listener, None
        if sock is None:
            return
        if self._inode is not None:
            listener.remove_path(sock, self._inode)
            self._inode = None
        sock.close()

    # The threads.

    def _work(self, turn: threading.Lock) -> None:
        """Lead, answer, and wait until it is this thread's turn to lead again."""
        while True:
            turn.acquire()
            connection = self._lead()
            if connection is None:
                with self._mutex:
                    for idle in self._idle:
                        idle.release()
                    self._idle.clear()
                return
            while connection is not None:
                answered = connection
                try:
                    connection = self._answer(answered)
                except Exception:
                    connection = self._fail(answered)
                with self._mutex:
                    if self._queue:
                        if connection is not None:  # others have waited longer
                            self._queue.append(connection)
                        connection = self._queue.popleft()
                    elif connection is None:
                        self._running -= 1
                        if self._ended:
                            return
                        self._idle.append(turn)
                    if self._stopping:
                        self._changed.notify_all()

    def _lead(self) -> Connection | None:
        """Lead until there is a request for this thread; None once the server has ended."""
        events = self._events
        while not self._ended:
            while events:
                descriptor, _ = events.popleft()
                connection = self._handle(descriptor)
                if connection is not None and self._assign(connection):
                    return connection
            now = time.monotonic()
            if now - self._swept >= self._interval:
                self._swept = now
                self._sweep(now)
            busy = self._connections or not self._accepting or self._stopping
            events.extend(self._epoll.poll(self._interval if busy else None, _EVENTS))
        return None

    def _assign(self, connection: Connection) -> bool:
        """Give a complete request to this thread, and its lead to another, or to the queue: False."""
        with self._mutex:
            if self._running < self.limits.threads:
                self._running += 1
                follower = self._idle.pop()
            elif len(self._queue) < self.limits.queue:
                self._queue.append(connection)
                return False
            else:
                follower = None
        if follower is None:
            self._refuse(connection, _BUSY)
            return False
        follower.release()
        return True

    def _handle(self, descriptor: int) -> Connection | None:
        """Do what an event asks for: a connection that has a complete request."""
        connection = self._connections.get(descriptor)
        if connection is None:
            if self._listener is not None and descriptor == self._listener.fileno():
                self._accept(self._listener)
            elif descriptor == self._wake:
                self._attend()
            return None
        if not connection.armed:
            return None
        connection.armed = False
        try:
            return self._step(connection)
        except Exception:
            return self._fail(connection)

    def _fail(self, connection: Connection) -> Connection | None:
        """Close a connection after an error of this server, whose thread goes on."""
        self.log("Error in the HTTP server", logging.ERROR, True)
        return self._close(connection)

    def _attend(self) -> None:
        """Begin to stop, when `stop` has asked for that."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        if self._stopping and self._listener is not None:
            self._accept(self._listener)  # those that the kernel has accepted have a request to make
            self._epoll.unregister(self._listener)
            with self._changed:
                self._close_listener()
                self._changed.notify_all()

    def _accept(self, sock: sockets.socket) -> None:
        for _ in range(self.limits.backlog):
            try:
                client, address = sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS and not self._make_room():
                    self.log(f"cannot accept connections: {error.strerror}", logging.WARNING, False)
                    self._accepting = False
                    self._epoll.modify(sock, 0)
                    return
                continue
            try:
                self._begin(client, address)
            except OSError:
                client.close()

    def _begin(self, client: sockets.socket, address: Any) -> None:
        """Take in a new connection."""
        client.setblocking(False)
        limits = self.limits
        host = ""
        more: dict[str, Any] = {}
        if client.family == sockets.AF_UNIX:
            more = peer_environ(client)
        else:
            client.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
            host = address[0]
            more = {"REMOTE_ADDR": host, "REMOTE_PORT": str(address[1])}
        refused = None
        if limits.per_address and host and self._addresses.get(host, 0) >= limits.per_address:
            refused = _CROWDED
        elif len(self._connections) >= limits.connections and not self._make_room():
            refused = _BUSY
        if refused is not None:
            if self.tls is None:
                client.send(self._refusal(refused))
                client.shutdown(sockets.SHUT_WR)
            client.close()
            return
        if self.tls is not None:
            client = self.tls.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        connection = Connection(client, host, limits, self._spool, self._streams)
        connection.environ = {**self._base, **more}
        if self.tls is not None:
            connection.enter(Phase.HANDSHAKE)
        self._connections[connection.fd] = connection
        if limits.per_address:
            with self._mutex:
                self._addresses[host] = self._addresses.get(host, 0) + 1
        connection.armed = True
        try:
            self._epoll.register(connection.fd, connection.events | _ONESHOT)
        except OSError:
            self._close(connection)

    def _streams(self, connection: Connection, request: Request) -> bool:
        """Return True where the application is to read the body of a request itself."""
        if self.stream is None or not self.stream(request.method, request.path_and_query[0]):
            return False
        with self._mutex:
            if len(self._streaming) >= self.limits.threads // 2:
                return False
            self._streaming.add(connection)
        return True

    def _make_room(self) -> bool:
        """Close the connection that has been idle longest, if one is."""
        with self._mutex:
            idle = [each for each in self._connections.values() if each.armed and each.phase is Phase.IDLE]
            if not idle:
                return False
            connection = min(idle, key=lambda each: each.since)
            connection.armed = False
        self._close(connection)
        return True

    def _sweep(self, now: float) -> None:
        """End what has waited too long."""
        if not self._accepting and self._listener is not None:
            self._accepting = True
            self._epoll.modify(self._listener, IN)
        for connection in list(self._connections.values()):
            if connection.armed and (
                connection.late(now) or (self._stopping and connection.phase in (Phase.IDLE, Phase.SILENT))
            ):
                with self._mutex:
                    if not connection.armed:
                        continue
                    connection.armed = False
                late = _LATE.get(connection.phase)
                try:
                    if late is None or self._stopping:
                        self._close(connection)
                    else:
                        self._refuse(connection, late)
                except Exception:
                    self._fail(connection)
        if self._stopping:
            with self._changed:
                self._changed.notify_all()

    # One connection, by the thread that has it: each returns it where its next request is complete already.

    def _step(self, connection: Connection) -> Connection | None:
        """Go on with a connection that epoll has woken; return it where it has a complete request."""
        try:
            phase = connection.phase
            if phase is Phase.ANSWER:
                return (
                    self._after(connection)
                    if connection.output.send(connection.socket)
                    else self._arm(connection)
                )
            if phase is Phase.CLOSING:
                return self._arm(connection) if connection.drop() else self._close(connection)
            if phase is Phase.HANDSHAKE and not connection.handshake():
                return self._arm(connection)
            return connection if connection.receive() is not None else self._arm(connection)
        except Refused as refused:
            return self._refuse(connection, refused)
        except HandshakeError as error:
            self.log(f"{connection.host}: no TLS handshake: {error}", logging.INFO, False)
            return self._finish(connection)
        except (OSError, EOFError):
            return self._close(connection)

    def _answer(self, connection: Connection) -> Connection | None:
        """Have the application answer; return the connection where its next request is complete already."""
        request, connection.request = connection.request, None
        assert request is not None
        limits = self.limits
        connection.output.sent = 0
        keep = not (self._draining or self._stopping) and len(self._connections) <= limits.keep_alive
        response = Response(request, keep=keep, name=self.name)
        exchange = Exchange(request, response, connection, limits.idle)
        try:
            exchange.run(self.application, environ(request, connection.environ, exchange.upgrade))
        except Gone:
            return self._close(connection)
        except Full:
            self.log(
                f"{request.method} {request.target}: closed, for the client takes its answer too slowly, and "
                f"the answers that wait for clients have {limits.spool} bytes of files already",
                logging.WARNING,
                False,
            )
            return self._close(connection)
        except BaseException as error:
            refused = exchange.failed
            if refused is None:
                unsound = isinstance(error, ResponseError)
                reason = f": {error}" if unsound else ""
                self.log(f"{request.method} {request.target} failed{reason}", logging.ERROR, not unsound)
                refused = Refused(500, "Something went wrong on the server; its log says what.")
            return self._close(connection) if exchange.sent else self._refuse(connection, refused)
        finally:
            self._streaming.discard(connection)
            close_input(request.body)
        connection.close_after = response.close
        if response.status == 101:
            connection.handover = exchange.upgraded
            connection.close_after = exchange.upgraded is None
        return self._arm(connection) if connection.output else self._after(connection)

    def _after(self, connection: Connection) -> Connection | None:
        """Go on once an answer is sent; return the connection where its next request is complete already."""
        if connection.handover is not None:
            return self._hand_over(connection)
        if connection.close_after:
            return self._finish(connection)
        connection.enter(Phase.IDLE)
        try:
            if connection.next() is not None:
                return connection
        except Refused as refused:
            return self._refuse(connection, refused)
        except OSError:
            return self._close(connection)
        return self._arm(connection)

    def _hand_over(self, connection: Connection) -> Connection | None:
        """Give a connection away, after a 101."""
        handover, sock = connection.handover, connection.socket
        assert handover is not None
        self._epoll.unregister(connection.fd)
        self._forget(connection)
        try:
            sock.setblocking(True)
            handover(sock, connection.reader.rest())
        except Exception:
            self.log("Error in what takes a connection over", logging.ERROR, True)
            sock.close()
        return None

    def _refuse(self, connection: Connection, refused: Refused) -> Connection | None:
        if isinstance(refused.__cause__, OSError):
            self.log(f"{refused.reason} {refused.__cause__}", logging.ERROR, False)
        self._streaming.discard(connection)
        connection.enter(Phase.ANSWER)
        connection.output.sent = 0
        try:
            connection.close_after = True
            connection.write(self._refusal(refused))
        except Gone:
            return self._close(connection)
        return self._arm(connection) if connection.output else self._finish(connection)

    def _refusal(self, refused: Refused) -> bytes:
        return refusal(refused, self.name, self.headers)

    def _finish(self, connection: Connection) -> Connection | None:
        """End a connection whose answer is sent: the client reads it before it sees the end."""
        return self._arm(connection) if connection.finish() else self._close(connection)

    def _arm(self, connection: Connection) -> Connection | None:
        """Watch a connection; it is no longer this thread's."""
        if self._ended:
            return self._close(connection)
        with self._mutex:
            connection.armed = True
            self._epoll.modify(connection.fd, connection.events | _ONESHOT)
        return None

    def _close(self, connection: Connection) -> Connection | None:
        self._forget(connection)
        connection.close()
        return None

    def _forget(self, connection: Connection) -> None:
        self._streaming.discard(connection)
        if self._connections.get(connection.fd) is not connection:
            return  # its descriptor may be another's by now
        del self._connections[connection.fd]
        if self.limits.per_address:
            with self._mutex:
                left = self._addresses.get(connection.host, 1) - 1
                if left:
                    self._addresses[connection.host] = left
                else:
                    self._addresses.pop(connection.host, None)


__all__ = ["Server", "ServerError"]
