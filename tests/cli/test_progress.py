"""How far units are, on a terminal and in a file."""

import contextlib
import io
import os
import pty
import termios
from datetime import UTC, datetime

import pytest

from kirsch import terminal as terminal_of
from kirsch.cli.journal import without_time
from kirsch.cli.output import Flood, Lines, Palette, Progress

NAMES = ["db.service", "web@1.service"]


def drawn(columns: int, rows: int = 24) -> str:
    """What a terminal of that size gets of two steps of one unit and one of another."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (rows, columns))
    with os.fdopen(theirs, "w") as out:
        progress = Progress(out, NAMES)
        progress.step("db.service", "starting")
        progress.step("web@1.service", "waits for db to be ready")
        progress.step("web@1.service", "waits for db to be ready")
        progress.step("db.service", "ready at 127.1.2.3:5432")
    data = b""
    with contextlib.suppress(OSError):  # EIO: nobody writes any more
        while piece := os.read(ours, 65536):
            data += piece
    os.close(ours)
    return data.decode().replace("\r\n", "\n")


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    # As shells export them of another window.
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("LINES", "12")


def test_in_a_file_each_step_is_a_line():
    out = io.StringIO()
    progress = Progress(out, NAMES)
    for text in ("starting", "starting", "", "ready"):
        progress.step("db.service", text)
    progress.step("web@1.service", "done")
    assert [line.split(" s  ")[1] for line in out.getvalue().splitlines()] == [
        "db.service     starting",
        "db.service     ready",
        "web@1.service  done",
    ]


def test_on_a_terminal_each_unit_has_a_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = drawn(80)
    # Drawn three times, each over the one before.
    assert text.count("\x1b[1F") == text.count("\x1b[2F") == 1
    last = text.rpartition("\x1b[2F")[2].replace("\x1b[K", "").splitlines()
    assert [line.split(" s  ")[1] for line in last] == [
        "db.service     ready at 127.1.2.3:5432",
        "web@1.service  waits for db to be ready",
    ]
    assert "\x1b[3" not in text


def test_names_have_colours():
    assert "\x1b[36mdb.service   \x1b[0m" in drawn(80)


def test_a_narrow_terminal_cuts_lines(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_COLOR", "1")
    for line in drawn(30).replace("\x1b[K", "").splitlines():
        assert len(line.removeprefix("\x1b[1F").removeprefix("\x1b[2F")) < 30
        assert line.endswith("…") or "starting" in line


def test_a_terminal_too_low_gets_lines():
    assert "\x1b" not in drawn(80, 2)


def test_a_terminal_without_a_size_has_what_the_environment_says():
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as out, os.fdopen(ours):
        assert terminal_of.size(out) == (50, 12)
        termios.tcsetwinsize(out, (30, 100))
        assert terminal_of.size(out) == (100, 30)
    assert terminal_of.size(io.StringIO()) == (50, 12)


def test_what_units_write_stands_in_a_column():
    palette = Palette.for_stream(io.StringIO(), NAMES)
    assert [palette.column(name) for name in NAMES] == ["db.service    |", "web@1.service |"]


def test_a_status_line_stays_the_last():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 40))
    told = "http://localhost:8080/  Ctrl-C stops notes, which has a long name"
    with os.fdopen(theirs, "w") as out, Lines(out, told) as lines:
        lines.print("web | one")
        lines.print("web | two")
    shown = b""
    # EIO is the end of a terminal (pty(7)), which may have given only a part so far.
    with contextlib.suppress(OSError):
        while data := os.read(ours, 65536):
            shown += data
    os.close(ours)
    status = told[:39]  # cut: it never wraps
    assert shown.decode().replace("\r\n", "\n") == "".join(
        f"\r\x1b[K{text}" for text in (status, f"web | one\n{status}", f"web | two\n{status}", "")
    )


def test_in_a_file_there_is_no_status_line():
    out = io.StringIO()
    with Lines(out, "Ctrl-C stops it") as lines:
        lines.print("web | one")
    assert out.getvalue() == "web | one\n"


def test_a_flood_is_counted():
    flood = Flood(most=3)
    assert flood.kept_back(1) == []
    assert [flood.admits("web") for _ in range(5)] == [True, True, True, False, False]
    assert flood.admits("db")
    assert flood.kept_back(1) == []
    assert flood.kept_back(2) == [("web", 2)]
    assert flood.admits("web")
    assert flood.kept_back(3) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[02/Dec/2026:14:03:02] ENGINE Bus STARTED", "ENGINE Bus STARTED"),
        ("2026-12-02 14:03:01,998 INFO ready", "INFO ready"),
        ("2026-12-02T14:03:02Z ready", "ready"),
        ("2026-12-02 15:03:02.123 +0100 [12] ready", "[12] ready"),
        ("[2026-12-02 14:03:03 +0000] [7] [INFO] Listening", "[7] [INFO] Listening"),
        ("2026-12-02 14:03:02.123 UTC [12] LOG:  ready", "[12] LOG:  ready"),
        # Another time is what the line is about, and what is no time stays.
        ("2026-12-02 14:00:00 backup of then", "2026-12-02 14:00:00 backup of then"),
        ("[99/Dec/2026:14:03:02] x", "[99/Dec/2026:14:03:02] x"),
        ("2026-12-02 14:03:02", "2026-12-02 14:03:02"),
        ("127.0.0.1 - - [02/Dec/2026:14:03:02] GET /", "127.0.0.1 - - [02/Dec/2026:14:03:02] GET /"),
        ("14:03:02 ready", "14:03:02 ready"),
        ("0001-01-01 00:00:00 x", "0001-01-01 00:00:00 x"),
    ],
)
def test_a_line_has_one_clock(text: str, shown: str):
    at = datetime(2026, 12, 2, 14, 3, 2, tzinfo=UTC).timestamp()
    assert without_time(text, at) == shown
