"""Listeners on ports that units want to publish."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from kirsch.cluster.network.addresses import PUBLISHED
from kirsch.unit import Published

# proc(5): the state of a TCP socket that listens, and of a UDP socket that is bound.
LISTENS = {"tcp": "0A", "udp": "07"}
# A browser may take localhost for the second.
OF_PROCESS = (PUBLISHED, "::1")
OF_CONTAINER = "0.0.0.0"  # noqa: S104 - tried, and let go of at once
# The machine has no such address.
ELSEWHERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def taken(port: Published, process: bool) -> str | None:
    """The program that has the port, in words, at any address at which a unit would have it, which is a
    process or a container; None if it is free."""
    addresses = OF_PROCESS if process else (port.host_ip or OF_CONTAINER,)
    for address in addresses:
        if who := _taken_at(address, port):
            return who
    return None


def _taken_at(address: str, port: Published) -> str | None:
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, kind) as sock:
            if kind == socket.SOCK_STREAM:
                # Connections that have ended but linger do not keep a server from listening.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address, port.host))
    except PermissionError:
        return "the system (ports below 1024 need root)"
    except OSError as error:
        if error.errno in ELSEWHERE:
            return None
        return _owner(port.host, port.protocol) or "another program"
    return None


def _owner(port: int, protocol: str) -> str | None:
    """The process that listens on a port, where /proc lets us see it: 'nginx (process 1234)'."""
    inodes = {f"socket:[{inode}]" for inode in _listening(port, protocol)}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue
    return None


def _listening(port: int, protocol: str) -> Iterator[str]:
    """The inodes of the sockets that listen on a port (proc(5), /proc/net/tcp)."""
    for table in (f"/proc/net/{protocol}", f"/proc/net/{protocol}6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTENS[protocol] and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]
