"""top: machines and units, live in the terminal."""

import contextlib
import curses
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kirsch.cli import dials
from kirsch.cli.dials import Picture, View, duration, size
from kirsch.cli.errors import Failure
from kirsch.cli.journal import JOURNAL, printable, shown
from kirsch.cli.names import machine_names, reasons_of, recorded_names
from kirsch.cli.output import Column, table
from kirsch.cli.units import describe
from kirsch.cli.values import JSON
from kirsch.cli.verb import Options, flag, verb
from kirsch.cluster.api.client import UNITS, Client, ClientError, unit_path

FIGURES = "/kirsch/v1/figures"
EVENTS = "/kirsch/v1/events"

# Milliseconds that a key is waited for before the screen is looked at again.
PATIENCE = 200
# How much of the past is read at first, in seconds, and how many lines of a unit's journal.
BEFORE, JOURNAL_LINES = 600, 100
KEYS = {
    "KEY_UP": "up",
    "KEY_DOWN": "down",
    "KEY_PPAGE": "pgup",
    "KEY_NPAGE": "pgdn",
    "KEY_HOME": "home",
    "KEY_END": "end",
    "KEY_ENTER": "enter",
    "KEY_BACKSPACE": "backspace",
    **{f"KEY_F({number})": f"f{number}" for number in range(1, 13)},
}
CHARACTERS = {"\n": "enter", "\r": "enter", "\x1b": "esc", "\x7f": "backspace", "\b": "backspace"}
COLUMNS: Mapping[str, Column] = {
    "unit": lambda row, full: str(row["name"]),
    "machine": lambda row, full: str(row["machine"]),
    "sub": lambda row, full: str(row["sub"]),
    "cpu%": lambda row, full: "" if row["cpu"] is None else f"{100 * row['cpu']:.1f}",
    "mem": lambda row, full: size(row["memory"]),
    "peak": lambda row, full: size(row["peak"]),
    "restarts": lambda row, full: str(row["restarts"]),
    "ready": lambda row, full: "" if row["readyFor"] is None else duration(row["readyFor"]),
}


@verb(
    "top",
    flag("--once", help="print a table of units and end; so where the output is no terminal"),
    JSON,
    text="Machines and units with what they use, as htop shows processes. Enter shows a unit's status and "
    "journal, F4 filters, F6 sorts, F1 lists all keys. With --json the table is JSON.",
    example="kirsch top",
)
def top(options: Options) -> int:
    """Show what machines and units use, until q is pressed."""
    client = options.client()
    picture = Picture(machine_names(client, recorded_names(options)))
    once = options.once or options.json or not (sys.stdin.isatty() and sys.stdout.isatty())
    picture.take({"units": client.get(UNITS)["units"], "left": []})
    answer = client.get(FIGURES, **({} if once else {"since": time.time() - BEFORE}))
    for figures in answer["machines"]:
        if figures["times"]:
            picture.measure(figures)
    if once:
        _print(picture, options)
        for reason in answer["missing"]:
            print(f"kirsch: {reason}: its figures are missing here", file=sys.stderr)
        return 0
    # Otherwise Esc is waited for, to see whether it begins the sequence of another key.
    os.environ.setdefault("ESCDELAY", "25")
    try:
        with contextlib.suppress(KeyboardInterrupt):
            curses.wrapper(_Screen(options, client, picture).run)
    except curses.error as error:
        raise Failure(
            f"this terminal cannot be drawn on ({error}): kirsch top --once prints a table"
        ) from None
    return 0


def _print(picture: Picture, options: Options) -> None:
    found = []
    for key in dials.rows(picture, View()):
        line, used = picture.lines[key], picture.used.get(key, {})
        at = picture.machines[key[1]]["times"][-1] if key[1] in picture.machines else 0.0
        last = {name: used[name][-1] if used.get(name) else None for name in ("cpu", "memory", "processes")}
        ready = used.get("readySince")
        found.append(
            {
                "name": key[0],
                "machine": key[1] if options.json else picture.name(key[1]),
                "sub": line["sub"],
                "ready": line["ready"],
                "restarts": line["restarts"],
                **last,
                "peak": used.get("peak"),
                "readyFor": None if ready is None else max(at - ready, 0.0),
            }
        )
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print(table(found, COLUMNS, list(COLUMNS)), end="")


