"""A command's tree of processes, as its parent sees it: through the control channel of its shim."""

import fcntl
import marshal
import os
import secrets
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from signal import SIGKILL

from kirsch.bus.process.command import ChildError, Command, resolve_credentials, resolve_limits

SHIM = str(Path(__file__).with_name("shim.py"))
COLLECTED_WITHIN = 5.0  # seconds; a pid 1 that collects nothing is not waited for longer
MARK = "KIRSCH_CHILD"  # an environment variable by which to know what descends from a command


class Tree:
    """Everything that descends from one command. Made by launching it. Raises ChildError when that cannot be.

    `pid` is the main process's. `ended` once nothing is left, as far as the shim can say: when it was killed
    the tree is `lost`, and sweep() kills what survived it.
    """

    def __init__(self, command: Command, grace: float, keep: bool) -> None:
        self.pid = 0
        self.ended = False
        self.lost = False
        self._lock = threading.Lock()
        self._token = secrets.token_hex(16)
        self._pending = b""
        stdin = command.stdin
        if stdin is not None:  # above 2, for the shim's control channel is at 0
            stdin = fcntl.fcntl(stdin, fcntl.F_DUPFD_CLOEXEC, 3)
        try:
            request = self._request(command, grace, keep, stdin)
            self.control, theirs = socket.socketpair()
            self.shim = self._spawn(command, theirs, command.fds if stdin is None else (*command.fds, stdin))
        finally:
            if stdin is not None:
                os.close(stdin)
        self._launch(command, request)

    def send(self, line: str) -> None:
        """Tell the shim; it does not matter if it is gone, for then its tree is going."""
        with self._lock:
            try:
                self.control.sendall(line.encode() + b"\n")
            except OSError:
                pass

    def hear(self) -> list[int]:
        """Report of the shim: the main process's status if it has ended. Sets `ended` and `lost`."""
        try:
            data = self.control.recv(4096)
        except OSError:
            data = b""
        *lines, self._pending = (self._pending + data).split(b"\n")
        if b"empty" in lines:
            self.ended = True
        elif not data:
            self.ended = self.lost = True
        return [int(line.split()[1]) for line in lines if line.startswith(b"exited ")]

    def sweep(self) -> None:
        """Kill what is left of a lost tree; returns when nothing is: all that carries its mark in the
        environment, or writes to its output (some, as PostgreSQL, write over their environment)."""
        mark = f"{MARK}={self._token}".encode()
        pipes = {os.fstat(pipe.fileno()).st_ino for pipe in (self.shim.stdout, self.shim.stderr) if pipe}
        while left := [pid for pid in _others() if mark in _environment(pid) or pipes & _outputs(pid)]:
            for pid in left:
                try:
                    os.kill(pid, SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.005)
        # A dead process whose new parent has not collected it yet still has its id, which a server that
        # left a lock file behind (PostgreSQL) takes for itself being alive.
        until = time.monotonic() + COLLECTED_WITHIN
        while os.path.exists(f"/proc/{self.pid}") and time.monotonic() < until:
            time.sleep(0.005)

    def close(self) -> None:
        """Collect the shim and close all that led to it."""
        with self._lock:
            self.control.close()
        with self.shim:
            pass

    def _request(self, command: Command, grace: float, keep: bool, stdin: int | None) -> bytes:
        """Orders for the shim. Environment and secrets go this way, never on a command line."""
        credentials = resolve_credentials(command.user, command.group)
        environment = dict(os.environ if command.environment is None else command.environment)
        environment[MARK] = self._token
        request = {
            "parent": os.getpid(),
            "argv": [os.fsencode(word) for word in command.argv],
            "environment": {os.fsencode(name): os.fsencode(value) for name, value in environment.items()},
            "directory": os.fsencode(command.directory or os.getcwd()),
            "uid": credentials.uid,
            "gid": credentials.gid,
            "groups": credentials.groups,
            "umask": command.umask,
            "nice": command.nice,
            "limits": resolve_limits(command.limits),
            "oom_score": command.oom_score,
            "no_new_privileges": command.no_new_privileges,
            "no_capabilities": command.no_capabilities,
            "stdin": stdin,
            "fds": command.fds,
            "inherited": {*command.fds} if stdin is None else {*command.fds, stdin},
            "keep": keep,
            "grace": grace,
        }
        return marshal.dumps(request)

    def _spawn(
        self, command: Command, theirs: socket.socket, fds: tuple[int, ...]
    ) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", SHIM, os.path.basename(command.argv[0])],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                pass_fds=fds,
                start_new_session=True,
            )
        except OSError as error:
            self.control.close()
            raise ChildError(f"cannot run {sys.executable}: {error.strerror}", error.errno or 0) from None
        finally:
            theirs.close()

    def _launch(self, command: Command, request: bytes) -> None:
        try:
            self.control.sendall(len(request).to_bytes(4, "big") + request)
            # The first line and no byte more: what follows is for hear().
            line = b""
            while not line.endswith(b"\n") and (piece := self.control.recv(1)):
                line += piece
        except OSError:
            line = b""
        verb, *words = line.decode().split() or [""]
        if verb == "started":
            self.pid = int(words[0])
            return
        self.control.close()
        _, complaint = self.shim.communicate()
        if verb == "error":
            raise _refusal(command, int(words[0]), words[1])
        last = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ChildError(f"cannot run {command.argv[0]}: its shim ended early: {last or 'killed'}")


def _refusal(command: Command, errno: int, stage: str) -> ChildError:
    """Why a command could not be executed, in one line; `stage` is where the shim stood."""
    match stage:
        case "directory":
            what = f"cannot enter the directory {command.directory or os.getcwd()}"
        case "user":
            what = f"cannot become {f'user {command.user}' if command.user else f'group {command.group}'}"
        case "limits":
            what = f"cannot set the limits of {command.argv[0]}"
        case "execute":
            what = f"cannot execute {command.argv[0]}"
        case _:
            what = f"cannot prepare {command.argv[0]}"
    return ChildError(f"{what}: {os.strerror(errno)}", errno)


def _others() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""  # it ended, or belongs to somebody else


def _outputs(pid: int) -> set[int]:
    """The inodes of the pipes that a process has as standard output and error."""
    found = set()
    for fd in (1, 2):
        try:
            status = os.stat(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if stat.S_ISFIFO(status.st_mode):
            found.add(status.st_ino)
    return found
