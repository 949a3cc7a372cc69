"""Samples to medians, ratios to the best peer, tables."""

import os
import platform
import statistics
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from .row import Figure
from .servers import versions
from .subjects import FLOORS, PEER_SUBJECTS

Samples = dict[tuple[Figure, str], list[float]]


def report(samples: Samples, skipped: dict[tuple[str, str], str], load: float, to: str) -> dict[str, Any]:
    """As DESIGN.md has it; ratios to `to` where it was measured, else to the best peer."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": [round(load, 2), round(os.getloadavg()[0], 2)],
        "versions": {"python": platform.python_version(), **versions()},
        "rows": [
            row for figure in dict.fromkeys(f for f, _ in samples) for row in _rows(figure, samples, to)
        ],
        "skipped": [
            {"what": key, "subject": subject, "reason": reason} for (key, subject), reason in skipped.items()
        ],
    }


def _rows(figure: Figure, samples: Samples, to: str) -> Iterable[dict[str, Any]]:
    medians = {name: statistics.median(of) for (f, name), of in samples.items() if f == figure}
    best = to if to in medians else _best(medians, figure.less)
    for name, value in sorted(medians.items(), key=lambda item: item[1], reverse=not figure.less):
        row = {
            "what": figure.what,
            "subject": name,
            "value": _rounded(value),
            "unit": figure.unit,
            "table": figure.table,
            "column": figure.column,
            "samples": [_rounded(sample) for sample in samples[figure, name]],
        }
        if best:
            row |= {"ratio_to": best, "ratio": round(value / medians[best], 3) if medians[best] else None}
        yield row


def _best(medians: dict[str, float], less: bool) -> str | None:
    peers = {name: value for name, value in medians.items() if is_peer(name) and value > 0}
    return (min if less else max)(peers, key=peers.__getitem__, default=None)


def is_peer(name: str) -> bool:
    return name not in FLOORS and not name.startswith("kirsch")


def _rounded(value: float) -> float:
    return round(value, 3) if value < 100 else round(value)


def number(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.2f}M"
    if value >= 1e4:
        return f"{value / 1e3:.1f}k"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def lines(found: dict[str, Any]) -> Iterable[str]:
    """As people read it: each figure, the best first."""
    for name in ("machine", "date", "load", "versions", "rates"):
        yield f"{name}: {found[name]}"
    what = None
    for row in found["rows"]:
        if row["what"] != what:
            what = row["what"]
            yield f"\n{what}, {row['unit']} (ratio to {row.get('ratio_to', 'no peer')}; least and most)"
        spread = f"{number(min(row['samples']))} – {number(max(row['samples']))}"
        ratio = "" if row.get("ratio") is None else f"{row['ratio']:.2f}"
        yield f"  {row['subject']:20} {number(row['value']):>8} {ratio:>7}   {spread}"
    reasons: dict[str, list[str]] = {}
    for skip in found["skipped"]:
        reasons.setdefault(skip["reason"], []).append(f"{skip['what']} {skip['subject']}")
    for reason, where in reasons.items():
        yield f"\nskipped: {reason}\n  {', '.join(where)}"


def markdown(found: dict[str, Any]) -> Iterable[str]:
    """A table for each kind of row: a line a subject, medians with ratios to the best peer (in bold)."""
    order = [subject.name for subject in PEER_SUBJECTS]
    for table in dict.fromkeys(row["table"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["table"] == table]
        columns = list(dict.fromkeys((row["column"], row["unit"]) for row in rows))
        subjects = dict.fromkeys(row["subject"] for row in rows)
        yield ""
        yield f"| {table} | " + " | ".join(f"{column}, {unit}" for column, unit in columns) + " |"
        yield "| --- " + "| ---: " * len(columns) + "|"
        for subject in sorted(subjects, key=lambda name: order.index(name) if name in order else 99):
            cells = {(row["column"], row["unit"]): _cell(row) for row in rows if row["subject"] == subject}
            yield f"| {subject} | " + " | ".join(cells.get(column, "–") for column in columns) + " |"


def _cell(row: dict[str, Any]) -> str:
    value = number(row["value"])
    if row["subject"] == row.get("ratio_to"):
        return f"**{value}**"
    return value if row.get("ratio") is None else f"{value} ({row['ratio']:.2f})"
