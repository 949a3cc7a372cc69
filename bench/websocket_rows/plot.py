"""The figures as an SVG: a panel each, a bar a subject, the best first."""

from collections.abc import Iterable
from html import escape
from typing import Any

from .report import is_peer, number

WIDTH, BAR, GAP, NAME, COLUMNS = 440, 14, 5, 150, 2
INK, FAINT = "#444c56", "#8b949e"
KIRSCH, PEER, FLOOR = "#c2185b", "#7d97b5", "#c9d1d9"


def svg(found: dict[str, Any]) -> str:
    panels: dict[str, list[dict[str, Any]]] = {}
    for row in found["rows"]:
        panels.setdefault(row["what"], []).append(row)
    heights = [0] * COLUMNS
    drawn: list[str] = []
    for rows in panels.values():
        column = heights.index(min(heights))
        drawn += [
            f'<g transform="translate({column * WIDTH + 16},{heights[column] + 16})">',
            *_panel(rows),
            "</g>",
        ]
        heights[column] += 44 + len(rows) * (BAR + GAP)
    width, height = WIDTH * COLUMNS + 16, max(heights) + 16
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        ' font-family="system-ui, sans-serif" font-size="11">'
        "<title>kirsch.websocket and its peers</title>"
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    )
    return "\n".join([head, *drawn, "</svg>", ""])


def _panel(rows: list[dict[str, Any]]) -> Iterable[str]:
    unit = escape(f"{rows[0]['what']}: {rows[0]['unit']}")
    yield f'<text y="10" font-weight="600" font-size="12" fill="{INK}">{unit}</text>'
    most = max(row["value"] for row in rows) or 1
    room = WIDTH - NAME - 110
    for place, row in enumerate(rows):
        y = 22 + place * (BAR + GAP)
        name = row["subject"]
        colour = KIRSCH if name.startswith("kirsch") else PEER if is_peer(name) else FLOOR
        length = max(1, round(room * row["value"] / most))
        ratio = "" if row.get("ratio") is None else f" (×{row['ratio']:.2f})"
        middle, end = y + BAR - 3, NAME + length + 5
        yield f'<text x="{NAME - 6}" y="{middle}" text-anchor="end" fill="{INK}">{escape(name)}</text>'
        yield f'<rect x="{NAME}" y="{y}" width="{length}" height="{BAR}" rx="2" fill="{colour}"/>'
        yield f'<text x="{end}" y="{middle}" fill="{FAINT}">{number(row["value"])}{ratio}</text>'
