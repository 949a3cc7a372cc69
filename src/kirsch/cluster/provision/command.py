"""Commands of other programs as values, and the one place that runs them."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from kirsch.bus.process.shim import descendants
from kirsch.cluster.provision.record import ProvisionError

CREDENTIALS = re.compile(r"(\w+://)[^/@\s]*@")
LONGEST = 300
CAUSE = 120
# How often what fails by chance is run once more.
AGAIN = 5
# Seconds from SIGTERM to SIGKILL.
GRACE = 10.0
# Seconds from one look for signals to the next.
ATTENTION = 1.0

Each = TypeVar("Each")


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments: what it reads, how long it may take (seconds), variables besides ours,
    and what it says when it is to be run once more.
    """

    argv: tuple[str, ...]
    input: bytes = field(default=b"", repr=False)
    timeout: float = 60.0
    environment: Mapping[str, str] = field(default_factory=dict)
    again: str = ""


class CommandError(ProvisionError):
    """A command did not do what it should: the program and its last words, which are in `words` alone.

    `status` is its exit status, if it ended by itself; `output` is what it printed before."""

    def __init__(self, program: str, words: str, status: int | None = None, output: str = "") -> None:
        super().__init__(f"{program}: {words}" if program else words)
        self.words = words
        self.status = status
        self.output = output


class MissingProgram(CommandError):
    """The program is not there."""


class Runner:
    """Runs commands, from several threads if need be, until it is interrupted."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._interrupted = False
        self._lock = threading.Lock()

    def run(self, command: Command) -> str:
        """Run it to its end, again where it says `command.again`; what it printed. Raises CommandError."""
        for _ in range(AGAIN if command.again else 0):
            try:
                return self._run(command)
            except CommandError as error:
                if command.again not in str(error):
                    raise
        return self._run(command)

    def _run(self, command: Command) -> str:
        name = os.path.basename(command.argv[0])
        with self._lock:
            self.check()
            process = self._start(command, name)
            self._running.add(process)
        try:
            output, errors = process.communicate(command.input, command.timeout)
        except subprocess.TimeoutExpired:
            raise CommandError(name, f"not done after {command.timeout:.0f} s") from None
        finally:
            with self._lock:
                self._running.discard(process)
            _end(process)
        text = output.decode(errors="replace")
        if process.returncode:
            raise CommandError(name, _words(process.returncode, errors or output), process.returncode, text)
        return text

    def stream(self, command: Command, read: Callable[[str], None]) -> None:
        """Run it to its end; each line is read as it comes, its errors' too. Raises CommandError.

        A command that is given up is asked to end before it is killed: it may have to tidy up."""
        name = os.path.basename(command.argv[0])
        with self._lock:
            self.check()
            process = self._start(command, name, subprocess.STDOUT)
            self._running.add(process)
        clock = threading.Timer(command.timeout, _kill, [process])
        clock.start()
        last = b""
        try:
            assert process.stdin
            assert process.stdout
            process.stdin.close()
            for line in process.stdout:
                last = line if line.strip() else last
                read(line.decode(errors="replace"))
            process.wait()
        except BaseException:
            # A podman that is ended would leave it running; without it podman tidies up by itself.
            if not _kill_contained(process.pid) or not _waited(process):
                process.terminate()
                _waited(process)
            raise
        finally:
            late = not clock.is_alive()
            clock.cancel()
            with self._lock:
                self._running.discard(process)
            _end(process)
        if process.returncode:
            words = f"not done after {command.timeout:.0f} s" if late else _words(process.returncode, last)
            raise CommandError(name, words, process.returncode)

    def check(self) -> None:
        """Raises CommandError once it was interrupted."""
        if self._interrupted:
            raise CommandError("", "interrupted")

    def together(self, machines: Sequence[Each], act: Callable[[Each], None]) -> None:
        """Act on all of them at once, each in a thread; raise the first one's error when all are done."""
        with ThreadPoolExecutor(max_workers=max(len(machines), 1)) as pool:
            try:
                futures = [pool.submit(act, machine) for machine in machines]
                # A signal that comes just before a wait without a timeout is seen only after it.
                while wait(futures, ATTENTION).not_done:
                    pass
                for future in futures:
                    future.result()
            except KeyboardInterrupt:
                self.interrupt()
                raise

    def interrupt(self) -> None:
        """End the commands that run, and run no more."""
        with self._lock:
            self._interrupted = True
            for process in self._running:
                _signal(process, signal.SIGTERM)

    def _start(self, command: Command, name: str, errors: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ,
            # podman says on every call that it would rather have cgroups v2.
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
            "LC_ALL": "C.UTF-8",
            **command.environment,
        }
        try:
            return subprocess.Popen(
                command.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                # Ctrl-C is ours: what is undone after it must not get it too.
                start_new_session=True,
            )
        except FileNotFoundError:
            raise MissingProgram("", f"{name} is not installed") from None
        except OSError as error:
            raise CommandError(name, str(error.strerror)) from None


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    if process.poll() is None:
        os.killpg(process.pid, number)  # it leads a session, and so a group


def without_credentials(text: str) -> str:
    """A text without the user and password of URLs in it."""
    return CREDENTIALS.sub(r"\1", text)


def _words(status: int, said: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    # Why it stopped may stand before what followed from that.
    full = [line for line in lines if "no space left on device" in line.lower()]
    last = without_credentials((full or lines)[-1]) if lines else f"exit status {status}"
    last = last.removeprefix("Error: ").removeprefix("ERROR: ").removeprefix("E: ")
    # The cause stands at the end.
    return last if len(last) <= LONGEST else f"{last[: LONGEST - CAUSE]}…{last[-CAUSE:]}"


def _waited(process: "subprocess.Popen[bytes]") -> bool:
    """Wait for a process to end; False if it did not in time."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    return process.returncode is not None


def _kill(process: "subprocess.Popen[bytes]") -> None:
    _kill_contained(process.pid)
    process.kill()


def _kill_contained(pid: int) -> bool:
    """Kill what descends from a process and runs in a container, in another pid_namespaces(7); whether there
    was any."""
    found = False
    for each in descendants(pid):
        with suppress(OSError):
            if os.readlink(f"/proc/{each}/ns/pid") != os.readlink("/proc/self/ns/pid"):
                os.kill(each, signal.SIGKILL)
                found = True
    return found


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it and all that it started; what cleans up after itself has a while for that."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()
