"""Autobahn's wstest against one program, and what it says of every case.

wstest exits 0 whatever happened, and leaves out cases that were not reached: only index.json tells, and only
beside the list of the cases that should be in it.
"""

import ast
import contextlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.port import free_port
from tests.websocket.programs import PATIENCE, ROOT, Program, ending, environment, start, wait

TOOL = ROOT / ".venv-autobahn"
WSTEST = (str(TOOL / "bin" / "python"), str(Path(__file__).with_name("patient.py")))

ALL = ("*",)
# All but compression's 216, which take ten minutes, and of those some of each kind that take a second or two.
QUICK = (
    *(f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 9, 10)),
    *("12.1.1", "12.1.2", "12.1.3", "12.1.11", "12.2.4", "12.3.7", "12.4.5", "12.5.3"),
    *("13.1.1", "13.2.2", "13.3.2", "13.4.3", "13.5.5", "13.6.4", "13.7.1"),
)
MISSING = "MISSING"


class Unavailable(Exception):
    """There is no Autobahn here: one line that says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Autobahn says of one case: of the messages, and of how the connection was closed."""

    behavior: str
    close: str

    @property
    def passed(self) -> bool:
        return self.behavior in ("OK", "NON-STRICT", "INFORMATIONAL") and self.close in (
            "OK",
            "INFORMATIONAL",
        )

    def __str__(self) -> str:
        return self.behavior if self.behavior == self.close else f"{self.behavior}, close {self.close}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """All cases of one agent, in Autobahn's order; those in which it pinged; what it printed."""

    agent: Program
    verdicts: dict[str, Verdict]
    pinged: list[str]
    log: str
    seconds: float

    @property
    def failures(self) -> dict[str, str]:
        return {case: str(verdict) for case, verdict in self.verdicts.items() if not verdict.passed}


def prepare() -> None:
    """Install wstest where it is missing. Raises Unavailable where there is no Python 2.7."""
    done = subprocess.run([ROOT / "scripts" / "autobahn", TOOL], capture_output=True, text=True)
    if done.returncode == 3:
        raise Unavailable(done.stderr.strip())
    assert done.returncode == 0, done.stderr


def run_server(agent: Program, cases: tuple[str, ...], folder: Path, limit: float) -> Outcome:
    """Start the server and let wstest be its client, `limit` seconds at most; reports and logs in `folder`.

    Raises AssertionError with what was printed where either did not run to its end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "agent.log"
    with start(agent, log) as url:
        spec = {
            "options": {"failByDrop": False},
            "servers": [{"agent": agent.name, "url": url}],
            "exclude-agent-cases": {},
        }
        begun = time.monotonic()
        with wstest("fuzzingclient", spec, cases, folder) as process:
            wait(process, limit, f"wstest and {agent.name}")
        seconds = time.monotonic() - begun
    return Outcome(agent, *read(agent, folder), log.read_text(errors="replace"), seconds)


def run_client(agent: Program, cases: tuple[str, ...], folder: Path, limit: float) -> Outcome:
    """Let wstest serve and run the client, `limit` seconds at most; reports and logs in `folder`.

    Raises AssertionError with what was printed where either did not run to its end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "agent.log"
    port = free_port()
    url = f"ws://127.0.0.1:{port}"
    begun = time.monotonic()
    with wstest("fuzzingserver", {"url": url, "options": {"failByDrop": False}}, cases, folder) as server:
        wait_for_port(port, server, folder)
        with log.open("wb") as output:
            command = [*agent.command, url, agent.name]
            client = subprocess.Popen(command, env=environment(agent), stdout=output, stderr=output, cwd=ROOT)
        with ending(client):
            wait(client, limit, f"the client {agent.name}")
        assert client.returncode == 0, (
            f"{agent.name} ended with {client.returncode}: {log.read_text()[-4000:]}"
        )
        seconds = time.monotonic() - begun
        write_reports(port)
    return Outcome(agent, *read(agent, folder), log.read_text(errors="replace"), seconds)


@contextlib.contextmanager
def wstest(
    mode: str, spec: dict[str, Any], cases: tuple[str, ...], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    path = folder / "spec.json"
    path.write_text(json.dumps(spec | {"outdir": str(folder), "cases": cases, "exclude-cases": []}))
    (folder / "index.json").unlink(missing_ok=True)
    with (folder / "wstest.log").open("wb") as log:
        # PYTHONUNBUFFERED: the list of cases is read from the log of a server that is ended by a signal.
        process = subprocess.Popen(
            [*WSTEST, "-m", mode, "-s", path, "-u", "0"],
            stdout=log,
            stderr=log,
            cwd=folder,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    with ending(process):
        yield process


def read(agent: Program, folder: Path) -> tuple[dict[str, Verdict], list[str]]:
    """The verdict on every case that wstest said it would run, and the cases in which the agent pinged."""
    output = (folder / "wstest.log").read_text(errors="replace")
    cases = re.search(r"^Cases = (\[.*\])$", output, re.MULTILINE)
    assert cases, f"wstest did not begin: {output[-4000:]}"
    index = folder / "index.json"
    assert index.exists(), f"wstest wrote no report: {output[-4000:]}"
    results = json.loads(index.read_text()).get(agent.name, {})
    missing = {"behavior": MISSING, "behaviorClose": MISSING}
    verdicts = {}
    for case in ast.literal_eval(cases[1]):
        result = results.get(case, missing)
        verdicts[case] = Verdict(result["behavior"], result["behaviorClose"])
    return verdicts, re.findall(r"Pinged in (\S+)", output)


def write_reports(port: int) -> None:
    """Ask the fuzzing server for its reports: it writes them before it says anything but the handshake."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(
            b"GET /updateReports?agent=harness HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" % port
        )
        with connection.makefile("rb") as stream:
            status = stream.readline()
            assert b" 101 " in status, status
            # Its close frame is not answered, so it drops the connection.
            with contextlib.suppress(ConnectionResetError):
                stream.read()


def wait_for_port(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, (folder / "wstest.log").read_text()[-4000:]
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
            return
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for wstest to listen"
        time.sleep(0.02)
