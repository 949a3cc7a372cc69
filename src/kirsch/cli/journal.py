"""journal: what units wrote."""

import json
import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kirsch.cli import kubernetes
from kirsch.cli.completion import units
from kirsch.cli.names import full_names
from kirsch.cli.values import lines as number
from kirsch.cli.values import moment, regular
from kirsch.cli.verb import Options, argument, flag, option, verb
from kirsch.cluster.api.client import Client

JOURNAL = "/kirsch/v1/journal"

# Lines that are shown, and lines that can be asked for at once.
LINES, MOST = 10, 10_000

# A time at the beginning of a line: CherryPy's, gunicorn's, PostgreSQL's, that of Python's logging, ISO 8601.
CLOCK = re.compile(
    r"\[?(?:(?P<day>\d\d/[A-Z][a-z]{2}/\d{4}):|(?P<date>\d{4}-\d\d-\d\d)[ T])(?P<time>\d\d:\d\d:\d\d)"
    r"(?:[.,]\d{1,9})?(?: ?(?P<zone>Z|UTC|[+-]\d\d:?\d\d))?\]?:? +"
)
# What sets colours (ECMA-48, SGR): Flask writes them to any output.
COLOUR = re.compile(r"\x1b\[[\d;]*m")
# Seconds that a program's clock and the journal's may differ and still tell the same.
SAME = 2.0

Line = Mapping[str, Any]


@verb(
    "journal",
    argument("units", "UNIT", many=True, optional=True, complete=units),
    flag("-f", "--follow", help="go on with new lines"),
    option(
        "-n",
        "--lines",
        metavar="N",
        type=number,
        help="how many, of all units together (10; all with --since, --until or --grep)",
    ),
    option("--since", metavar="TIME", type=moment, help="from then on: '10:30', '2026-12-01 10:30', 1h"),
    option("--until", metavar="TIME", type=moment, help="up to then"),
    option("-g", "--grep", metavar="PATTERN", type=regular, help="only lines that match (Python's re)"),
    flag("--json", help="print JSON, a line each"),
    text="It shows all units if none is named.",
    example="kirsch journal -f notes@1",
)
def journal(options: Options) -> int:
    """The last lines of units, and with --follow those to come."""
    chosen = bool(options.since or options.until or options.grep)
    count = options.lines if options.lines is not None else MOST if chosen else LINES
    # What does not match is not counted, so everything is read.
    asked = MOST if chosen else count
    names, lines = (kubernetes.lines if kubernetes.named(options) else _lines)(options, asked)
    several = len(names) > 1
    found = (line for line in lines if _matches(options, line))
    for line in found if options.follow else deque(found, count):
        print(json.dumps(line, ensure_ascii=False) if options.json else shown(line, several))
        sys.stdout.flush()
        if options.follow and options.until and line["time"] > options.until:
            break
    return 0


def _lines(options: Options, last: int) -> tuple[Sequence[str], Iterator[Line]]:
    """The units that are meant, and their lines, with --follow those to come too."""
    client = options.reader()
    names = full_names(client, options.units) or sorted(
        {u["name"] for u in client.get("/kirsch/v1/units")["units"]}
    )
    if options.follow:
        return names, _followed(client, names, last)
    return names, iter(client.get(JOURNAL, unit=names, lines=last)["lines"])


def _matches(options: Options, line: Line) -> bool:
    return (
        (options.since is None or line["time"] >= options.since)
        and (options.until is None or line["time"] <= options.until)
        and (options.grep is None or options.grep.search(line["text"]) is not None)
    )


def _followed(client: Client, names: Sequence[str], last: int) -> Iterator[Line]:
    """Lines as they come; where several machines can tell them, as long as one does."""
    while True:
        yield from client.stream(JOURNAL, unit=names, lines=last)
        if not client.transport.several:
            return
        print("kirsch: goes on at another machine; lines may be missing here", file=sys.stderr)
        last = 0


def shown(line: Mapping[str, Any], with_unit: bool) -> str:
    """A line as journalctl shows it: time, unit, text; control characters cannot reach the terminal. A text
    that begins with the same time is shown without it."""
    time = datetime.fromtimestamp(line["time"]).strftime("%b %d %H:%M:%S")
    unit = f" {line['unit']}:" if with_unit else ""
    return f"{time}{unit} {printable(without_time(line['text'], line['time']))}"


def without_time(text: str, at: float) -> str:
    """Return a line without the time that it begins with, if that is `at` (seconds since 1970). Pure."""
    found = CLOCK.match(text)
    if found is None:
        return text
    zone = (found["zone"] or "").replace("Z", "+0000").replace("UTC", "+0000").replace(":", "")
    day = f"%d/%b/%Y {found['day']}" if found["day"] else f"%Y-%m-%d {found['date']}"
    layout, _, date = day.partition(" ")
    try:
        read = datetime.strptime(
            f"{date} {found['time']} {zone}".strip(), f"{layout} %H:%M:%S{' %z' * bool(zone)}"
        )
        # Without a zone it may be the local time or UTC.
        times = [read, read.replace(tzinfo=UTC)] if read.tzinfo is None else [read]
        same = any(abs(each.timestamp() - at) <= SAME for each in times)
    except (ValueError, OverflowError, OSError):
        return text
    return text[found.end() :] if same else text


def printable(text: str) -> str:
    """A text whose control characters, but tabs, are shown as such; colours are left out."""
    if text.isprintable():
        return text
    plain = COLOUR.sub("", text)
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in plain)
