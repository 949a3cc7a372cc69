"""fleetctl's tables: columns aligned by tabs' rule (eight spaces), `-` for nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Column = Callable[[Row, bool], str]

GAP = 2


def table(
    rows: Sequence[Row],
    columns: Mapping[str, Column],
    fields: Sequence[str],
    *,
    full: bool = False,
    legend: bool = True,
) -> str:
    """The lines of a table: the named columns, in that order, each as wide as its widest cell."""
    lines = [[field.upper() for field in fields]] if legend else []
    lines += [[columns[field](row, full) or "-" for field in fields] for row in rows]
    widths = [max((len(line[i]) for line in lines), default=0) for i in range(len(fields))]
    cells = (
        "".join(cell.ljust(width + GAP) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
    return "".join(line.rstrip() + "\n" for line in cells)


def machine(machine_id: str, address: str, full: bool) -> str:
    """A machine in a cell: 113f16a7.../172.17.8.103."""
    if not machine_id:
        return "-"
    shown = machine_id if full else f"{machine_id[:8]}..."
    return f"{shown}/{address}" if address else shown


def digest(text: str, full: bool) -> str:
    """A hash in a cell: its first seven letters."""
    return text if full else text[:7]
