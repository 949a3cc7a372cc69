"""A disk that is full or read-only under kirschd: a clear error, and the old state intact."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.application import Application

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, which root alone can"),
]


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


@pytest.fixture
def small_disk(application: Application) -> Iterator[Path]:
    """The application's .kirsch on a file system of 1 MiB."""
    state = application.directory / ".kirsch"
    state.mkdir(mode=0o700)
    mount("-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(state))
    yield state
    application.run("down")
    subprocess.run(["umount", state], check=True)


def fill(state: Path) -> Path:
    """Take all the space there is."""
    path = state / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return path
    raise AssertionError("the disk was not full")


def test_a_full_disk(application: Application, small_disk: Path):
    application.sleeper("a.service")
    application.ok("up", "-d")
    before = application.ok("list-unit-files")
    filler = fill(small_disk)
    # Long enough to need a page of its own.
    application.sleeper("b.service", f"#{'x' * 20000}")
    error = application.fails("submit", "units/b.service")
    assert "full" in error or "No space left" in error
    assert application.ok("list-unit-files") == before
    assert application.units()["a.service"]["active"] == "active"
    assert (
        "full" in application.fails("stop", "a") or application.units()["a.service"]["active"] == "inactive"
    )

    filler.unlink()
    application.ok("submit", "units/b.service")
    application.ok("start", "b")
    assert application.units()["b.service"]["active"] == "active"


def test_a_full_disk_before_the_first_start(application: Application, small_disk: Path):
    application.sleeper("a.service")
    filler = fill(small_disk)
    error = application.fails("up")
    assert "full" in error or "No space left" in error
    filler.unlink()
    application.ok("up", "-d")


def test_a_read_only_directory(application: Application, small_disk: Path):
    application.sleeper("a.service")
    application.ok("up", "-d")
    application.ok("down")
    mount("-o", "remount,ro", str(small_disk))
    error = application.fails("up")
    assert "Read-only file system" in error or "read-only" in error
    mount("-o", "remount,rw", str(small_disk))
    application.ok("up", "-d")
    assert application.units()["a.service"]["active"] == "active"
