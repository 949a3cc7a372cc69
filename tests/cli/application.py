"""A real application in a folder of its own, run by the real command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli import commands

KIRSCH = (sys.executable, "-m", "kirsch.cli.main")
DEADLINE = 30.0

# A web server on its own address, which tells its environment.
SERVER = """
    import http.server, json, os, sys
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(dict(os.environ)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def log_message(self, *args):
            pass
    print("serving", os.environ["KIRSCH_UNIT"], flush=True)
    http.server.ThreadingHTTPServer((os.environ["KIRSCH_ADDRESS"], 8080), Handler).serve_forever()
"""


def wait_for(condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> object:
    """What a condition answers once it is true; fails when that takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.02)
    pytest.fail(f"not within {seconds:g} s: {what}")


def descendants(pid: int) -> set[int]:
    """All processes that descend from one, itself included (proc(5), /proc/PID/stat)."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(stat[1]), []).append(int(entry.name))
    found, new = set(), [pid]
    while new:
        found.update(new)
        new = [child for parent in new for child in parents.get(parent, [])]
    return found


def alive(pids: set[int]) -> set[int]:
    """Those of the processes that are there, and not just waiting to be reaped."""
    there = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            there.add(pid)
    return there


class Application:
    """A folder with unit files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[subprocess.Popen[str]] = []
        (directory / "units").mkdir()
        (directory / "server.py").write_text(textwrap.dedent(SERVER))

    def unit(self, name: str, text: str) -> Path:
        path = self.directory / "units" / name
        path.write_text(textwrap.dedent(text).lstrip())
        return path

    def server(self, name: str, *options: str) -> Path:
        """A unit that serves on port 8080 of its own address."""
        lines = ["Expose=8080 http", "Health=http://:8080/", *options]
        return self.unit(
            name, "[Service]\nExecStart=python server.py\n[X-Kirsch]\n" + "\n".join(lines) + "\n"
        )

    def sleeper(self, name: str, *options: str) -> Path:
        """A unit that does nothing."""
        return self.unit(name, "[Service]\nExecStart=sleep 1000\n[X-Kirsch]\n" + "\n".join(options) + "\n")

    def run(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run one command line in the application's folder."""
        environment = {k: v for k, v in os.environ.items() if k != "KIRSCH_ENDPOINT"}
        return commands.run(arguments, self.directory, environment, timeout)

    def ok(self, *arguments: str) -> str:
        """What a command prints that succeeds."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fails(self, *arguments: str, status: int = 1) -> str:
        """The one line that a command fails with."""
        done = self.run(*arguments)
        assert done.returncode == status, done.stdout + done.stderr
        lines = [line for line in done.stderr.splitlines() if not line.startswith("warning:")]
        assert len(lines) == 1, done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return lines[0].removeprefix("kirsch: ")

    def foreground(self) -> subprocess.Popen[str]:
        """`kirsch up` in the foreground, once it says that all is ready."""
        process = subprocess.Popen(
            [*KIRSCH, "up"],
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Ctrl-C"):
                return process
        pytest.fail(f"kirsch up ended with {process.wait()}")

    def units(self) -> dict[str, dict]:
        """Each unit's line."""
        return {line["name"]: line for line in json.loads(self.ok("list-units", "--json"))}

    def kirschd(self) -> int:
        """The daemon's process id, of the socket that answers."""
        from kirsch.cluster.api.client import Client

        return Client(self.directory / ".kirsch/kirsch.sock").get("/kirsch/v1/daemon")["pid"]

    def close(self) -> None:
        """End what is left, and take data that PostgreSQL could not keep in a folder of root's along."""
        self.run("down", ".")
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(DEADLINE)
            if process.stdout:
                process.stdout.close()
        for path in (self.directory / ".kirsch").rglob("*"):
            if path.is_symlink() and path.is_dir():
                shutil.rmtree(path.resolve(), ignore_errors=True)
