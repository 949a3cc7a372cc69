"""Quorums of ZooKeeper: their text, and a fast check without Java that one answers."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from kirsch.hbase.errors import Invalid, Unavailable

PORT = 2181
# What a ZooKeeper client says first (ConnectRequest): protocol, last zxid, timeout in ms, session, password.
_HELLO = struct.pack(">iqiqi16sb", 0, 0, 10_000, 0, 16, bytes(16), 1)
# ZooDefs.OpCode.exists, KeeperException.Code.NONODE
_EXISTS, _NO_NODE = 3, -101
_GOODBYE = struct.pack(">iii", 8, 1, -11)


@dataclass(frozen=True, slots=True)
class Quorum:
    """ZooKeeper's hosts and ports, and the znode of HBase."""

    servers: tuple[tuple[str, int], ...]
    parent: str = ""

    @classmethod
    def parse(cls, text: str, port: int = PORT) -> "Quorum":
        """`host[:port][,host…][/node]`; `port` is for hosts without one. Raises Invalid."""
        hosts, slash, node = text.strip().partition("/")
        servers = tuple(_server(part.strip(), port, text) for part in hosts.split(",") if part.strip())
        if not servers:
            raise Invalid(f"{text!r} names no host: a quorum is host[:port][,host…]")
        return cls(servers, f"/{node}" if slash and node else "")

    def __str__(self) -> str:
        return ",".join(f"{_bracketed(host)}:{port}" for host, port in self.servers)


def _server(text: str, port: int, whole: str) -> tuple[str, int]:
    host, colon, number = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, number = text, str(port)
    if not host or not number.isdecimal() or not 0 < int(number) < 65536:
        raise Invalid(f"{whole!r} is no quorum: {text!r} is not host or host:port")
    return host.strip("[]"), int(number)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def ask(quorum: Quorum, patience: float) -> None:
    """Ask all servers at the same time for a session; one that gives it is enough. Raises Unavailable within
    `patience` seconds, or as soon as all have failed, with the reason of each."""
    # The words are to be there within that time.
    deadline = time.monotonic() + patience * 0.95
    found: SimpleQueue[tuple[str, str]] = SimpleQueue()

    def greet(host: str, port: int) -> None:
        found.put((f"{_bracketed(host)}:{port}", _why_not(host, port, patience)))

    for server in quorum.servers:
        # Its end is not waited for: a name that no resolver answers keeps it for much longer.
        threading.Thread(target=greet, args=server, name="kirsch-hbase-quorum", daemon=True).start()
    late = f"did not answer within {patience:g} s"
    reasons = {f"{_bracketed(host)}:{port}": late for host, port in quorum.servers}
    for _ in quorum.servers:
        try:
            server_, reason = found.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            break
        if not reason:
            return
        reasons[server_] = reason
    told = "; ".join(f"{server} {reason}" for server, reason in sorted(reasons.items()))
    raise Unavailable(f"no ZooKeeper answers: {told}: is HBase running, and is this its quorum?")


def _why_not(host: str, port: int, patience: float) -> str:
    """Return why a server does not answer, or an empty text. A server that has no quorum yet, or is busy,
    closes new connections, so it is asked again."""
    begun = time.monotonic()
    while True:
        try:
            _greet(host, port, patience)
        except TimeoutError:
            return f"did not answer within {patience:g} s"
        except (ValueError, ConnectionResetError) as error:
            if time.monotonic() > begun + patience * 0.8:
                return _words(error)
            time.sleep(0.1)
        except OSError as error:
            return _words(error)
        else:
            return ""


def _greet(host: str, port: int, patience: float) -> None:
    with _session(host, port, patience) as connection:
        connection.sendall(_GOODBYE)


@contextmanager
def _session(host: str, port: int, patience: float) -> Iterator[socket.socket]:
    """Open a session of ZooKeeper. Raises OSError, ValueError."""
    with socket.create_connection((host, port), patience) as connection:
        connection.sendall(struct.pack(">i", len(_HELLO)) + _HELLO)
        (size,) = struct.unpack(">i", _read(connection, 4))
        if not 0 < size < 1024:
            raise ValueError("is no ZooKeeper")
        _read(connection, size)
        yield connection


def has_node(quorum: Quorum, path: str, patience: float) -> bool | None:
    """Return whether ZooKeeper has a znode; None where no server of the quorum tells."""
    name = path.encode()
    # RequestHeader (xid, type) and ExistsRequest (path, watch).
    request = struct.pack(f">iii{len(name)}sb", 1, _EXISTS, len(name), name, 0)
    for host, port in quorum.servers:
        try:
            with _session(host, port, patience) as connection:
                connection.sendall(struct.pack(">i", len(request)) + request)
                (size,) = struct.unpack(">i", _read(connection, 4))
                # ReplyHeader: xid, zxid, error.
                _, _, error = struct.unpack_from(">iqi", _read(connection, size))
                connection.sendall(_GOODBYE)
        except (OSError, ValueError, struct.error):
            continue
        if error in (0, _NO_NODE):
            return bool(error == 0)
    return None


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ValueError("closed the connection at once: it has no quorum, or is no ZooKeeper")
        data += more
    return data


def _words(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refused the connection"
    if isinstance(error, socket.gaierror):
        return "is no host that is known"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
