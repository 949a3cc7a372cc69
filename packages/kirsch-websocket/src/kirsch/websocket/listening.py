"""Sockets: addresses, what the system has to send, and the base of servers whose waiting blocks."""

import array
import contextlib
import fcntl
import os
import socket as sockets
import stat
import termios
import threading
from typing import Any, Final, Self
from urllib.parse import quote

from kirsch.install import pip_install
from kirsch.websocket.core.frame import GOING_AWAY
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.url import place

# Connections that may wait to be accepted.
BACKLOG: Final = 1024
# Seconds that a handshake may take where no limit is set.
LONG: Final = 3600.0
# Seconds from one look for signals to the next.
ATTENTION: Final = 1.0


def peer_name(address: Any) -> str:
    """Return a client's address as logs show it."""
    return place(*address[:2]) if isinstance(address, tuple) else "unix"


def outgoing(socket: Any) -> int:
    """Return how many bytes the system has that the peer's has not taken; 0 if it does not tell (tcp(7))."""
    count = array.array("i", [0])
    try:
        fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, count)
    except (OSError, ValueError):
        return 0
    return count[0]


class Place:
    """Address of a listening socket.

    Attributes:
        address: (host, port), or the path of a Unix socket.
    """

    def __init__(self, address: Any, secure: bool) -> None:
        """`address` is what `getsockname` gives; `secure` is True with TLS."""
        self.address: Any = address[:2] if isinstance(address, tuple) else address
        self._secure = secure
        self._inode = _inode(self.address)

    @property
    def url(self) -> str:
        """URL that clients connect to."""
        scheme = "wss" if self._secure else "ws"
        if isinstance(self.address, str):
            return f"{scheme}+unix://{quote(self.address, errors='surrogateescape')}"
        return f"{scheme}://{place(*self.address)}/"

    def remove(self) -> None:
        """Remove a Unix socket's path, unless another socket has replaced it."""
        if self._inode is not None and _inode(self.address) == self._inode:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address)


def wait_for(event: threading.Event) -> None:
    """Wait for an event in a way that Ctrl-C ends.

    A signal that comes just before a wait without a timeout is seen only after it.
    """
    while not event.wait(ATTENTION):
        pass


class Listening:
    """Server that serves as soon as it is made: `with serve(...) as server`.

    Attributes:
        address: (host, port), or the path of a Unix socket.
        url: the URL for clients.
    """

    def __init__(self, place: Place) -> None:
        self.address: Any = place.address
        self.url = place.url

    def serve_forever(self) -> None:
        """Serve until another thread calls `close()`, or an exception (KeyboardInterrupt); then close."""
        try:
            self._wait()
        finally:
            self.close()

    def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        """Stop listening, close every connection, and wait for their end.

        Args:
            code, reason: for the peers.
            timeout: seconds to wait for the peers before they are aborted, and then for applications that
                still run; None for `limits.close_timeout`.

        Raises ValueError for a code or a reason that cannot be sent; nothing is closed then.
        """
        raise NotImplementedError

    def _wait(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def listener(host: str | None, port: int, backlog: int = BACKLOG) -> sockets.socket:
    """Return a socket listening on a host's first address; None and "" are all of IPv4. Raises OSError."""
    family = sockets.AF_INET
    if host:
        try:
            found = sockets.getaddrinfo(host, port, type=sockets.SOCK_STREAM, flags=sockets.AI_PASSIVE)
        except sockets.gaierror as error:
            raise no_such_host(host, error) from None
        family = found[0][0]
    return sockets.create_server((host or "", port), family=family, backlog=backlog)


def http_server(limits: Limits, threads: int) -> tuple[Any, Any]:
    """Return the module of kirsch's HTTP server, and its limits where it has only handshakes to answer.

    Raises ImportError where it is not installed.
    """
    try:
        from kirsch.bus import http
    except ModuleNotFoundError:
        raise ImportError(
            f"kirsch's HTTP server is not installed: {pip_install('kirsch-websocket[cherrypy]')}"
        ) from None
    return http, http.Limits(
        threads=threads,
        timeout=limits.handshake_timeout or LONG,
        shutdown=limits.close_timeout,
        target=limits.handshake,
        header=limits.handshake,
        body=limits.handshake,
    )


def no_such_host(host: str | None, error: sockets.gaierror) -> sockets.gaierror:
    """Return the resolver's error with the name of the host."""
    return sockets.gaierror(error.errno, f"{host}: {error.strerror}")


def unix_socket(path: str) -> sockets.socket:
    """Return a socket bound to a path with mode 0600; a dead socket that is there is replaced."""
    socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    try:
        if _is_dead(path):
            os.unlink(path)
        mask = os.umask(0o177)
        try:
            socket.bind(path)
        finally:
            os.umask(mask)
    except BaseException:
        socket.close()
        raise
    return socket


def _is_dead(path: str) -> bool:
    """Return True if the path is a socket on which no process listens."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        # A blocking connect would wait while the backlog is full.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            pass
    return False


def _inode(address: Any) -> tuple[int, int] | None:
    """Return device and inode of a Unix socket's path; None if there is none."""
    try:
        found = os.stat(address) if isinstance(address, str) else None
    except OSError:
        return None
    return found and (found.st_dev, found.st_ino)
