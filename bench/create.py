"""How long a new cluster of three machines takes: `python bench/create.py [--quick] [--json FILE]`.

First on a computer that has nothing (no image, no wheel), then with the image that this has left, each until
`kirsch cluster create` returns: every machine has said that it is in the cluster. The floor is podman's:
three containers of the same image, until the systemd in each says that it is up. podman keeps all of it in a
folder of our own (containers-storage.conf(5)), which goes at the end.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import outcome

from kirsch.cluster.provision.podman import BOOT, limits, ulimits

KIRSCH = str(Path(sys.executable).with_name("kirsch"))
NAME = f"bench-create-{os.getpid()}"
MACHINES = 3
COLD, WARM, GONE, FLOOR = "create, nothing cached", "create, image cached", "destroy", "podman alone"
STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'


def main() -> int:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round instead of three")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    rounds = 1 if options.quick else 3
    with computer() as environment:
        figures: dict[str, list[float]] = {COLD: [], WARM: [], GONE: [], FLOOR: []}
        steps: dict[str, dict[str, float]] = {}
        for what in [COLD, *[WARM] * rounds]:
            seconds, out = timed(environment, KIRSCH, "cluster", "create", NAME, "--machines", str(MACHINES))
            figures[what].append(seconds)
            steps[what] = {name: float(took) for took, name in re.findall(r"^ *([\d.]+) s  (.+)$", out, re.M)}
            figures[GONE].append(timed(environment, KIRSCH, "cluster", "destroy", NAME)[0])
        figures[FLOOR] = [floor(environment) for _ in range(rounds)]
    for what, took in steps.items():
        print(f"{what}: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in took.items()))
    least = statistics.median(figures[FLOOR])
    rows = [
        {
            "what": what, "subject": "podman" if what == FLOOR else "kirsch",
            "value": round(statistics.median(values), 2), "unit": "s",
            "ratio_to": FLOOR, "ratio": round(statistics.median(values) / least, 2),
        }
        for what, values in figures.items()
    ]  # fmt: skip
    for row in rows:
        print(f"{row['what']:<24} {row['value']:7.1f} s {row['ratio']:7.2f} x {FLOOR}")
    if options.json:
        outcome.write(options.json, rows, podman=said("podman", "--version"))
    return 0


@contextmanager
def computer() -> Iterator[dict[str, str]]:
    """The environment of a computer that has nothing yet."""
    # Not in /tmp, which may be memory.
    folder = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="kirsch-bench-"))
    storage = folder / "storage.conf"
    storage.write_text(STORAGE.format(folder=folder))
    places = {
        "CONTAINERS_STORAGE_CONF": storage,
        "XDG_DATA_HOME": folder / "data",
        "XDG_CACHE_HOME": folder / "cache",
    }
    environment = {**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    environment |= {name: str(path) for name, path in places.items()}
    try:
        yield environment
    finally:
        subprocess.run([KIRSCH, "cluster", "destroy", NAME], env=environment, capture_output=True)
        podman = ["podman", "--runtime", "runc"]
        for words in (["rm", "--all", "--force", "--time", "0"], ["rmi", "--all", "--force"]):
            subprocess.run([*podman, *words], env=environment, capture_output=True)
        subprocess.run(["umount", folder / "graph/overlay"], capture_output=True)
        shutil.rmtree(folder)


def floor(environment: dict[str, str]) -> float:
    """Three containers that run systemd, nothing of kirsch's in them."""
    image = said(
        "podman", "images", "--quiet", "--filter", "reference=localhost/kirsch-node", env=environment
    )
    names = [f"{NAME}-{number}" for number in range(MACHINES)]

    def one(name: str) -> None:
        said(
            "podman", "--runtime", "runc", "run", "--detach", "--name", name, "--privileged",
            "--pids-limit=-1", "--systemd=false", "--cgroupns=private", *ulimits(limits()),
            "--tmpfs", "/run", "--tmpfs", "/tmp", "--env", "container=podman",
            image.split()[0], "sh", "-c", BOOT, env=environment,
        )  # fmt: skip
        up = "until systemctl is-system-running --wait | grep -E 'running|degraded'; do sleep 0.05; done"
        said("podman", "--runtime", "runc", "exec", name, "sh", "-c", up, env=environment)

    begun = time.monotonic()
    with ThreadPoolExecutor() as pool:
        list(pool.map(one, names))
    seconds = time.monotonic() - begun
    said("podman", "--runtime", "runc", "rm", "--force", "--time", "0", *names, env=environment)
    return seconds


def timed(environment: dict[str, str], *argv: str) -> tuple[float, str]:
    """How many seconds a program took, and what it said."""
    begun = time.monotonic()
    out = said(*argv, env=environment)
    return time.monotonic() - begun, out


def said(*argv: str, env: dict[str, str] | None = None) -> str:
    """What a program prints that must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
