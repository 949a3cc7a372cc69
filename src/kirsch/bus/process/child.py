"""A child process that dies with us, and all that descends from it too.

Between us and the command stands the shim (kirsch.bus.process.shim). It costs some 17 ms a start and 4 MB of
memory a child; a cgroup would do without, but only where one can be had. Linux only; imports nothing of
CherryPy.
"""

import fcntl
import logging
import marshal
import os
import secrets
import selectors
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import IO

from kirsch.bus.process.command import (
    MANAGER,
    SHIM,
    ChildError,
    Command,
    Mounts,
    resolve_credentials,
    resolve_limits,
    scope_command,
)

__all__ = ["Child", "ChildError", "Command", "Exit"]

CHUNK = 65536  # bytes, a pipe's capacity (pipe(7)): one read takes all that waits
COLLECTED_WITHIN = 5.0  # seconds; a pid 1 that collects nothing is not waited for longer
MARK = "KIRSCH_CHILD"  # an environment variable by which to know what descends from a command

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exit:
    """End of a main process: by `code` or by `signal`. `lost`: its shim was killed, and it too."""

    code: int | None = None
    signal: int | None = None
    lost: bool = False

    @classmethod
    def from_status(cls, status: int) -> "Exit":
        """From a status as waitpid(2) gives it."""
        if os.WIFSIGNALED(status):
            return cls(signal=os.WTERMSIG(status))
        return cls(code=os.WEXITSTATUS(status))

    @property
    def ok(self) -> bool:
        return self.code == 0 and not self.lost

    def __str__(self) -> str:
        if self.lost:
            return "lost: its shim was killed"
        if self.signal is None:
            return f"exited with code {self.code}"
        try:
            return f"killed by {Signals(self.signal).name}"
        except ValueError:  # a real-time signal has no name
            return f"killed by signal {self.signal}"


class Child:
    """Runs one command, once.

    Callbacks come from a thread of the Child's own, one at a time: `on_start(pid)` before all others;
    `on_line(stream, line)`, with "out" or "err", for every line; `on_main_exit(exit)` when the main process
    has ended; `on_exit(exit)` once nothing of the tree is left and every line was delivered. While a callback
    runs, output waits in its pipe.

    When the main process ends, what it leaves behind gets SIGTERM, then SIGKILL after `grace` seconds
    (KillMode=control-group in systemd.kill(5)); with `keep` it may live on, until stop() or kill().
    A line of more than `line_limit` bytes comes in pieces.
    """

    def __init__(
        self,
        command: Command,
        on_line: Callable[[str, str], None] | None = None,
        on_exit: Callable[[Exit], None] | None = None,
        on_main_exit: Callable[[Exit], None] | None = None,
        *,
        on_start: Callable[[int], None] | None = None,
        grace: float = 10.0,
        keep: bool = False,
        line_limit: int = 65536,
    ) -> None:
        self.command = command
        self._on_line = on_line
        self._on_exit = on_exit
        self._on_main_exit = on_main_exit
        self._on_start = on_start
        self._grace = grace
        self._keep = keep
        self._line_limit = line_limit
        self._tree: Tree | None = None
        self._thread: threading.Thread | None = None
        self._main_exit: Exit | None = None
        self._gone = threading.Event()

    @property
    def pid(self) -> int:
        """The main process, also when it is gone; 0 before the start."""
        return self._tree.pid if self._tree else 0

    @property
    def shim_pid(self) -> int:
        """The shim's process; 0 before the start."""
        return self._tree.shim.pid if self._tree else 0

    @property
    def running(self) -> bool:
        """Return True while anything of the tree may be left, or any callback is still to come."""
        return self._tree is not None and not self._gone.is_set()

    @property
    def main_exit(self) -> Exit | None:
        """The main process's end; None while it runs."""
        return self._main_exit

    def start(self) -> None:
        """Run the command; returns once it is executed, in some 20 ms. Raises ChildError if it cannot be."""
        if self._tree is not None:
            raise RuntimeError("a Child runs once; make another")
        self._tree = Tree(self.command, self._grace, self._keep)
        name = f"child {os.path.basename(self.command.argv[0])} {self.pid}"
        self._thread = threading.Thread(target=self._follow, args=(self._tree,), name=name, daemon=True)
        self._thread.start()

    def signal(self, signum: int) -> None:
        """Signal the main process; nothing happens when it is gone."""
        self._send(f"signal {int(signum)}")

    def signal_all(self, signum: int) -> None:
        """Signal every process of the tree."""
        self._send(f"all {int(signum)}")

    def stop(self, signum: int = SIGTERM, grace: float | None = None) -> None:
        """Signal the main process, and kill what is left of the tree after `grace` seconds (None: the
        Child's own). When the main process has ended, the rest is asked to end too, `keep` or not."""
        self._send(f"stop {int(signum)} {self._grace if grace is None else grace}")

    def kill(self) -> None:
        """SIGKILL the whole tree."""
        self._send("kill")

    def wait(self, timeout: float | None = None) -> Exit | None:
        """Wait until nothing of the tree is left and the callbacks are done; None after `timeout` seconds.

        From a callback it does not wait."""
        if threading.current_thread() is not self._thread and not self._gone.wait(timeout):
            return None
        return self._main_exit

    def _send(self, line: str) -> None:
        if self._tree is not None:
            self._tree.send(line)

    def _follow(self, tree: "Tree") -> None:
        """The Child's thread: hears the shim and reads the output until nothing of the tree is left."""
        self._call(self._on_start, tree.pid)
        streams = [
            _Stream("out", tree.shim.stdout, self._line_limit),
            _Stream("err", tree.shim.stderr, self._line_limit),
        ]
        with selectors.DefaultSelector() as selector:
            selector.register(tree.control, selectors.EVENT_READ)
            for stream in streams:
                selector.register(stream.fd, selectors.EVENT_READ)
            while not tree.ended:
                ready = {key.fileobj for key, _ in selector.select()}
                # Output first: what a process wrote before it ended comes before its end.
                reading = [stream for stream in streams if not stream.ended]
                self._deliver(reading)
                for stream in reading:
                    if stream.ended:
                        selector.unregister(stream.fd)
                if tree.control in ready:
                    for status in tree.hear():
                        self._main_ended(Exit.from_status(status))
        if tree.lost:
            tree.sweep()
            self._main_ended(Exit(signal=SIGKILL, lost=True))
        while self._deliver([stream for stream in streams if not stream.ended]):
            pass
        for stream in streams:
            self._hand_over(stream, stream.lines.close())  # somebody outside the tree holds the pipe
        tree.close()
        self._call(self._on_exit, self._main_exit)
        self._gone.set()

    def _main_ended(self, how: Exit) -> None:
        if self._main_exit is None:
            self._main_exit = how
            self._call(self._on_main_exit, how)

    def _deliver(self, streams: Sequence["_Stream"]) -> bool:
        """Hand over what waits in pipes; False when nothing did.

        They are read from the last to the first, errors before output: output that was written before an
        error then comes before it.
        """
        found = [(stream, stream.read()) for stream in reversed(streams)]
        for stream, lines in reversed(found):
            self._hand_over(stream, lines or ())
        return any(lines is not None for _, lines in found)

    def _hand_over(self, stream: "_Stream", lines: Sequence[str]) -> None:
        for line in lines:
            self._call(self._on_line, stream.name, line)

    def _call(self, callback: Callable[..., None] | None, *values: object) -> None:
        """A callback's error is its own: the tree is followed to its end whatever happens."""
        if callback is not None:
            try:
                callback(*values)
            except Exception:
                log.exception("error in a callback of the child %s", self.command.argv[0])


