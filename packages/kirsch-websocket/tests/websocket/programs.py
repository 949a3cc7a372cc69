"""Servers and clients that tests run as processes of their own."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.source import PYTHONPATH

ROOT = Path(__file__).parents[4]
PATIENCE = 30


@dataclass(frozen=True, slots=True)
class Program:
    """How a program is run: its name in reports, its command, what its environment has besides.

    A server prints `listening on URL` when it is ready and ends by SIGTERM.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def start(program: Program, log: Path) -> Iterator[str]:
    """The server, from its line `listening on URL` to SIGTERM, which must end it with status 0."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            program.command,
            env=environment(program),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
        )
    with ending(process):
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"listening on (ws://\S+)", line)
        assert found, f"{program.name} printed {line!r}: {log.read_text(errors='replace')[-4000:]}"
        yield found[1]
        assert process.poll() is None, f"{program.name} ended: {log.read_text(errors='replace')[-4000:]}"
        process.send_signal(signal.SIGTERM)
        wait(process, PATIENCE, f"{program.name} to end by SIGTERM")
        assert process.returncode == 0, f"{program.name} ended by SIGTERM with status {process.returncode}"


def environment(program: Program) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("KIRSCH")}
    return inherited | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": PYTHONPATH} | program.environment


def wait(process: subprocess.Popen[Any], limit: float, what: str) -> None:
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"waited {limit:g} s for {what}") from None


@contextlib.contextmanager
def ending(process: subprocess.Popen[Any]) -> Iterator[None]:
    """The process does not outlive this."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
