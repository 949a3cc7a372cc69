"""Sockets that listen: on a host's address and port, or on a Unix socket of mode 0600."""

import contextlib
import errno
import os
import socket
import stat

UNIX_PATH_MAX = 108  # bytes with the closing zero, unix(7)

Address = str | tuple[str, int]


class ServerError(Exception):
    """A server that cannot listen where it should, in one line."""


def name_of(address: Address) -> str:
    """Return an address as messages show it."""
    if isinstance(address, str):
        return address
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(address: Address, backlog: int, *, reuse_port: bool = False) -> socket.socket:
    """Listen at an address; the socket does not block. Raises ServerError."""
    if isinstance(address, str):
        return _listen_unix(address, backlog)
    host, port = address
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ServerError(f"cannot listen on {name_of(address)}: {error.strerror}") from None
    family, kind, protocol, _, where = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6 and where[0] == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(where)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise ServerError(f"cannot listen on {name_of(address)}: {error.strerror}") from None
    sock.setblocking(False)
    return sock


def remove_path(sock: socket.socket, inode: int) -> None:
    """Remove a Unix socket's path, unless it is another server's by now."""
    path = sock.getsockname()
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_ino == inode:
            os.unlink(path)


def _listen_unix(path: str, backlog: int) -> socket.socket:
    _clear_path(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Before bind(2), which makes the file with the mode that its socket has.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(path)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise ServerError(f"cannot listen on {path}: {error.strerror}") from None
    sock.setblocking(False)
    return sock


def _clear_path(path: str) -> None:
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
