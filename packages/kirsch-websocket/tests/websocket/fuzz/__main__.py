"""Fuzz for a time: guided by coverage where atheris is, else with changes by chance, 10^6 of them at least.

What makes a target fail is written to --corpus as crash-…: `--input FILE` runs it again.
"""

import argparse
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

NAMES = ("parser", "protocol", "mask", "request", "response", "deflate", "extensions", "url")
# So many inputs are tried without atheris, whatever time that takes.
INPUTS = 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(NAMES)}; all by default")
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together (default 60)")
    parser.add_argument(
        "--corpus", type=Path, default=Path("build/fuzz"), help="what is kept of one run for the next"
    )
    parser.add_argument("--input", type=Path, help="run this file once")
    parser.add_argument("--guided", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    targets = arguments.targets or NAMES
    if unknown := set(targets) - set(NAMES):
        parser.error(f"no target: {', '.join(sorted(unknown))}")
    seconds = max(1, round(arguments.seconds / len(targets)))
    if arguments.input:
        from tests.websocket.fuzz.targets import TARGETS

        TARGETS[targets[0]](arguments.input.read_bytes())
        return 0
    if arguments.guided:
        guided(targets[0], seconds, arguments.corpus)
        return 0
    there = importlib.util.find_spec("atheris") is not None
    if not there:
        print(f"atheris is not there: {INPUTS} inputs a target by chance, or {seconds} s of them", flush=True)
    run = started if there else by_chance
    failed = [name for name in targets if not run(name, seconds, arguments.corpus)]
    if failed:
        print(f"failed: {', '.join(failed)}; see {arguments.corpus}", flush=True)
    return 1 if failed else 0


def started(name: str, seconds: int, corpus: Path) -> bool:
    """In a process of its own: libFuzzer ends the one it runs in."""
    command = [sys.executable, "-m", "tests.websocket.fuzz", "--guided", name]
    command += ["--seconds", str(seconds), "--corpus", str(corpus)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    numbers = dict(line[6:].split(": ") for line in done.stdout.splitlines() if line.startswith("stat::"))
    count = int(numbers.get("number_of_executed_units", 0))
    covered = [line.split("cov: ")[1].split()[0] for line in done.stdout.splitlines() if "cov: " in line]
    memory = numbers.get("peak_rss_mb", "?").strip()
    print(f"{name}: {count} executions, coverage {covered[-1] if covered else '?'}, {memory} MiB", flush=True)
    if done.returncode:
        print(done.stdout[-5000:], flush=True)
    return done.returncode == 0


def guided(name: str, seconds: int, corpus: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["kirsch.websocket"]):
        from tests.websocket.fuzz.targets import TARGETS
    from tests.websocket.fuzz.seeds import SEEDS

    place = corpus / name
    place.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (place / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-max_len=6000", "-timeout=10", "-rss_limit_mb=1024"]
    options += ["-print_final_stats=1", f"-artifact_prefix={corpus / name}-"]
    atheris.Setup([sys.argv[0], *options, str(place)], TARGETS[name])
    atheris.Fuzz()


def by_chance(name: str, seconds: int, corpus: Path) -> bool:
    from tests.websocket.fuzz.mutate import inputs
    from tests.websocket.fuzz.seeds import SEEDS
    from tests.websocket.fuzz.targets import TARGETS

    end = time.monotonic() + seconds
    for count, data in enumerate(inputs(SEEDS[name], int(time.time()))):
        try:
            TARGETS[name](data)
        except Exception:
            corpus.mkdir(parents=True, exist_ok=True)
            (corpus / f"{name}-crash").write_bytes(data)
            raise
        if count >= INPUTS and count % 1000 == 0 and time.monotonic() > end:
            print(f"{name}: {count} executions", flush=True)
            return True
    return False


if __name__ == "__main__":
    raise SystemExit(main())
