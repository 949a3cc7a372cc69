"""Watch for changes of the flat network's parts, told by the kernel (rtnetlink(7), inotify(7)).

An event says only that something changed; observation.py reads the present state.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from kirsch.cluster.network.inotify import Watch, WatchError

# linux/netfilter/nfnetlink.h: the group of messages on nftables.
NETFILTER, TABLES = 12, 1 << 6
# linux/rtnetlink.h: groups of messages on devices, neighbours (forwarding entries too), IPv4 addresses.
GROUPS = 0x1 | 0x4 | 0x10
NEW_NEIGHBOUR, DELETED_NEIGHBOUR = 28, 29
BRIDGE_FAMILY = 7  # AF_BRIDGE
LINK_ADDRESS = 2  # NDA_LLADDR
_HEADER = struct.Struct("=IHHII")
_NEIGHBOUR = struct.Struct("=BBHiHBB")
_ATTRIBUTE = struct.Struct("=HH")


def matters(data: bytes) -> bool:
    """Return True if one of the messages is about more than a neighbour that was learned or forgotten.
    Pure."""
    return any(_matters(kind, body) for kind, body in _messages(data))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            return
        yield kind, data[_HEADER.size : length]
        data = data[_aligned(length) :]


def _matters(kind: int, body: bytes) -> bool:
    if kind not in (NEW_NEIGHBOUR, DELETED_NEIGHBOUR):
        return True
    if len(body) < _NEIGHBOUR.size or body[0] != BRIDGE_FAMILY:
        return False
    return not any(_attribute(body[_NEIGHBOUR.size :], LINK_ADDRESS))


def _attribute(data: bytes, wanted: int) -> bytes:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            break
        if kind == wanted:
            return data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]
    return b""


def _aligned(length: int) -> int:
    return (length + 3) & ~3


class NetworkWatch:
    """Calls `changed` in the event loop when devices, their addresses, forwarding entries or nftables change,
    and `networks` when podman's networks do; `problem` says why it cannot do that. Raises OSError."""

    def __init__(self, folder: Path, changed: Callable[[], None], networks: Callable[[], None]) -> None:
        self._changed = changed
        self._networks = networks
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        self._filter = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETFILTER)
        try:
            self._socket.bind((0, GROUPS))
            self._filter.bind((0, TABLES))
        except BaseException:
            self._socket.close()
            self._filter.close()
            raise
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._read_socket)
        loop.add_reader(self._filter, self._read_filter)
        self._folder = folder
        self._files: Watch | None = None
        self.problem = ""
        self.watch_files()

    def watch_files(self) -> None:
        """Watch podman's networks, if that could not be done before: the kernel's limit may be raised now."""
        if self._files is not None:
            return
        try:
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._files = Watch(self._folder)
        except (OSError, WatchError) as error:
            self.problem = str(error)
            return
        self.problem = ""
        asyncio.get_running_loop().add_reader(self._files, self._read_files)
        self._networks()

    def close(self) -> None:
        """Close the sockets and the file watch."""
        loop = asyncio.get_running_loop()
        for each in (self._socket, self._filter, self._files):
            if each is not None:
                loop.remove_reader(each)
                each.close()

    def _read_socket(self) -> None:
        try:
            data = self._socket.recv(1 << 17)
        except BlockingIOError:
            return
        except OSError:
            data = None  # more than there was room for: some were lost
        if data is None or matters(data):
            self._changed()

    def _read_filter(self) -> None:
        try:
            self._filter.recv(1 << 17)
        except BlockingIOError:
            return
        except OSError:
            pass  # more than there was room for
        self._changed()

    def _read_files(self) -> None:
        assert self._files is not None
        try:
            os.read(self._files.fileno(), 1 << 16)
        except BlockingIOError:
            return
        self._networks()
