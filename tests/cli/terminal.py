"""A terminal of 80 columns and 24 lines: what a person sees of kirsch on it."""

import os
from collections.abc import Callable
from pathlib import Path

import pexpect
import pyte
import pytest
from tests.cli.application import KIRSCH

COLUMNS, ROWS = 80, 24


class Terminal:
    """`kirsch` with these words on a terminal."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.stream = pyte.Stream(self.screen)
        self.output = ""
        environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        self.child = pexpect.spawn(
            KIRSCH[0],
            [*KIRSCH[1:], *words],
            cwd=folder,
            env=environment,
            dimensions=(ROWS, COLUMNS),
            encoding="utf-8",
        )

    @property
    def lines(self) -> list[str]:
        return [each.rstrip() for each in self.screen.display]

    def wait(self, condition: Callable[[list[str]], object]) -> None:
        """Read until a condition of the lines holds; after each reading the screen is whole."""
        while not condition(self.lines):
            try:
                more = self.child.read_nonblocking(65536, timeout=30)
                self.output += more
                self.stream.feed(more)
            except (pexpect.TIMEOUT, pexpect.EOF):
                pytest.fail("\n".join(self.lines))


def having(*parts: str) -> Callable[[list[str]], bool]:
    return lambda lines: any(all(part in line for part in parts) for line in lines)
