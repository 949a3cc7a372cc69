"""The receiving end of sd_notify(3): a datagram socket for each run of a unit."""

import array
import os
import shutil
import socket
import struct
import tempfile
from pathlib import Path

from kirsch.cluster.runtime.progress import Notified
from kirsch.cluster.runtime.usage import parse_process

MAX_DATAGRAM = 4096  # bytes, as systemd's own
MAX_DESCRIPTORS = 253  # SCM_MAX_FD in the kernel
_PREFIX = "kirsch-"
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def parse_message(text: str) -> Notified:
    """The variables of one message; unknown ones are passed over, as sd_notify(3) demands."""
    variables = dict(line.partition("=")[::2] for line in text.split("\n") if "=" in line)
    extend = variables.get("EXTEND_TIMEOUT_USEC", "")
    return Notified(
        ready=variables.get("READY") == "1",
        reloading=variables.get("RELOADING") == "1",
        stopping=variables.get("STOPPING") == "1",
        status=variables.get("STATUS"),
        watchdog=variables.get("WATCHDOG") == "1",
        watchdog_trigger=variables.get("WATCHDOG") == "trigger",
        extend_timeout=int(extend) / 1e6 if extend.isdecimal() and len(extend) < 20 else 0.0,
    )


class NotifyFolder:
    """Folder of the sockets, on a short path (107 bytes at most, unix(7)) that every user's programs can
    reach.

    `link` points to it, so that the next kirschd removes what a kill -9 left behind.
    """

    def __init__(self, link: Path) -> None:
        self._link = link
        if link.is_symlink():
            if (old := link.readlink()).name.startswith(_PREFIX):
                shutil.rmtree(old, ignore_errors=True)
            link.unlink()
        bases = [base for base in ("/run", os.environ.get("XDG_RUNTIME_DIR", "")) if os.access(base, os.W_OK)]
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=bases[0] if bases else None))
        self.path.chmod(0o711)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(self.path)

    def open(self, uid: int | None) -> "NotifySocket":
        """A socket in a folder of its own, which only the user `uid` may enter (None: our own)."""
        folder = Path(tempfile.mkdtemp(dir=self.path))
        if uid is not None and uid != os.geteuid():
            os.chown(folder, uid, -1)
        return NotifySocket(folder)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._link.unlink(missing_ok=True)


class NotifySocket:
    """Receives the messages of one unit, with the process id of their sender."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = str(folder / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(self.address)
        os.chmod(self.address, 0o777)  # noqa: S103 - the folder keeps others out

    def receive(self) -> tuple[int, str] | None:
        """The next message and its sender's pid; None when there is none now."""
        room = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)
        try:
            data, ancillary, _, _ = self.socket.recvmsg(MAX_DATAGRAM, room, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return None
        pid = 0
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                pid = _CREDENTIALS.unpack(content)[0]
            elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                _close_all(content)
        return pid, data.decode("utf-8", "replace")

    def close(self) -> None:
        self.socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _close_all(content: bytes) -> None:
    """Descriptors are not stored; closing them is what sd_notify_barrier(3) waits for."""
    descriptors = array.array("i")
    descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    for fd in descriptors:
        os.close(fd)


def descends_from(pid: int, ancestors: set[int]) -> bool:
    """Return True if a process is one of `ancestors` or descends from one; False once it is gone."""
    while pid > 1 and pid not in ancestors:
        try:
            process = parse_process(Path(f"/proc/{pid}/stat").read_bytes())
        except OSError:
            return False
        pid = process.parent
    return pid in ancestors
