"""journal: what units wrote."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from kirsch.cli.completion import units
from kirsch.cli.names import full_names
from kirsch.cli.values import lines
from kirsch.cli.verb import Options, argument, flag, option, verb
from kirsch.cluster.api.client import Client

JOURNAL = "/kirsch/v1/journal"

Line = Mapping[str, Any]


@verb(
    "journal",
    argument("units", "UNIT", many=True, optional=True, complete=units),
    flag("-f", "--follow", help="go on with new lines"),
    option("-n", "--lines", metavar="N", type=lines, default=10, help="how many, of all units together (10)"),
    flag("--json", help="print JSON, a line each"),
    text="It shows all units if none is named.",
    example="kirsch journal -f notes@1",
)
def journal(options: Options) -> int:
    """The last lines of units, and with --follow those to come."""
    client = options.client()
    names = full_names(client, options.units) or sorted(
        {u["name"] for u in client.get("/kirsch/v1/units")["units"]}
    )
    several = len(names) > 1
    if options.follow:
        lines: Iterable[Line] = _followed(client, names, options.lines)
    else:
        lines = client.get(JOURNAL, unit=names, lines=options.lines)["lines"]
    for line in lines:
        print(json.dumps(line, ensure_ascii=False) if options.json else shown(line, several))
        sys.stdout.flush()
    return 0


def _followed(client: Client, names: Sequence[str], last: int) -> Iterator[Line]:
    """Lines as they come; where several machines can tell them, as long as one does."""
    while True:
        yield from client.stream(JOURNAL, unit=names, lines=last)
        if not client.reach.several:
            return
        print("kirsch: goes on at another machine; lines may be missing here", file=sys.stderr)
        last = 0


def shown(line: Mapping[str, Any], with_unit: bool) -> str:
    """A line as journalctl shows it: time, unit, text; control characters cannot reach the terminal."""
    time = datetime.fromtimestamp(line["time"]).strftime("%b %d %H:%M:%S")
    unit = f" {line['unit']}:" if with_unit else ""
    return f"{time}{unit} {printable(line['text'])}"


def printable(text: str) -> str:
    """A text whose control characters, but tabs, are shown as such."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)
