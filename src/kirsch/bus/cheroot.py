"""What has to be changed inside cheroot (11.1, pinned): a test fails when that changes.

A Unix socket is made with mode 0600, where cheroot makes it 0777; the socket file of a dead server is
replaced, that of a live one is not; a connection that says nothing holds no thread; the number of kept-alive
connections is a limit one can set, and none is kept while the bus drains. How requests are read is in
kirsch.bus.request.
"""

import errno
import logging
import os
import queue
import select
import socket
import ssl
import stat
import time
from dataclasses import dataclass
from typing import Any

import cheroot.server
import cheroot.wsgi
import cherrypy
from cheroot.connections import ConnectionManager
from cheroot.makefile import MakeFile
from cherrypy._cpwsgi_server import CPWSGIServer

from kirsch.bus.gateway import Gateway
from kirsch.bus.lighter import lighten
from kirsch.bus.request import Request, tell_nothing
from kirsch.bus.stream import file_maker, keep_time
from kirsch.bus.tls import Handshake

UNIX_PATH_MAX = 108  # bytes with the closing zero, unix(7)


class ServerError(Exception):
    """A server that cannot listen where it should, in one line."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes on: sizes in bytes, times in seconds.

    `backlog`: connections the kernel holds for us (its own somaxconn is above that). `queue`: connections
    accepted while every thread is busy; after that, 503. `keep_alive`: idle connections kept. `timeout`: the
    longest wait for a client's next bytes. `shutdown`: how long a stop waits for requests in flight.
    """

    threads: int = 20
    backlog: int = 1024
    queue: int = 1000
    keep_alive: int = 1000
    timeout: float = 15.0
    shutdown: float = 30.0
    header: int = 64 * 1024
    body: int = 10 * 1024 * 1024


class Selector:
    """Connections whose clients have not spoken yet, as cheroot's _ThreadsafeSelector has them, with no lock.

    cheroot's holds its lock during system calls, which let another thread run into it: a fifth of a server's
    time. Here a connection stays in epoll(7), disarmed once it has something to say (EPOLLONESHOT).
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._waiting: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def connections(self) -> list[tuple[int, Any]]:
        """Those that wait, by descriptor."""
        return list(self._waiting.items())

    def listen(self, descriptor: int, server: Any) -> None:
        """Watch the server's own socket, always."""
        self._waiting[descriptor] = server
        self._epoll.register(descriptor, select.EPOLLIN)

    def register(self, descriptor: int, events: int, data: Any) -> None:
        """Wait for a connection's next bytes."""
        self._waiting[descriptor] = data
        try:
            self._epoll.modify(descriptor, select.EPOLLIN | select.EPOLLONESHOT)
        except FileNotFoundError:
            self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLONESHOT)

    def unregister(self, descriptor: int) -> None:
        """Wait no longer: it has spoken, or is to be closed."""
        self._waiting.pop(descriptor, None)

    def forget(self, descriptor: int) -> None:
        """Have nothing to do any more with a connection that has spoken."""
        try:
            self._epoll.unregister(descriptor)
        except FileNotFoundError:
            pass  # it never waited

    def select(self, timeout: float | None = None) -> list[tuple[int, Any]]:
        """Wait for connections that have something to say."""
        ready = ((descriptor, self._waiting.get(descriptor)) for descriptor, _ in self._epoll.poll(timeout))
        return [
            (descriptor, data)
            for descriptor, data in ready
            if data is not None and self._is_up(descriptor, data)
        ]

    def _is_up(self, descriptor: int, data: Any) -> bool:
        """Whether a connection's bytes are a request's; of its TLS handshake another step is done else."""
        handshake = getattr(data, "handshake", None)
        if handshake is None:
            return True
        done = handshake.step()
        if done is None:
            self._epoll.modify(descriptor, handshake.events | select.EPOLLONESHOT)
        elif done:
            data.begin()
            self.register(descriptor, select.EPOLLIN, data)
        else:
            self.unregister(descriptor)
            data.close()
        return False

    def close(self) -> None:
        """Watch nothing any more."""
        self._epoll.close()


class _Connections(ConnectionManager):
    """cheroot's, but a connection has no thread before its client has said something.

    cheroot gives a new connection to a thread at once, which then waits for the request: as many silent
    clients as there are threads, and nobody else is heard until they time out.
    """

    _selector: Any

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self._selector.close()
        self._selector = Selector()
        self._selector.listen(server.socket.fileno(), server)

    def _from_server_socket(self, server_socket: socket.socket) -> None:
        connection = super()._from_server_socket(server_socket)  # type: ignore[misc]
        if connection is not None:
            if isinstance(connection.socket, ssl.SSLSocket):
                connection.shake(self.server.error_log)
            self.put(connection)