class _Screen:
    """The terminal: draws the picture whenever something came or a key was pressed."""

    def __init__(self, options: Options, client: Client, picture: Picture) -> None:
        self._options = options
        self._client = client
        self._picture = picture
        self._view = View()
        # A message with True if it has all units, or why there are no more.
        self._messages: queue.SimpleQueue[tuple[dict[str, Any], bool] | str] = queue.SimpleQueue()
        self._styles: dict[str, int] = {}

    def run(self, window: "curses.window") -> None:
        """Draw and take keys until the person quits. Raises Failure when kirschd ends."""
        self._begin(window)
        threading.Thread(target=self._follow, name="top", daemon=True).start()
        changed = True
        while True:
            if changed:
                self._look()
                self._draw(window)
            key = self._key(window)
            changed = self._take_messages() or bool(key)
            height = window.getmaxyx()[0]
            if key and key != "resize":
                keys = dials.rows(self._picture, self._view)
                view = dials.press(self._view, key, keys, dials.page(self._picture, height))
                if view is None:
                    return
                self._view = view

    def _begin(self, window: "curses.window") -> None:
        window.keypad(True)
        window.timeout(PATIENCE)
        with contextlib.suppress(curses.error):  # a terminal without them
            curses.curs_set(0)
        if curses.has_colors() and not os.environ.get("NO_COLOR"):
            curses.use_default_colors()
            for number, colour in enumerate((curses.COLOR_GREEN, curses.COLOR_YELLOW, curses.COLOR_RED), 1):
                curses.init_pair(number, colour, -1)
            names = ("good", "warning", "bad")
            self._styles = {name: curses.color_pair(number) for number, name in enumerate(names, 1)}
        self._styles |= {"bold": curses.A_BOLD, "faint": curses.A_DIM}
        self._styles |= {"heading": curses.A_REVERSE, "selected": curses.A_REVERSE | curses.A_BOLD}

    def _key(self, window: "curses.window") -> str:
        """The next key by the names of `press`; empty if none comes in time."""
        try:
            key = window.get_wch()
        except curses.error:
            return ""
        if isinstance(key, str):
            return CHARACTERS.get(key, key)
        if key == curses.KEY_RESIZE:
            return "resize"
        return KEYS.get(curses.keyname(key).decode(), "other")

    def _draw(self, window: "curses.window") -> None:
        height, width = window.getmaxyx()
        window.erase()
        for row, line in enumerate(dials.layout(self._picture, self._view, width, height)):
            column = 0
            for text, style in line:
                # Writing the last cell of the last line is an error, for the cursor has no place after it.
                with contextlib.suppress(curses.error):
                    window.addstr(row, column, text, self._styles.get(style, 0))
                column += len(text)
        window.refresh()

    def _take_messages(self) -> bool:
        found = False
        while not self._messages.empty():
            message = self._messages.get()
            if isinstance(message, str):
                raise Failure(message)
            self._picture.take(*message)
            found = True
        return found

    def _look(self) -> None:
        """Read the status and the journal of the unit that is shown alone."""
        if self._view.unit is None:
            return
        name, machine = self._view.unit
        try:
            lines = [each for each in self._client.get(unit_path(name))["on"] if each["machine"] == machine]
            records = self._client.get(JOURNAL, unit=name, lines=JOURNAL_LINES)["lines"]
        except ClientError as error:
            self._view = replace(self._view, status=(printable(str(error)),), journal=())
            return
        status = []
        for line in lines:
            why = reasons_of(line, self._picture.names) if line["reasons"] else ""
            status += [printable(text) for text in describe(line, why, "")]
        journal = (shown(each, with_unit=False) for each in records if each["machine"] == machine)
        self._view = replace(self._view, status=tuple(status), journal=tuple(journal))

    def _follow(self) -> None:
        """Pass messages on, in a thread; where several machines can send them, as long as one does."""
        client = self._options.client()
        try:
            while True:
                whole = True
                for message in client.stream(EVENTS, figures="yes"):
                    # Samples may come before the first message with units.
                    self._messages.put((message, whole and "figures" not in message))
                    whole = whole and "figures" in message
                if not client.transport.several:
                    self._messages.put("kirschd has ended")
                    return
        except ClientError as error:
            self._messages.put(str(error))
