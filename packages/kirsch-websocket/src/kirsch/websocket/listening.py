"""Where servers listen, what that is called, and what those have in common whose waiting blocks."""

import contextlib
import os
import socket as sockets
import stat
from typing import Any, Final, Self
from urllib.parse import quote

from kirsch.websocket.frame import GOING_AWAY
from kirsch.websocket.url import place

# Connections that wait to be accepted.
BACKLOG: Final = 1024


def peer(address: Any) -> str:
    """A client's address, as logs show it."""
    return place(*address[:2]) if isinstance(address, tuple) else "unix"


class Place:
    """Where a socket listens.

    Attributes:
        address: (host, port), or the path of a Unix socket.
    """

    def __init__(self, address: Any, secure: bool) -> None:
        """`address` is a socket's name; `secure`: there is TLS."""
        self.address: Any = address[:2] if isinstance(address, tuple) else address
        self._secure = secure
        self._inode = _inode(self.address)

    @property
    def url(self) -> str:
        """Where clients find it."""
        scheme = "wss" if self._secure else "ws"
        if isinstance(self.address, str):
            return f"{scheme}+unix://{quote(self.address, errors='surrogateescape')}"
        return f"{scheme}://{place(*self.address)}/"

    def leave(self) -> None:
        """Remove a Unix socket's path, unless it is another one's by now."""
        if self._inode is not None and _inode(self.address) == self._inode:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address)


class Listening:
    """A server that listens, and serves from the start: `with serve(...) as server`.

    Attributes:
        address: what is listened on: (host, port), or the path of a Unix socket.
        url: where clients find it.
    """

    def __init__(self, place: Place) -> None:
        self.address: Any = place.address
        self.url = place.url

    def serve_forever(self) -> None:
        """Serve until `close()` is called elsewhere or an exception comes (KeyboardInterrupt); then close."""
        try:
            self._wait()
        finally:
            self.close()

    def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        """Listen no more, close every connection, and wait for the end.

        Args:
            code, reason: what the peers are told.
            timeout: how long to wait for them, before they are ended, and then for applications that still
                run; None is `limits.close_timeout`.

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
    """A socket that listens at a host's first address; None and "" are every one of IPv4. Raises OSError."""
    family = sockets.AF_INET
    if host:
        try:
            found = sockets.getaddrinfo(host, port, type=sockets.SOCK_STREAM, flags=sockets.AI_PASSIVE)
        except sockets.gaierror as error:
            raise unknown(host, error) from None
        family = found[0][0]
    return sockets.create_server((host or "", port), family=family, backlog=backlog)


def unknown(host: str | None, error: sockets.gaierror) -> sockets.gaierror:
    """That a host has no address, in a line that names it."""
    return sockets.gaierror(error.errno, f"{host}: {error.strerror}")


def unix_socket(path: str) -> sockets.socket:
    """A socket bound to a path, for its owner alone; one that nobody listens on any more is replaced."""
    socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    try:
        if _left_behind(path):
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


def _left_behind(path: str) -> bool:
    """Whether it is a socket on which nobody listens any more."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        # It would wait where too many do already.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            pass
    return False


def _inode(address: Any) -> tuple[int, int] | None:
    """What a Unix socket's path leads to."""
    try:
        found = os.stat(address) if isinstance(address, str) else None
    except OSError:
        return None
    return found and (found.st_dev, found.st_ino)
