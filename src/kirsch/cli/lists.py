"""list-units, list-unit-files and list-machines: fleetctl's tables."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from kirsch.cli.completion import units
from kirsch.cli.errors import Failure
from kirsch.cli.names import matching
from kirsch.cli.output import Column, digest, machine, table
from kirsch.cli.values import FULL, JSON, NO_LEGEND
from kirsch.cli.verb import Options, argument, flag, option, verb
from kirsch.cluster.api.client import UNITS

Row = Mapping[str, Any]


def _plain(key: str) -> Column:
    return lambda row, full: str(row[key])


def _machine(row: Row, full: bool) -> str:
    return machine(row["machine"], row["machine_address"], full)


def _target(row: Row, full: bool) -> str:
    return "global" if row["is_global"] else _machine(row, full)


UNIT_COLUMNS: dict[str, Column] = {
    "unit": _plain("name"),
    "machine": _machine,
    "load": _plain("load"),
    "active": _plain("active"),
    "sub": _plain("sub"),
    "hash": lambda row, full: digest(row["fleet_hash"], full),
    "desc": _plain("description"),
    "ready": lambda row, full: "yes" if row["ready"] else "no",
    "role": _plain("role"),
    "address": _plain("address"),
    "restarts": _plain("restarts"),
    "spread": lambda row, full: "not met" if row["spread"] else "",
}
FILE_COLUMNS: dict[str, Column] = {
    "unit": _plain("name"),
    "hash": lambda row, full: digest(row["fleet_hash"], full),
    "dstate": _plain("desired"),
    "state": _plain("state"),
    "target": _target,
    "desc": _plain("description"),
}
MACHINE_COLUMNS: dict[str, Column] = {
    "machine": lambda row, full: row["id"] if full else f"{row['id'][:8]}...",
    "ip": _plain("address"),
    "metadata": lambda row, full: ",".join(f"{k}={v}" for k, v in sorted(row["metadata"].items())),
    "problems": lambda row, full: "; ".join(row["problems"]),
    "state": lambda row, full: "drained" if row["drained"] else "cordoned" if row["cordoned"] else "",
}


def columns(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest columns, after those that were typed."""
    given = incomplete[: incomplete.rfind(",") + 1]
    names = (given + name for name in COLUMNS[ctx.info_name or ""])
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


TABLE = (
    FULL,
    NO_LEGEND,
    option("--fields", metavar="A,B", help="the columns to print", complete=columns),
    JSON,
)
PATTERNS = argument(
    "patterns", "PATTERN", "only units that match: notes, 'notes@*'", many=True, optional=True, complete=units
)
COLUMNS = {
    "list-units": UNIT_COLUMNS,
    "ps": UNIT_COLUMNS,
    "list-unit-files": FILE_COLUMNS,
    "list-machines": MACHINE_COLUMNS,
}


@verb(
    "list-units",
    PATTERNS,
    *TABLE,
    flag("-w", "--watch", help="print it again at each change, until Ctrl-C"),
    example="kirsch list-units --full",
)
def list_units(options: Options) -> int:
    """Print a table of the units that are on a machine."""
    client = options.reader()

    def show() -> str:
        rows = _meant(options, [row for row in client.get(UNITS)["units"] if row["machine"]])
        unmet = ["spread"] if any(row["spread"] for row in rows) else []
        return _text(options, rows, UNIT_COLUMNS, ["unit", "machine", "active", "sub", *unmet])

    shown = show()
    print(shown, end="", flush=True)
    if options.watch:
        clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else "\n"
        for _ in client.stream("/kirsch/v1/events"):
            if (now := show()) != shown:
                shown = now
                print(clear + shown, end="", flush=True)
    return 0


@verb("list-unit-files", PATTERNS, *TABLE, example="kirsch list-unit-files --full")
def list_unit_files(options: Options) -> int:
    """Print a table of all units, each once."""
    rows = _meant(options, _once(options.reader().get(UNITS)["units"]))
    return _print(options, rows, FILE_COLUMNS, ["unit", "hash", "dstate", "state", "target"])


@verb("list-machines", *TABLE, example="kirsch list-machines --full")
def list_machines(options: Options) -> int:
    """Print a table of the machines."""
    rows = options.client().get("/kirsch/v1/machines")["machines"]
    marked = ["state"] if any(row["cordoned"] for row in rows) else []
    lacking = ["problems"] if any(row["problems"] for row in rows) else []
    return _print(options, rows, MACHINE_COLUMNS, ["machine", "ip", "metadata", *marked, *lacking])


def _once(rows: Iterable[Row]) -> list[Row]:
    return list({row["name"]: row for row in rows}.values())


def _meant(options: Options, rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows whose units match a pattern that was given; all without one."""
    names = matching(options.patterns, [row["name"] for row in rows]) if options.patterns else None
    return rows if names is None else [row for row in rows if row["name"] in names]


def _print(options: Options, rows: Sequence[Row], columns: Mapping[str, Column], default: list[str]) -> int:
    print(_text(options, rows, columns, default), end="")
    return 0


def _text(options: Options, rows: Sequence[Row], columns: Mapping[str, Column], default: list[str]) -> str:
    if options.json:
        return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
    fields = options.fields.split(",") if options.fields else default
    for field in fields:
        if field not in columns:
            raise Failure(f"there is no column {field!r}; there are {', '.join(columns)}")
    return table(rows, columns, fields, full=options.full, legend=not options.no_legend)