class _Stream:
    """The reading end of the command's standard output or error."""

    def __init__(self, name: str, pipe: IO[bytes] | None, line_limit: int) -> None:
        assert pipe is not None
        self.name = name
        self.fd = pipe.fileno()
        self.lines = Lines(line_limit)
        self.ended = False
        os.set_blocking(self.fd, False)

    def read(self) -> list[str] | None:
        """Lines of what waits in the pipe; None when nothing does, and it has not ended."""
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return None
        self.ended = not data
        return self.lines.feed(data) if data else self.lines.close()


class Lines:
    """Cutter of a stream into lines: UTF-8, what is not becomes U+FFFD; a line over `limit` bytes comes in
    pieces.

    A piece never ends within a character. However the stream is chopped up, the lines are the same.
    """

    def __init__(self, limit: int = 65536) -> None:
        if limit < 4:
            raise ValueError("a limit below 4 bytes cannot hold every character")
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes, without their newlines."""
        *complete, rest = (self._rest + data).split(b"\n")
        done = [piece for line in complete for piece in self._pieces(line)]
        *early, self._rest = self._pieces(rest)
        return [piece.decode("utf-8", "replace") for piece in done + early]

    def close(self) -> list[str]:
        """The last line, if the stream did not end in a newline."""
        rest, self._rest = self._rest, b""
        return [rest.decode("utf-8", "replace")] if rest else []

    def _pieces(self, line: bytes) -> list[bytes]:
        pieces = []
        while len(line) > self._limit:
            end = self._limit
            while end > self._limit - 3 and line[end] & 0xC0 == 0x80:
                end -= 1
            pieces.append(line[:end])
            line = line[end:]
        return [*pieces, line]


class Tree:
    """Everything that descends from one command, as its parent sees it: through its shim's control channel.

    Made by launching the command; raises ChildError when that cannot be. `pid` is the main process's. `ended`
    once nothing is left, as far as the shim can say: when it was killed the tree is `lost`, and sweep() kills
    what survived it.
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
            "mounts": command.mounts and _encoded(command.mounts),
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
        scope: list[str] = []
        variables = ["LD_LIBRARY_PATH"]
        if command.scope:
            # systemd-run moves itself into the control group, and becomes the shim there.
            scope += [*scope_command(), *(f"--property={each}" for each in command.scope), "--"]
            variables += MANAGER
        try:
            return subprocess.Popen(
                [*scope, sys.executable, "-I", "-S", SHIM, os.path.basename(command.argv[0])],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env={name: os.environ[name] for name in variables if name in os.environ},
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
        case "mounts":
            what = f"cannot set up the mounts of {command.argv[0]}"
        case "execute":
            what = f"cannot execute {command.argv[0]}"
        case _:
            what = f"cannot prepare {command.argv[0]}"
    return ChildError(f"{what}: {os.strerror(errno)}", errno)


def _encoded(mounts: Mounts) -> dict[str, object]:
    return {
        "strict": mounts.strict,
        "read_only": [os.fsencode(path) for path in mounts.read_only],
        "writable": [os.fsencode(path) for path in mounts.writable],
        "private": {os.fsencode(path): os.fsencode(source) for path, source in mounts.private.items()},
        "kept": [os.fsencode(path) for path in mounts.kept],
    }


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
