"""Who listens on a port that a unit wants to publish."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from kirsch.cluster.addresses import PUBLISHED
from kirsch.unit import Published

LISTEN = "0A"


def taken(port: Published) -> str | None:
    """The program that has the port, in words; None if it is free."""
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as sock:
        if kind == socket.SOCK_STREAM:
            # Connections that have ended but linger do not keep a server from listening.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((PUBLISHED, port.host))
        except PermissionError:
            return "the system (ports below 1024 need root)"
        except OSError:
            return _owner(port.host) or "another program"
    return None


def _owner(port: int) -> str | None:
    """The process that listens on a TCP port, where /proc lets us see it: 'nginx (process 1234)'."""
    inodes = {f"socket:[{inode}]" for inode in _listening(port)}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue
    return None


def _listening(port: int) -> Iterator[str]:
    """The inodes of the TCP sockets that listen on a port (proc(5), /proc/net/tcp)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]
