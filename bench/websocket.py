"""WebSocket servers side by side, kirsch among its peers: `python bench/websocket.py`.

One server at a time works on the last core, the load client (bench/websocket_client.c: one connection, frames
made beforehand) on the first. A round measures each subject once, in random order; figures are medians of the
rounds, ratios are to the best peer of the same run (raw TCP and memcpy are no peers). Parsing and masking are
measured in memory, by the process's own CPU time. A subject that is not there is skipped, with its reason.

    python bench/websocket.py --list                                      the rows and who is in them
    python bench/websocket.py --only echo-64-100 --subjects "kirsch-asyncio picows" --rounds 3 --cpu
    python bench/websocket.py --only "parse mask"

Peers are installed into .venv-bench, beside the project's .venv; kirsch runs there too, from src.
"""

import argparse
import contextlib
import json
import os
import random
import sys
from pathlib import Path

from websocket_rows import crowd, echo, large, memory
from websocket_rows.plot import svg
from websocket_rows.report import Samples, lines, markdown, number, report
from websocket_rows.row import Row, Run, chosen
from websocket_rows.servers import Servers, Skipped, awake, prepare
from websocket_rows.targets import targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="one round, short, with smaller crowds and messages"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="rows: what their names are, or begin with"
    )
    parser.add_argument(
        "--subjects", default="", metavar="WORDS", help="whom: names, or what they begin with"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument(
        "--cpu", action="store_true", help="rates by the server's CPU time: for a busy machine"
    )
    parser.add_argument(
        "--awake", action="store_true", help="let the cores not sleep: a wake-up is no server's doing"
    )
    parser.add_argument("--to", default="", metavar="NAME", help="ratios to this subject, not the best peer")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="an SVG")
    parser.add_argument("--markdown", action="store_true", help="tables with ratios")
    parser.add_argument("--list", action="store_true", help="name rows and subjects, measure nothing")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 0.4
    every = [*echo.rows(), *memory.rows(), *large.rows(options.quick), *crowd.rows(options.quick)]
    keys = chosen(options.only, [row.key for row in every])
    rows = [row for row in every if row.key in keys]
    if options.list:
        for row in rows:
            print(f"{row.key}: {' '.join(chosen(options.subjects, list(row.subjects)))}")
        return
    if not any(chosen(options.subjects, list(row.subjects)) for row in rows):
        parser.error("no row has such a subject: --list names them")
    prepare()
    load = os.getloadavg()[0]
    samples: Samples = {}
    skipped: dict[tuple[str, str], str] = {}
    with contextlib.ExitStack() as stack:
        if options.awake:
            stack.enter_context(awake())
        run = Run(options.seconds, options.cpu, Servers(stack))
        with contextlib.suppress(KeyboardInterrupt):  # what was measured is shown
            for row in rows:
                measure(
                    row, chosen(options.subjects, list(row.subjects)), options.rounds, run, samples, skipped
                )
    found = report(samples, skipped, load, options.to)
    found["rates"] = "by the server's CPU time" if options.cpu else "by the clock"
    if options.awake:
        found["rates"] += ", cores kept awake"
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if options.plot:
        options.plot.write_text(svg(found))
    print("\n".join((markdown if options.markdown else lines)(found)))
    print("\n".join(targets(found)))


def measure(
    row: Row, names: list[str], rounds: int, run: Run, samples: Samples, skipped: dict[tuple[str, str], str]
) -> None:
    for number_of in range(1, rounds + 1):
        # Not always after the same neighbour.
        for name in random.sample(names, len(names)):
            if (row.key, name) in skipped:
                continue
            try:
                values = row.measure(name, run)
            except Skipped as reason:
                skipped[row.key, name] = str(reason)
                print(f"{number_of} {row.key} {name}: skipped: {reason}", file=sys.stderr)
                continue
            for figure, value in zip(row.figures, values, strict=True):
                samples.setdefault((figure, name), []).append(value)
            told = ", ".join(f"{number(v)} {f.unit}" for f, v in zip(row.figures, values, strict=True))
            print(f"{number_of} {row.key} {name}: {told}", file=sys.stderr)


if __name__ == "__main__":
    main()
