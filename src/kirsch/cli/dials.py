"""The screen of `kirsch top`: figures and units in, lines out, and what each key does. Pure."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Row = Mapping[str, Any]
Key = tuple[str, str]  # unit, machine
# A line of the screen: texts with their styles: plain, bold, faint, good, warning, bad, heading, selected.
Line = list[tuple[str, str]]

# Samples that a sparkline can have: ten minutes.
PAST = 120
SPARKS = "▁▂▃▄▅▆▇█"
# Cores at which a sparkline is as high as it gets, at least: an idle unit is no mountain range.
HIGH = 0.05
# A machine whose last sample is older than so many of the newest has gone.
STALE = 4
SORTS = ("cpu", "memory", "restarts", "unit")
HELP = """\
Up, Down, PgUp, PgDn, Home, End   select a unit
Enter                             show its status and journal; Esc, q or Enter: back
F4, / or \\                        filter: type a part of a unit's or machine's name,
                                  Enter keeps it, Esc clears it
P, M, R, N                        sort by CPU, memory, restarts, name
F6, > or .                        sort by the next of these
F1, h or ?                        this page
F10, q                            quit"""


@dataclass(slots=True)
class Picture:
    """Everything that is known: units' lines, each machine's last sample, and the past of CPU."""

    names: Mapping[str, str] = field(default_factory=dict)
    lines: dict[Key, Row] = field(default_factory=dict)
    machines: dict[str, Row] = field(default_factory=dict)
    used: dict[Key, Row] = field(default_factory=dict)
    past: dict[Key, "deque[float | None]"] = field(default_factory=dict)

    def take(self, message: Row, whole: bool = False) -> None:
        """Take in a message of /events; `whole` is one with all units, and others than its have gone."""
        if whole:
            there = {(line["name"], line["machine"]) for line in message["units"]}
            self._drop([key for key in self.lines if key not in there])
        for line in message["units"]:
            if line.get("gone"):
                self._drop([key for key in self.lines if key[0] == line["name"]])
            else:
                self.lines[line["name"], line["machine"]] = line
        self._drop([(each["name"], each["machine"]) for each in message["left"]])
        if "figures" in message:
            self.measure(message["figures"])

    def measure(self, figures: Row) -> None:
        """Take in a machine's samples, which come in their order."""
        machine = figures["machine"]
        known = self.machines.get(machine)
        new = [number for number, at in enumerate(figures["times"]) if not known or at > known["times"][-1]]
        if not new:
            return
        self.machines[machine] = figures
        self._remember(("", machine), figures, new)
        for key in [key for key in self.used if key[1] == machine]:
            del self.used[key]
        for unit in figures["units"]:
            self.used[unit["name"], machine] = unit
            self._remember((unit["name"], machine), unit, new)

    def _remember(self, key: Key, figures: Row, new: Sequence[int]) -> None:
        past = self.past.setdefault(key, deque(maxlen=PAST))
        past.extend(figures["cpu"][number] for number in new)

    def _drop(self, keys: Sequence[Key]) -> None:
        for key in keys:
            for known in (self.lines, self.used, self.past):
                known.pop(key, None)

    def present(self) -> list[str]:
        """The machines that send samples, by their names."""
        newest = max((each["times"][-1] for each in self.machines.values()), default=0.0)
        return sorted(
            (
                id
                for id, each in self.machines.items()
                if newest - each["times"][-1] <= STALE * each["interval"]
            ),
            key=self.name,
        )

    def name(self, machine: str) -> str:
        """Return a machine's name."""
        return self.names.get(machine, machine[:8])


@dataclass(frozen=True, slots=True)
class View:
    """Choices of the person at the screen.

    `unit` is the one that is shown alone, by its status and its journal.
    """

    sort: str = "cpu"
    pattern: str = ""
    typing: bool = False
    selected: int = 0
    unit: Key | None = None
    status: tuple[str, ...] = ()
    journal: tuple[str, ...] = ()
    help: bool = False


def rows(picture: Picture, view: View) -> list[Key]:
    """The units on machines that match the filter, in the order of the view."""
    pattern = view.pattern.lower()
    found = [key for key in picture.lines if key[1] and pattern in f"{key[0]} {picture.name(key[1])}".lower()]

    def order(key: Key) -> tuple[float, Key]:
        if view.sort == "restarts":
            return -picture.lines[key]["restarts"], key
        if view.sort == "unit":
            return 0, key
        return -(_last(picture.used.get(key), view.sort) or 0), key

    return sorted(found, key=order)


