"""Starts servers and the load client, each on a core of its own, and ends them."""

import contextlib
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .subjects import BENCH, ENVIRONMENT, PACKAGES, PEERS, SUBJECTS, VENV

SERVER_CORE, CLIENT_CORE = str(max(os.sched_getaffinity(0))), str(min(os.sched_getaffinity(0)))
SOURCE, CLIENT = BENCH / "websocket_client.c", VENV / "websocket_client"
READY = re.compile(rb"listening on ws://[^:]+:(\d+)/")


class Skipped(Exception):
    """There is no figure, and this is why, in one line."""


@dataclass(frozen=True)
class Server:
    port: int
    process: "subprocess.Popen[bytes]"

    def memory(self, name: str) -> float:
        """VmRSS or VmHWM in KiB."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            raise Skipped("the server is gone") from None
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        if found is None:
            raise Skipped("the server is gone")
        return float(found[1])

    def forget_peak(self) -> None:
        """Let VmHWM begin anew, at what is used now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


class Servers:
    """Servers that are kept from one row to the next; one that failed is not tried again."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._kept: dict[str, Server] = {}
        self._failed: dict[str, str] = {}

    def echo(self, name: str) -> Server:
        if name in self._failed:
            raise Skipped(self._failed[name])
        if name not in self._kept or self._kept[name].process.poll() is not None:
            try:
                self._kept[name] = self._stack.enter_context(serving(name, "echo"))
            except Skipped as reason:
                self._failed[name] = str(reason)
                raise
        return self._kept[name]


@contextlib.contextmanager
def serving(name: str, role: str) -> Iterator[Server]:
    """A subject's server, in a role. Raises Skipped if it does not start."""
    subject = SUBJECTS[name]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, *subject.command(role)],
            cwd=PEERS,
            env=os.environ | ENVIRONMENT | subject.environment,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        try:
            yield Server(_port(process, log.fileno()), process)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Both cores do not sleep: what a wake-up takes (most in a virtual machine) is no server's doing."""
    cores = {SERVER_CORE, CLIENT_CORE}
    spinning = [subprocess.Popen(["taskset", "-c", core, CLIENT, "awake", "0"]) for core in cores]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def _port(process: "subprocess.Popen[bytes]", log: int) -> int:
    said, deadline = b"", time.monotonic() + 20
    while (left := deadline - time.monotonic()) > 0:
        if select.select([process.stdout], [], [], left)[0]:
            more = os.read(process.stdout.fileno(), 4096)
            said += more
            if found := READY.search(said):
                return int(found[1])
            if not more:
                break
    raise Skipped(f"it did not start: {_last_line(os.pread(log, 1 << 20, 0).decode() or said.decode())}")


def client(mode: str, server: Server, *, limit: float, **options: object) -> dict[str, float]:
    """What the load client measured. Raises Skipped if it could not."""
    return json.loads(_run(client_command(mode, server, limit=limit, **options), limit + 5))


def client_command(mode: str, server: Server, **options: object) -> list[str]:
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return [
        "taskset",
        "-c",
        CLIENT_CORE,
        str(CLIENT),
        mode,
        str(server.port),
        "--pid",
        str(server.process.pid),
        *given,
    ]


def in_memory(*arguments: object, pure: bool = False) -> dict[str, float]:
    """What `in_memory.py` measured, alone on the servers' core."""
    script = [str(VENV / "bin/python"), str(Path(__file__).with_name("in_memory.py"))]
    pinned = ["taskset", "-c", SERVER_CORE, *script, *map(str, arguments)]
    return json.loads(_run(pinned, 60, ENVIRONMENT | ({"KIRSCH_PURE": "1"} if pure else {})))


def _run(command: list[str], limit: float, environment: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, env=os.environ | (environment or {})
        )
    except subprocess.TimeoutExpired:
        raise Skipped(f"not done within {limit:g} s") from None
    if done.returncode:
        raise Skipped(_last_line(done.stderr) or f"status {done.returncode}")
    return done.stdout


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:160] if lines else ""


def prepare() -> None:
    """The peers' environment, the load client, and as many open files as there may be."""
    if not (VENV / "bin/python").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    if set(map(_bare, PACKAGES)) - set(versions()):
        subprocess.run([VENV / "bin/pip", "install", "-q", *PACKAGES], check=True)
    if not CLIENT.exists() or CLIENT.stat().st_mtime < SOURCE.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-o", CLIENT, SOURCE], check=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _bare(requirement: str) -> str:
    return re.split(r"[<>=\[]", requirement)[0]


def versions() -> dict[str, str]:
    script = (
        "from importlib.metadata import distributions\n"
        "for d in distributions(): print(d.metadata['Name'].lower(), d.version)"
    )
    listed = subprocess.run([VENV / "bin/python", "-c", script], check=True, capture_output=True, text=True)
    found = dict(line.split() for line in listed.stdout.splitlines())
    wanted = [*map(_bare, PACKAGES), "aiofastnet"]
    return {name: found[name] for name in wanted if name in found}
