"""Where HBase is: a quorum's text, and whether its ZooKeeper answers, asked without Java, so that it is
fast."""

import asyncio
import socket
import struct
import threading
from dataclasses import dataclass
from queue import SimpleQueue

from kirsch.hbase.errors import Invalid, Unavailable

PORT = 2181
# What a ZooKeeper client says first (ConnectRequest): protocol, last zxid, timeout in ms, session, password.
_HELLO = struct.pack(">iqiqi16sb", 0, 0, 10_000, 0, 16, bytes(16), 1)
_GOODBYE = struct.pack(">iii", 8, 1, -11)


@dataclass(frozen=True, slots=True)
class Quorum:
    """ZooKeeper's hosts and ports, and the node below which HBase is."""

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
    """Ask all servers at the same time for a session; the first that gives one is enough. Raises Unavailable
    within `patience` seconds, or as soon as all have failed, with each one's reason."""
    # In a loop of its own, for the caller may be in one. Its end is not waited for: a name that no resolver
    # answers keeps it for much longer.
    found: SimpleQueue[dict[str, str]] = SimpleQueue()

    async def asked() -> None:
        reasons = {}
        try:
            reasons = await _ask(quorum, patience)
        finally:
            found.put(reasons)

    threading.Thread(target=lambda: asyncio.run(asked()), name="kirsch-hbase-quorum", daemon=True).start()
    reasons = found.get()
    if reasons:
        told = "; ".join(f"{server} {reason}" for server, reason in sorted(reasons.items()))
        raise Unavailable(f"no ZooKeeper answers: {told}: is HBase running, and is this its quorum?")


async def _ask(quorum: Quorum, patience: float) -> dict[str, str]:
    """Why each server did not answer; empty if one did."""
    tasks = {
        asyncio.ensure_future(_greet_until_it_answers(host, port, patience)): f"{_bracketed(host)}:{port}"
        for host, port in quorum.servers
    }
    reasons: dict[str, str] = {}
    pending = set(tasks)
    # The words are to be there within that time.
    deadline = asyncio.get_running_loop().time() + patience * 0.95
    while pending:
        left = deadline - asyncio.get_running_loop().time()
        done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            break
        for task in done:
            error = task.exception()
            if error is None:
                for other in pending:
                    other.cancel()
                return {}
            reasons[tasks[task]] = _why(error)
    for task in pending:
        task.cancel()
        reasons[tasks[task]] = f"did not answer within {patience:g} s"
    return reasons


async def _greet_until_it_answers(host: str, port: int, patience: float) -> None:
    """A ZooKeeper that has no quorum yet, or is busy, closes new connections."""
    deadline = asyncio.get_running_loop().time() + patience * 0.8
    while True:
        try:
            await _greet(host, port)
        except (ValueError, ConnectionResetError):
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def _greet(host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(struct.pack(">i", len(_HELLO)) + _HELLO)
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        if not 0 < size < 1024:
            raise ValueError("is no ZooKeeper")
        await reader.readexactly(size)
        writer.write(_GOODBYE)
        await writer.drain()
    except asyncio.IncompleteReadError:
        raise ValueError("closed the connection at once: it has no quorum, or is no ZooKeeper") from None
    finally:
        writer.close()


def _why(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refused the connection"
    if isinstance(error, socket.gaierror):
        return "is no host that is known"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
