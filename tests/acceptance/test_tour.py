"""The README's tour, typed as it stands there: what is printed is what the page says, but for numbers."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kirsch.robot.application import Application

ROOT = Path(__file__).parents[2]
NOTES = ROOT / "examples/notes"
MONTH = re.compile(r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b")

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture
def notes() -> Iterator[Application]:
    application = Application.copy(NOTES, free_ports=True)
    try:
        application.start(120)
        yield application
    finally:
        application.stop()
        application.remove()


def tour() -> Iterator[tuple[str, list[str]]]:
    """The commands of the second terminal, each with the lines that follow it."""
    text = (ROOT / "README.md").read_text()
    text = text[text.index("in a second terminal") : text.index("Go back to the first terminal")]
    lines = iter([line[4:] for line in text.splitlines() if line.startswith("    ")])
    typed, printed, until = "", list[str](), ""
    for line in lines:
        if until:
            typed += f"\n{line}"
            until = "" if line == until else until
        elif line.startswith("$ "):
            if typed:
                yield typed, printed
            typed, printed = line[2:], []
            until = found[1] if (found := re.search(r"<<'(\w+)'$", line)) else ""
        else:
            printed.append(line)
    yield typed, printed


def words(line: str) -> str:
    """A line without what differs from run to run: numbers, times, paths of a machine."""
    return " ".join(re.sub(r"\S*[\d/]\S*", "N", MONTH.sub("0", line)).split())


def run(command: str, folder: Path, environment: dict[str, str]) -> list[str]:
    """What a command prints; of one that follows, what it has printed by Ctrl-C."""
    shell = ["bash", "-c", f"exec {command}" if " -f " in command else command]
    process = subprocess.Popen(shell, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        if " -f " in command:
            first = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            return [first.rstrip("\n"), *process.stdout.read().splitlines()][:1]
        printed = process.stdout.read().splitlines()
    assert process.returncode == 0, command
    return printed


@dataclass(frozen=True)
class Same:
    """Lines of the page beside those that were printed; true if they say the same."""

    expected: list[str]
    printed: list[str]

    def __bool__(self) -> bool:
        return self.expected == self.printed


def told_and_printed(told: list[str], printed: list[str]) -> Same:
    """Compare lines by their words; `…` on the page is what it leaves out."""
    expected = [words(line) for line in told if line]
    shown = [re.sub(r"\(.*/.*\)", "N", words(line)) for line in printed]  # a program's path
    if "…" in expected:
        expected = expected[: expected.index("…")]
        shown = shown[: len(expected)]
    return Same(expected, shown)


def test_the_tour_is_as_it_says(notes: Application):
    environment = {**notes.environment(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    commands = [(typed, told) for typed, told in tour() if not typed.startswith("export PATH")]
    assert len(commands) > 8
    for typed, told in commands:
        command = typed.partition(" #")[0]
        deadline = time.monotonic() + (30 if command.startswith("kirsch journal") else 0)
        # A person takes a while to type: what a unit is to have written by then is waited for.
        while not (same := told_and_printed(told, run(command, notes.directory, environment))):
            if time.monotonic() > deadline:
                break
        assert same, f"{typed} is told otherwise than {same.printed}"


def test_what_up_says_is_as_it_says(notes: Application):
    text = (ROOT / "README.md").read_text()
    block = text[text.index("notes is up: http") : text.index("Write a note in the browser.")]
    told = {words(line) for line in block.splitlines()}
    said = {words(line) for line in str(notes.output).splitlines()}
    assert told - {""} <= said
