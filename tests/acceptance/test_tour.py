"""The README's tour and the pages of frameworks, typed as they stand there.

What is printed is what the page says, but for numbers.
"""

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

from kirsch.robot.application import Application, free_port

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


def tour() -> str:
    """The part of the README that is typed into the second terminal."""
    text = (ROOT / "README.md").read_text()
    return text[text.index("in a second terminal") : text.index("Go back to the first terminal")]


def commands_of(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a page, each with the lines that follow it."""
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


def check(typed: str, told: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Type a command, and compare what it prints with what the page says."""
    command = typed.partition(" #")[0]
    deadline = time.monotonic() + (30 if command.startswith("kirsch journal") else 0)
    # A person takes a while to type: what a unit is to have written by then is waited for.
    while not (same := told_and_printed(told, run(command, folder, environment))):
        if time.monotonic() > deadline:
            break
    assert same, f"{typed} is told otherwise than {same.printed}"


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
    commands = [(typed, told) for typed, told in commands_of(tour()) if not typed.startswith("export PATH")]
    assert len(commands) > 8
    for typed, told in commands:
        check(typed, told, notes.directory, environment)


def test_what_up_says_is_as_it_says(notes: Application):
    text = (ROOT / "README.md").read_text()
    block = text[text.index("notes is up: http") : text.index("Write a note in the browser.")]
    # A terminal has the dashboard's address there, what is no terminal the verb that opens it.
    first = "Ctrl-C stops it."
    told = {words(first if line.strip().startswith(first) else line) for line in block.splitlines()}
    said = {words(first if line.startswith(first) else line) for line in str(notes.output).splitlines()}
    assert told - {""} <= said


@pytest.mark.parametrize("page", ["flask", "django", "fastapi"])
def test_the_page_of_a_framework_is_as_it_says(tmp_path: Path, page: str):
    """In the environment that is active, where the framework is: what makes another is passed over."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KIRSCH_")}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "VIRTUAL_ENV": sys.prefix}
    port, folder = free_port(), tmp_path
    text = (ROOT / f"docs/{page}.md").read_text().replace("localhost:8080", f"localhost:{port}")
    try:
        for typed, told in commands_of(text):
            if ".venv" in typed:
                continue
            check(typed, told, folder, environment)
            if typed == "mkdir site && cd site":
                folder = tmp_path / "site"
            if typed.startswith("kirsch init"):
                _adapt(folder, port)
    finally:
        subprocess.run([sys.executable, "-m", "kirsch.cli.main", "down", "."], cwd=folder, env=environment)


def _adapt(folder: Path, port: int) -> None:
    """Take another port, for others may have this one, and watch instances less long than people would."""
    for name in ("kirsch.toml", "haproxy.cfg", "units/lb.container"):
        path = folder / name
        path.write_text(path.read_text().replace("8080", str(port)))
    with (folder / "kirsch.toml").open("a") as file:
        file.write('\n[release]\nhealthy_for = "100ms"\n')
