"""Images: built, built again, and sent to three machines: `python bench/images.py [--quick] [--json FILE]`.

An application on `images/web` is built whole (wheels and steps), then with nothing changed, then with its
code changed; podman alone builds the same from the same cache, which is the floor. Then its code is changed
again and brought onto a cluster of three machines: built, pushed to the cluster's registry, pulled by all
machines at once. What goes over the cluster's bridge from this computer is counted by the kernel.

Targets: a rebuild with a warm cache below 3 s, a code change on three machines below 10 s, `web` below
150 MB. --quick does one round instead of five.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import outcome

from kirsch.cluster.image.registry import of_cluster
from kirsch.cluster.provision.podman import object_name
from kirsch.cluster.provision.record import ClusterRecord

KIRSCH = str(Path(sys.executable).with_name("kirsch"))
IMAGES = Path(__file__).parents[1] / "images"
MACHINES = 3
NAME = f"bench-images-{os.getpid()}"
MODULE = """\
import cherrypy


class Root:
    @cherrypy.expose
    def index(self):
        return {text!r}


cherrypy.tree.mount(Root())
"""
CONTAINERFILE = """\
FROM localhost/kirsch/web
COPY requirements.txt .
RUN pip install -r requirements.txt
COPY webapp webapp
"""
WHOLE, AGAIN, CHANGED = "build, no cache", "build, nothing changed", "build, code changed"
FLOOR = "podman alone, nothing changed"
FIRST, DEPLOYED, SENT = "first push to a cluster", "code change on three machines", "sent for a code change"


def main() -> int:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round instead of five")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    rounds = 1 if options.quick else 5
    folder = Path(tempfile.mkdtemp(prefix="kirsch-bench-"))
    try:
        rows = builds(folder, rounds) + deployments(folder, rounds)
    finally:
        subprocess.run([KIRSCH, "cluster", "destroy", NAME], capture_output=True)
        listed = said("podman", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
        if mine := [name for name in listed if NAME in name]:
            said("podman", "image", "rm", "--force", *mine)
        shutil.rmtree(folder)
    for each in rows:
        ratio = f"{each['ratio']:8.2f} x podman alone" if each["ratio"] else ""
        print(f"{each['what']:<32} {each['subject']:<8} {each['value']:10.2f} {each['unit']:<3}{ratio}")
    if options.json:
        outcome.write(options.json, rows, podman=said("podman", "--version"))
    return 0


def builds(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """How long builds take, and how large images are."""
    sizes = {}
    for name in sorted(path.name for path in IMAGES.iterdir() if (path / "Containerfile").is_file()):
        made = json.loads(
            said(KIRSCH, "image", "build", str(IMAGES / name), "-t", f"kirsch/{name}", "--json")
        )
        sizes[name] = made["bytes"] / 1e6
    (folder / "Containerfile").write_text(CONTAINERFILE)
    (folder / "requirements.txt").write_text("sqlalchemy>=2,<3\nmore-itertools\n")
    build = ("image", "build", str(folder), "-t", NAME)
    write(folder)
    figures: dict[str, list[float]] = {WHOLE: [], AGAIN: [], CHANGED: [], FLOOR: []}
    for _ in range(rounds):
        figures[WHOLE].append(timed(lambda: said(KIRSCH, *build, "--no-cache")))
        said(KIRSCH, *build)
        figures[AGAIN].append(timed(lambda: said(KIRSCH, *build)))
        figures[FLOOR].append(timed(lambda: alone(folder)))
        write(folder)
        figures[CHANGED].append(timed(lambda: said(KIRSCH, *build)))
    least = statistics.median(figures[FLOOR])
    rows = [
        row(what, "podman" if what == FLOOR else "kirsch", statistics.median(values), "s", FLOOR, least)
        for what, values in figures.items()
    ]
    return rows + [row("size", name, size, "MB") for name, size in sizes.items()]


def alone(folder: Path) -> None:
    """podman's own build of what kirsch has built: all from the cache."""
    said(
        "podman", "--runtime", "runc", "build", "--quiet", "--format", "docker", "--timestamp", "0",
        "--network", "host", "--layers", "--pull=never", "--tag", f"localhost/{NAME}:alone", str(folder),
    )  # fmt: skip


def deployments(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """How long a changed image takes to a cluster's machines, and how much is sent."""
    said(KIRSCH, "cluster", "create", NAME, "--machines", str(MACHINES))
    cluster = ClusterRecord.load(NAME)
    first = timed(lambda: deploy(folder, cluster))
    seconds, sent = [], []
    for _ in range(rounds):
        write(folder)
        before = bridge()
        seconds.append(timed(lambda: deploy(folder, cluster)))
        sent.append((bridge() - before) / 1e6)
    return [
        row(FIRST, "kirsch", first, "s"),
        row(DEPLOYED, "kirsch", statistics.median(seconds), "s"),
        row(SENT, "kirsch", statistics.median(sent), "MB"),
    ]


def deploy(folder: Path, cluster: ClusterRecord) -> None:
    """Build, push, and have all machines pull."""
    said(KIRSCH, "image", "build", str(folder), "-t", NAME)
    said(KIRSCH, "image", "push", NAME, "--on", cluster.name)
    image = f"{of_cluster(cluster).address}/{NAME}"

    def pull(container: str) -> None:
        said("podman", "--runtime", "runc", "exec", container, "podman", "pull", "--quiet", image)

    with ThreadPoolExecutor() as pool:
        list(pool.map(pull, [machine.container for machine in cluster.machines]))


def bridge() -> int:
    """The bytes that this computer has sent into the cluster's network."""
    network = json.loads(said("podman", "network", "inspect", object_name(NAME)))[0]
    return int(Path(f"/sys/class/net/{network['network_interface']}/statistics/tx_bytes").read_text())


def write(folder: Path) -> None:
    """The application's code, unlike any before."""
    (folder / "webapp").mkdir(exist_ok=True)
    (folder / "webapp/__init__.py").write_text(MODULE.format(text=f"at {time.time_ns()}"))


def row(what: str, subject: str, value: float, unit: str, to: str = "", least: float = 0.0) -> dict[str, Any]:
    """One figure."""
    ratio = round(value / least, 2) if least else None
    return {
        "what": what, "subject": subject, "value": round(value, 2), "unit": unit,
        "ratio_to": to or None, "ratio": ratio,
    }  # fmt: skip


def timed(work: Callable[[], object]) -> float:
    """How many seconds it takes."""
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def said(*argv: str) -> str:
    """What a program prints that must succeed."""
    environment = {**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