def press(view: View, key: str, keys: Sequence[Key], page: int) -> View | None:
    """Return the view after a key, by curses' name in small letters or its character; None to quit.

    `keys` are the rows, and `page` is how many of them the screen has."""
    if view.typing:
        match key:
            case "enter":
                return replace(view, typing=False)
            case "esc":
                return replace(view, typing=False, pattern="", selected=0)
            case "backspace":
                return replace(view, pattern=view.pattern[:-1], selected=0)
            case _ if len(key) == 1:
                return replace(view, pattern=view.pattern + key, selected=0)
    if view.help or view.unit:
        leaves = key in ("esc", "q", "enter", "f10")
        return replace(view, help=False, unit=None, status=(), journal=()) if leaves else view
    last = max(len(keys) - 1, 0)
    steps = {"up": -1, "down": 1, "pgup": -page, "pgdn": page, "home": -last, "end": last}
    if key in steps:
        return replace(view, selected=min(max(view.selected + steps[key], 0), last))
    match key:
        case "f10" | "q":
            return None
        case "f1" | "h" | "?":
            return replace(view, help=True)
        case "f4" | "/" | "\\":
            return replace(view, typing=True)
        case "esc":
            return replace(view, pattern="", selected=0)
        case "f6" | ">" | ".":
            return replace(view, sort=SORTS[(SORTS.index(view.sort) + 1) % len(SORTS)])
        case "P" | "M" | "R" | "N":
            return replace(view, sort=SORTS["PMRN".index(key)])
        case "enter" if keys:
            return replace(view, unit=keys[min(view.selected, last)])
    return view