class Connection(cheroot.server.HTTPConnection):
    """A client's connection, read and written by kirsch.bus.stream."""

    RequestHandlerClass = Request
    handshake: Handshake | None = None

    def __init__(self, server: Any, sock: Any, makefile: Any = MakeFile) -> None:
        if isinstance(sock, ssl.SSLSocket):
            makefile = file_maker(server.timeout)
        elif makefile is MakeFile:  # with TLS by pyOpenSSL it is another, and the socket is none
            keep_time(sock, server.timeout)
            makefile = file_maker(server.timeout)
        super().__init__(server, sock, makefile)

    def shake(self, log: Any) -> None:
        """Begin with TLS's handshake: the connection has its server's timeout for that."""
        self.handshake = Handshake(self.socket, f"{self.remote_addr}:{self.remote_port}", log)

    def begin(self) -> None:
        """The handshake is done: from now on requests may come."""
        self.handshake = None
        self.last_used = time.time()
        self.socket.settimeout(self.server.timeout)


class Queue:
    """Connections that wait for a thread: queue.Queue as cheroot uses it, made of the faster SimpleQueue."""

    def __init__(self, size: int) -> None:
        self.maxsize = size
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.get = self._queue.get
        self.qsize = self._queue.qsize

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Raises queue.Full, at once: nobody else is to wait meanwhile."""
        if block and timeout is not None and 0 < self.maxsize <= self._queue.qsize():
            raise queue.Full
        self._queue.put(item)


class _Listening:
    """Over a cheroot server: how it binds, what it keeps, how it winds down."""

    bind_addr: Any
    socket: socket.socket | None
    keep_alive: int
    bind_error: OSError | None = None
    _inode: int | None = None
    _connections: ConnectionManager
    requests: Any

    class ConnectionClass(Connection):
        pass

    def prepare(self) -> None:
        tell_nothing()
        lighten()
        self.gateway = Gateway
        self.keep_alive_conn_limit = self.keep_alive
        waiting = Queue(self.requests._queue.maxsize)
        self.requests._queue, self.requests.get = waiting, waiting.get
        super().prepare()  # type: ignore[misc]
        self._connections.close()
        self._connections = _Connections(self)

    def wind_down(self) -> None:
        """Close each connection after its response: what the bus does on 'drain'."""
        self.keep_alive_conn_limit = 0

    def bind(self, family: int, type: int, proto: int = 0) -> Any:
        try:
            return super().bind(family, type, proto)  # type: ignore[misc]
        except OSError as error:
            self.bind_error = error  # cheroot keeps only its text
            raise

    def bind_unix_socket(self, bind_addr: str) -> Any:
        """Raises ServerError when the path is too long, in use, or something else's."""
        clear_socket_path(bind_addr)
        sock = self.prepare_socket(  # type: ignore[attr-defined]
            bind_addr, socket.AF_UNIX, socket.SOCK_STREAM, 0, False, None
        )
        try:
            # Before bind(2), which makes the file with the mode that its socket has.
            os.fchmod(sock.fileno(), 0o600)
            sock.bind(bind_addr)
        except OSError as error:
            sock.close()
            raise ServerError(f"cannot listen on {bind_addr}: {error.strerror}") from None
        self._inode = os.stat(bind_addr).st_ino
        self.socket = sock
        return sock

    def stop(self) -> None:
        super().stop()  # type: ignore[misc]
        if self._inode is not None:
            try:
                if os.stat(self.bind_addr).st_ino == self._inode:
                    os.unlink(self.bind_addr)
            except FileNotFoundError:
                pass
            self._inode = None


class Server(_Listening, cheroot.wsgi.Server):
    """A WSGI server that logs to a bus."""

    def __init__(self, bus: Any, bind_addr: str | tuple[str, int], app: Any, limits: Limits) -> None:
        super().__init__(
            bind_addr,
            app,
            numthreads=limits.threads,
            request_queue_size=limits.backlog,
            timeout=limits.timeout,  # type: ignore[arg-type] # a float will do
            shutdown_timeout=limits.shutdown,  # type: ignore[arg-type]
            accepted_queue_size=limits.queue,
            accepted_queue_timeout=1,
        )
        self.bus = bus
        self.keep_alive = limits.keep_alive
        self.max_request_header_size = limits.header
        self.max_request_body_size = limits.body
        bus.subscribe("drain", self.wind_down)

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        self.bus.log(msg, level=level, traceback=traceback)


class ApplicationServer(_Listening, CPWSGIServer):
    """CherryPy's own server with these limits: the value of `server.instance` in SERVER_DEFAULTS."""

    def __init__(self, adapter: Any = cherrypy.server) -> None:
        super().__init__(adapter)
        self.ConnectionClass.RequestHandlerClass = Request  # CherryPy has just put its own there
        self.keep_alive = getattr(adapter, "keep_alive_conn_limit", Limits().keep_alive)
        adapter.bus.subscribe("drain", self.wind_down)


def clear_socket_path(path: str) -> None:
    """Make way for a socket at `path`: the file of a server that is dead is removed. Raises ServerError."""
    length = len(os.fsencode(path))
    if length >= UNIX_PATH_MAX:
        raise ServerError(f"the socket's path has {length} bytes, {UNIX_PATH_MAX - 1} are allowed: {path}")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ServerError(f"cannot listen on {path}: {error.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise ServerError(f"cannot listen on {path}: there is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        code = probe.connect_ex(path)
    if code != errno.ECONNREFUSED:
        raise ServerError(f"cannot listen on {path}: another server does")
    os.unlink(path)
