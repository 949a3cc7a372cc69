"""A hello over HTTP, with kirsch's server and its peers: `python bench/http_hello.py [--quick]`.

Servers run on the last core with 10 threads, wrk on the first with 32 connections kept alive. What a request
costs is told in requests a second of processor time too, which other programs on the machine disturb less.
Three rounds in turns, the median of each. Peers are installed into .venv-bench, beside the project's .venv;
wrk is Debian's.
"""

import argparse
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
VENV = HERE.parent / ".venv-bench"
SERVER_CORE, CLIENT_CORE = str(max(os.sched_getaffinity(0))), str(min(os.sched_getaffinity(0)))
TICKS = os.sysconf("SC_CLK_TCK")

WSGI = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]
"""
CHERRYPY = """
import cherrypy
class Root:
    @cherrypy.expose
    def index(self): return "hello"
cherrypy.log.screen = False
cherrypy.log.access = lambda: None
cherrypy.tree.mount(Root())
application = cherrypy.tree
"""
KIRSCH = """
import sys
from kirsch.bus.http import Limits, Server
Server(("127.0.0.1", int(sys.argv[1])), application, Limits(threads=10)).start()
"""
CHEROOT = """
import sys
from cheroot.wsgi import Server
Server(("127.0.0.1", int(sys.argv[1])), application, numthreads=10).start()
"""
# What no server can be faster than.
ALONE = """
import sys, time
from wsgiref.util import setup_testing_defaults
def serve():
    environ = {}
    setup_testing_defaults(environ)
    body = application(environ, lambda status, headers, exc_info=None: None)
    assert b"".join(body) == b"hello"
    body.close()
for _ in range(1000):
    serve()
began, used, count = time.perf_counter(), time.process_time(), 0
while time.perf_counter() - began < float(sys.argv[1]):
    serve()
    count += 1
print(count / (time.perf_counter() - began), count / (time.process_time() - used))
"""
SUBJECTS = {
    "WSGI on kirsch": WSGI + KIRSCH,
    "WSGI on cheroot": WSGI + CHEROOT,
    "WSGI on granian": WSGI,
    "CherryPy on kirsch": CHERRYPY + KIRSCH,
    "CherryPy on cheroot": CHERRYPY + CHEROOT,
    "CherryPy, no server": CHERRYPY + ALONE,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of a second")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("the load comes from wrk: apt-get install wrk")
    if not (VENV / "bin/granian").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin/pip", "install", "-q", "granian"], check=True)
    rows = measure_all(*((1, 1) if options.quick else (3, 3)))
    for row in rows:
        print("{what:14} {subject:20} {value:10.1f} {unit:15} {ratio:.2f}".format_map(row))
    if options.json:
        versions = {name: version(name) for name in ("cherrypy", "cheroot", "httptools")}
        report = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {"python": platform.python_version(), **versions},
            "rows": rows,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def measure_all(rounds: int, seconds: int) -> list[dict[str, object]]:
    """Rows of a report: each subject's medians, beside those of CherryPy on cheroot."""
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in SUBJECTS}
    for _ in range(rounds):
        for name in SUBJECTS:
            samples[name].append(measure(name, seconds))
    rows: list[dict[str, object]] = []
    for figure, unit in (("rate", "requests/s"), ("per CPU", "requests/CPU s"), ("p99", "ms")):
        medians = {
            name: statistics.median(each[figure] for each in found)
            for name, found in samples.items()
            if figure in found[0]
        }
        for name, value in medians.items():
            rows.append(
                {
                    "what": f"hello {figure}",
                    "subject": name,
                    "value": round(value, 1),
                    "unit": unit,
                    "ratio_to": "CherryPy on cheroot",
                    "ratio": round(value / medians["CherryPy on cheroot"], 2),
                }
            )
    return rows


def measure(name: str, seconds: int) -> dict[str, float]:
    """One round of one subject."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    folder = VENV / "hello"
    folder.mkdir(exist_ok=True)
    (folder / "hello.py").write_text(SUBJECTS[name])
    argv = [sys.executable, "hello.py", str(port)]
    if name.endswith("no server"):
        alone = ["taskset", "-c", SERVER_CORE, sys.executable, "hello.py", str(seconds)]
        printed = subprocess.run(alone, cwd=folder, check=True, capture_output=True, text=True).stdout
        return dict(zip(("rate", "per CPU"), map(float, printed.split()), strict=True))
    if name.endswith("granian"):
        argv = [str(VENV / "bin/granian"), "--interface", "wsgi", "--port", str(port), "--workers", "1"]
        argv += ["--blocking-threads", "10", "--no-access-log", "hello:application"]
    process = subprocess.Popen(["taskset", "-c", SERVER_CORE, *argv], cwd=folder, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}/"
        wait_for(url)
        load(url, 1)
        began = processor_time(process.pid)
        output = load(url, seconds)
        used = processor_time(process.pid) - began
    finally:
        process.terminate()
        process.wait(20)
    requests = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    if requests is None or rate is None or p99 is None or "Non-2xx" in output:
        sys.exit(f"{name}: {output}")
    return {
        "rate": float(rate[1]),
        "per CPU": int(requests[1]) / used,
        "p99": float(p99[1]) * {"us": 0.001, "ms": 1, "s": 1000}[p99[2]],
    }


def load(url: str, seconds: int) -> str:
    wrk = ["taskset", "-c", CLIENT_CORE, "wrk", "-t1", "-c32", f"-d{seconds}s", "--latency", url]
    return subprocess.run(wrk, check=True, capture_output=True, text=True).stdout


def processor_time(pid: int) -> float:
    """Seconds of a process and its children that run (granian's worker is one)."""
    total = 0.0
    for each in (pid, *children(pid)):
        fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).read()
        except OSError:
            if time.monotonic() > deadline:
                sys.exit("it did not start")
            time.sleep(0.05)
        else:
            return


if __name__ == "__main__":
    main()
