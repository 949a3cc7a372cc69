"""How long a person waits for `kirsch`: whole processes, from start to end: `python bench/cli.py`.

The application has 20 units that run, one of them with a hundred lines in its journal. Each command is run in
turn, 40 rounds (--quick: 8), and the median taken. The peer is what nothing costs here: this Python with an
empty program, and with the standard library's parts that any client of HTTP with options needs.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import outcome

UNITS = 20
KIRSCH = str(Path(sys.executable).with_name("kirsch"))
FLOOR = "python -c pass"
COMMANDS = {
    FLOOR: [sys.executable, "-c", "pass"],
    "python -c 'import argparse, http.client, json'": [
        sys.executable,
        "-c",
        "import argparse, http.client, json",
    ],
    "kirsch --help": [KIRSCH, "--help"],
    "kirsch help run": [KIRSCH, "help", "run"],
    "kirsch list-units": [KIRSCH, "list-units"],
    "kirsch list-units --json": [KIRSCH, "list-units", "--json"],
    "kirsch status u1": [KIRSCH, "status", "u1"],
    "kirsch journal u1": [KIRSCH, "journal", "u1"],
    "kirsch exec u1 true": [KIRSCH, "exec", "u1", "true"],
    "kirsch _complete stop ''": [KIRSCH, "_complete", "stop", ""],
}


def main() -> int:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="8 rounds instead of 40")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_application(Path(folder))
        subprocess.run([KIRSCH, "up", "-d"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        try:
            medians = measure(folder, 8 if options.quick else 40)
        finally:
            subprocess.run([KIRSCH, "down"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    rows = [
        {
            "what": "whole process",
            "subject": name,
            "value": round(value, 1),
            "unit": "ms",
            "ratio_to": FLOOR,
            "ratio": round(value / medians[FLOOR], 2),
        }
        for name, value in medians.items()
    ]
    for row in rows:
        print(f"{row['subject']:<50} {row['value']:>6} ms  {row['ratio']:>5} x")
    if options.json:
        outcome.write(options.json, rows)
    return 0


def write_application(folder: Path) -> None:
    """Twenty units; the first says a hundred lines."""
    for number in range(1, UNITS + 1):
        command = "sh -c 'seq 100; exec sleep 1000'" if number == 1 else "sleep 1000"
        (folder / f"u{number}.service").write_text(f"[Service]\nExecStart={command}\n")


def measure(folder: str, rounds: int) -> dict[str, float]:
    """Milliseconds, the median of each command's rounds; the commands take turns."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            begun = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            times[name].append((time.perf_counter() - begun) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    sys.exit(main())
