"""Pages of the documentation as what a reader types, and a shell that types it.

A block of four spaces whose lines begin with `$` is typed, line by line; what follows a line is what it
prints, but for numbers, and `…` stands for any lines. A fenced block whose first line is a comment with a
path is that file. A comment of the page says where all that follows is typed: `<!-- typed: here -->`, where a
page begins, `<!-- typed: machines -->` for what needs a cluster, `<!-- typed: nowhere -->` for the rest.
"""

import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MONTH = re.compile(r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b")
FILE = re.compile(r"(?:#|//|--) ([\w@./-]+)(?:: .*)?")
ADDRESS = re.compile(r"\b127(?:\.\d+){3}\b")
HOLE = "…"
# What tells of a state that comes by itself, for a person takes a while to type.
AWAITED = re.compile(r"(sleep \d+; )?kirsch (journal|list-units|status|why)\b")


@dataclass
class Command:
    """A line that is typed, with its here-document, and what the page shows of its output."""

    typed: str
    told: list[str] = field(default_factory=list)
    ends_block: bool = False


@dataclass(frozen=True)
class File:
    """A file that the page has the reader write."""

    path: str
    text: str


def steps(page: str, where: str = "here") -> Iterator[Command | File]:
    """Yield what a page has its reader do in a place, in order."""
    place, lines = "here", iter(page.splitlines())
    block: list[str] = []
    for line in lines:
        if block and (line.strip() and not line.startswith("    ")):
            yield from commands(block)
            block = []
        if found := re.fullmatch(r"<!-- typed: (\w+) -->", line):
            place = found[1]
        elif line.startswith("```"):
            text = "".join(f"{each}\n" for each in iter(lambda: next(lines), "```"))
            if place == where and (named := FILE.fullmatch(text.partition("\n")[0])):
                yield File(named[1], text)
        elif place == where and line.startswith("    ") and (block or line.startswith("    $ ")):
            block.append(line[4:])
    yield from commands(block)


def commands(block: list[str]) -> list[Command]:
    """Read the commands of a block."""
    found, until = list[Command](), ""
    for line in block:
        if until:
            found[-1].typed += f"\n{line}"
            until = "" if line == until else until
        elif line.startswith("$ "):
            found.append(Command(line[2:]))
            until = document[1] if (document := re.search(r"<<'(\w+)'$", line)) else ""
        else:
            found[-1].told.append(line)
    if found:
        found[-1].ends_block = True
    return found


def words(line: str) -> str:
    """Leave out what differs from run to run: numbers, times, paths of a machine."""
    shown = re.sub(r"\(.*/.*\)", "N", MONTH.sub("0", line))
    return " ".join(re.sub(r"\S*[\d/]\S*", "N", shown).split())


def same(told: list[str], printed: list[str]) -> bool:
    """Tell whether the lines of a page say what was printed."""
    expected, shown = ([words(line) for line in lines if line] for lines in (told, printed))
    pattern = "".join("(?s:.*)" if line == HOLE else re.escape(f"{line}\n") for line in expected)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in shown)) is not None


class Shell:
    """A bash in a folder, which is ended with all that it started after so many seconds."""

    END = "\036"

    def __init__(self, folder: Path, environment: Mapping[str, str], seconds: float = 240) -> None:
        self.process = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.watch = threading.Timer(seconds, os.killpg, (self.process.pid, signal.SIGKILL))
        self.watch.start()
        self.addresses = dict[str, str]()
        self.beside = folder / ".beside"

    def type(self, command: str) -> tuple[int, list[str]]:
        """Type a command; its exit status and the lines that it prints."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{{ {command}\n}} < /dev/null\nprintf '\\n{self.END}%d\\n' $?\n")
        self.process.stdin.flush()
        print(f"$ {command}")
        lines = list[str]()
        for line in self.process.stdout:
            if line.startswith(self.END):
                return int(line[1:]), lines[:-1] if lines[-1:] == [""] else lines
            lines.append(line.rstrip("\n"))
        raise AssertionError(f"the shell ended at {command}: {lines}")

    def write(self, file: File) -> None:
        """Write a file of the page into the folder the shell is in."""
        path = self.place() / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)

    def follow(self, command: Command) -> None:
        """Type a command, and see that it prints what the page says."""
        typed = ADDRESS.sub(lambda found: self.addresses.get(found[0], found[0]), command.typed)
        if typed.endswith(" &"):
            # Printed at the end of the block, wherever it comes.
            assert self.type(f"{typed.removesuffix('&')} > {shlex.quote(str(self.beside))} &")[0] == 0
            return
        if " -f " in typed:
            typed = f"exec 3< <(exec {typed.partition(' #')[0]})"
            typed += '; follower=$!; read -r line <&3; kill -INT $follower; echo "$line"'
        told, deadline = command.told, time.monotonic() + (30 if AWAITED.match(typed) else 0)
        while True:
            status, printed = self.type(typed)
            if command.ends_block and self.beside.exists():
                told = told[: -self._what_ran_beside(told)]
            if (agrees := status == 0 and same(told, printed)) or time.monotonic() > deadline:
                break
        self._learn(told, printed)
        assert agrees, f"{typed}\n  ended with {status}, and is told otherwise than {printed}"

    def _learn(self, told: list[str], printed: list[str]) -> None:
        """Keep which address a unit has here, and has on the page."""
        here = {line.split()[0]: found[0] for line in printed if (found := ADDRESS.search(line))}
        for line in told:
            if (found := ADDRESS.search(line)) and line.split()[0] in here:
                self.addresses[found[0]] = here[line.split()[0]]

    def _what_ran_beside(self, told: list[str]) -> int:
        """Wait for it, and return how many lines it printed: the page has to end with just those."""
        printed = self.type(f"wait; cat {shlex.quote(str(self.beside))}")[1]
        self.beside.unlink()
        assert [line.split() for line in told[-len(printed) :]] == [line.split() for line in printed]
        return len(printed)

    def place(self) -> Path:
        """Return the folder that the shell is in."""
        return Path(f"/proc/{self.process.pid}/cwd").readlink()

    def end(self) -> None:
        """End the shell, with all that it waits for."""
        self.watch.cancel()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
