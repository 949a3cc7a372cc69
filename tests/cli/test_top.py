"""`kirsch top` in a terminal, and as a table."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pexpect
import pytest
from tests.cli.application import KIRSCH, Application, wait_for
from tests.cli.terminal import Terminal, having

pytestmark = pytest.mark.services

BUSY = "[Service]\nExecStart=sh -c 'echo hello from here; while :; do :; done'\n"
IDLE = "[Service]\nExecStart=sleep 1000\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    application = Application(tmp_path_factory.mktemp("top"))
    application.unit("busy.service", BUSY)
    application.unit("idle.service", IDLE)
    application.ok("up", "-d")
    yield application
    application.ok("down")


def test_units_are_shown_filtered_and_looked_into(running: Application) -> None:
    terminal = Terminal(running.directory, "top")
    # The one that works comes first, once it was measured.
    terminal.wait(lambda lines: lines[4].startswith("busy.service") and lines[5].startswith("idle.service"))
    terminal.wait(having("CPU[", "Mem["))
    assert terminal.lines[0] == "kirsch top  1 machine, 2 units, 2 ready"
    terminal.child.send("/idle")
    terminal.wait(lambda lines: having("Filter: idle")(lines) and not having("busy.service")(lines))
    terminal.child.send("\x1b")
    terminal.wait(having("busy.service", "running"))
    terminal.child.send("N\x1bOB\x1bOA\r")
    terminal.wait(having("hello from here"))
    terminal.wait(having("Active: active (running)"))
    terminal.child.send("\x1b")
    terminal.wait(having("F6 Sort: unit"))
    terminal.child.send("q")
    terminal.child.expect(pexpect.EOF, timeout=20)
    terminal.child.close()
    assert terminal.child.exitstatus == 0


def test_a_pipe_gets_a_table(running: Application) -> None:
    heading, *lines = running.ok("top").splitlines()
    assert heading.split() == ["UNIT", "MACHINE", "SUB", "CPU%", "MEM", "PEAK", "RESTARTS", "READY"]
    assert sorted(each.split()[0] for each in lines) == ["busy.service", "idle.service"]


@pytest.mark.slow
def test_scripts_get_json(running: Application) -> None:
    def measured() -> dict[str, Any]:
        found = {each["name"]: each for each in json.loads(running.ok("top", "--once", "--json"))}
        return found if all(each["memory"] for each in found.values()) else {}

    found = wait_for(measured, "a sample of both units")
    assert isinstance(found, dict)
    assert found["busy.service"]["memory"] > 100_000
    assert found["idle.service"]["restarts"] == 0


def test_a_terminal_that_cannot_be_drawn_on_gets_one_line(running: Application) -> None:
    child = pexpect.spawn(
        KIRSCH[0],
        [*KIRSCH[1:], "top"],
        cwd=running.directory,
        env={**os.environ, "TERM": "unknown-thing"},
        encoding="utf-8",
    )
    child.expect("kirsch top --once prints a table", timeout=30)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1