def layout(picture: Picture, view: View, width: int, height: int) -> list[Line]:
    """Return the whole screen: at most `height` lines of `width` columns."""
    if view.help:
        body: list[Line] = [[(line, "plain")] for line in HELP.splitlines()]
        return _cut([[("Keys", "bold")], [], *body], width, height)
    if view.unit:
        room = max(height - len(view.status) - 2, 0)
        last = view.journal[max(len(view.journal) - room, 0) :]
        shown = [*view.status, "", *last, *([""] * (room - len(last)))]
        return [*_cut([[(line, "plain")] for line in shown], width, height - 1), _footer("Esc Back", width)]
    top = [*_machines(picture, width, max(height // 3, 2)), []]
    keys = rows(picture, view)
    room = max(height - len(top) - 2, 1)
    selected = min(view.selected, max(len(keys) - 1, 0))
    first = max(min(selected - room // 2, len(keys) - room), 0)
    table = _table(picture, keys[first : first + room], selected - first, width)
    lines = [*top, *table, *([[]] * (room + 1 - len(table)))]
    if view.typing:
        foot = f"Filter: {view.pattern}█"
    else:
        only = f"  filter: {view.pattern}" if view.pattern else ""
        foot = f"F1 Help  F4 Filter  F6 Sort: {view.sort}  Enter Status  F10 Quit{only}"
    return [*_cut(lines, width, height - 1), _footer(foot, width)]


def page(picture: Picture, height: int) -> int:
    """Return how many units a screen of this height shows."""
    return max(height - len(_machines(picture, 80, max(height // 3, 2))) - 3, 1)


def _machines(picture: Picture, width: int, most: int) -> list[Line]:
    present = picture.present()
    units = sum(1 for key in picture.lines if key[1])
    ready = sum(1 for key, line in picture.lines.items() if key[1] and line["ready"])
    title = f"{_count(len(present), 'machine')}, {_count(units, 'unit')}, {ready} ready"
    lines: list[Line] = [[("kirsch top", "bold"), (f"  {title}", "plain")]]
    shown = present if len(present) < most else present[: most - 2]
    label = min(max((len(picture.name(id)) for id in shown), default=0), 16)
    bar = max((width - label - 30) // 3, 8)
    for id in shown:
        machine = picture.machines[id]
        cpu, memory = _last(machine, "cpu"), _last(machine, "memory")
        share = (cpu or 0) / (machine["cores"] or 1)
        full = (memory or 0) / (machine["memorySize"] or 1)
        lines.append(
            [
                (picture.name(id)[:label].ljust(label), "bold"),
                *_bar("CPU", share, "-" if cpu is None else f"{share:.0%}", bar + 4),
                *_bar("Mem", full, f"{size(memory)}/{size(machine['memorySize'])}", bar + 10),
                (" ", "plain"),
                (sparkline(picture.past.get(("", id), ()), bar, machine["cores"]), "good"),
            ]
        )
    if len(shown) < len(present):
        lines.append([(f"and {len(present) - len(shown)} more", "faint")])
    return lines


def _bar(name: str, share: float, text: str, width: int) -> Line:
    filled = round(min(max(share, 0), 1) * (width - 2 - len(text)))
    style = "bad" if share > 0.9 else "warning" if share > 0.7 else "good"
    empty = " " * max(width - 2 - len(text) - filled, 0)
    return [(f" {name}[", "plain"), ("|" * filled, style), (f"{empty}{text}", "plain"), ("]", "plain")]


def _table(picture: Picture, keys: Sequence[Key], selected: int, width: int) -> list[Line]:
    several = len(picture.present()) > 1
    on = min(max((len(picture.name(key[1])) for key in keys), default=7), 12) if several else 0
    fixed = 47 + (max(on, 7) + 1 if several else 0)
    unit = min(max((len(key[0]) for key in keys), default=4), max(width - fixed - 6, 12))
    sparks = max(width - fixed - unit, 0)
    heading = (
        "UNIT".ljust(unit)
        + (f" {'MACHINE'.ljust(max(on, 7))}" if several else "")
        + f" {'STATE':<9} {'CPU%':>6} {'MEM':>6} {'PEAK':>6} {'RESTARTS':>8} {'READY':>5} "
    )
    lines: list[Line] = [[(heading.ljust(width), "heading")]]
    for number, key in enumerate(keys):
        line, used = picture.lines[key], picture.used.get(key)
        cpu, memory = _last(used, "cpu"), _last(used, "memory")
        ready = used["readySince"] if used else None
        newest = picture.machines[key[1]]["times"][-1] if key[1] in picture.machines else time.time()
        cells = [
            key[0][:unit].ljust(unit),
            *([picture.name(key[1])[:on].ljust(max(on, 7))] if several else []),
            f"{line['sub'][:9]:<9}",
            f"{'-' if cpu is None else f'{100 * cpu:.1f}':>6}",
            f"{size(memory):>6}",
            f"{size(used['peak'] if used else None):>6}",
            f"{line['restarts']:>8}",
            f"{'-' if ready is None else duration(newest - ready):>5}",
        ]
        sparkles = sparkline(picture.past.get(key, ()), sparks)
        if number == selected:
            lines.append([(f"{' '.join(cells)} {sparkles}".ljust(width), "selected")])
            continue
        style = {"failed": "bad", "active": "plain"}.get(line["active"], "warning")
        lines.append([(" ".join(cells), style), (f" {sparkles}", "good")])
    return lines


def sparkline(values: "Sequence[float | None] | deque[float | None]", width: int, high: float = 0) -> str:
    """Return the last values as a row of blocks, as high as `high` or the highest of them."""
    last = list(values)[-width:] if width > 0 else []
    most = high or max([HIGH, *(value for value in last if value is not None)])
    return "".join(
        " " if value is None else SPARKS[min(int(value / most * len(SPARKS)), len(SPARKS) - 1)]
        for value in last
    ).rjust(width)


def size(number: float | None) -> str:
    """Return bytes in at most five characters."""
    if number is None:
        return "-"
    for unit in "BKMGT":
        if number < 1000 or unit == "T":
            break
        number /= 1024
    return f"{number:.1f}{unit}" if number < 10 and unit != "B" else f"{number:.0f}{unit}"


def duration(seconds: float) -> str:
    """Return a duration in at most five characters: 12s, 5m, 3h12, 4d."""
    whole = int(max(seconds, 0))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 36000:
        return f"{whole // 3600}h{whole % 3600 // 60:02}"
    return f"{whole // 3600}h" if whole < 2 * 86400 else f"{whole // 86400}d"


def _last(figures: Row | None, name: str) -> float | None:
    """The last number of a list of figures; None where there is none."""
    values: Sequence[float | None] = figures[name] if figures else ()
    return values[-1] if values else None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _footer(text: str, width: int) -> Line:
    return [(text[:width].ljust(width), "heading")]


def _cut(lines: Sequence[Line], width: int, height: int) -> list[Line]:
    return [list(_within(line, width)) for line in lines[:height]]


def _within(line: Line, width: int) -> Iterator[tuple[str, str]]:
    for text, style in line:
        if width > 0 and text:
            yield text[:width], style
        width -= len(text)
