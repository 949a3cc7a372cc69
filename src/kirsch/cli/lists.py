"""list-units, list-unit-files, list-machines."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kirsch.cli.errors import Failure
from kirsch.cli.reach import client_of
from kirsch.cli.tables import Column, digest, machine, table

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
    "address": _plain("address"),
    "restarts": _plain("restarts"),
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
COLUMNS = {"list-units": UNIT_COLUMNS, "list-unit-files": FILE_COLUMNS, "list-machines": MACHINE_COLUMNS}


def list_units(options: argparse.Namespace) -> int:
    """Units that are on a machine."""
    rows = [row for row in client_of(options).get("/kirsch/v1/units")["units"] if row["machine"]]
    return _print(options, rows, UNIT_COLUMNS, ["unit", "machine", "active", "sub"])


def list_unit_files(options: argparse.Namespace) -> int:
    """All units, each once."""
    rows = _once(client_of(options).get("/kirsch/v1/units")["units"])
    return _print(options, rows, FILE_COLUMNS, ["unit", "hash", "dstate", "state", "target"])


def list_machines(options: argparse.Namespace) -> int:
    """The machines."""
    rows = client_of(options).get("/kirsch/v1/machines")["machines"]
    marked = ["state"] if any(row["cordoned"] for row in rows) else []
    lacking = ["problems"] if any(row["problems"] for row in rows) else []
    return _print(options, rows, MACHINE_COLUMNS, ["machine", "ip", "metadata", *marked, *lacking])


def _once(rows: Iterable[Row]) -> list[Row]:
    return list({row["name"]: row for row in rows}.values())


def _print(
    options: argparse.Namespace, rows: Sequence[Row], columns: Mapping[str, Column], default: list[str]
) -> int:
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    fields = options.fields.split(",") if options.fields else default
    for field in fields:
        if field not in columns:
            raise Failure(f"there is no column {field!r}; there are {', '.join(columns)}")
    print(table(rows, columns, fields, full=options.full, legend=not options.no_legend), end="")
    return 0
