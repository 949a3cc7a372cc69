"""A person's computer as its tests see it: clusters in a test's own data folder, and what is left of them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

KIRSCH = str(Path(sys.executable).with_name("kirsch"))
# Seconds for a verb; the first image of all is packages from a mirror.
LONG = 900
LABEL = "io.kirsch.cluster"
# Where podman, netavark and kirsch keep files.
FOLDERS = (
    "/etc/containers/networks",
    "/var/lib/containers/storage/volumes",
    "/run/netns",
    "/run/netavark",
    "/run/containers",
)


@dataclass
class Computer:
    """Clusters of one test; their names begin with `prefix`."""

    folder: Path
    prefix: str
    names: list[str] = field(default_factory=list)

    @property
    def data(self) -> Path:
        """Where kirsch keeps clusters' records."""
        return self.folder / "data"

    def name(self, suffix: str) -> str:
        """A name for a cluster that is destroyed at the end."""
        self.names.append(f"{self.prefix}-{suffix}")
        return self.names[-1]

    def environment(self, path: Path | None = None) -> Mapping[str, str]:
        """With programs of `path` before others."""
        found = {**os.environ, "XDG_DATA_HOME": str(self.data)}
        if path:
            found["PATH"] = f"{path}:{found['PATH']}"
        return found

    def kirsch(self, *arguments: str, path: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """A verb, as a person types it."""
        done = subprocess.run(
            [KIRSCH, *arguments], capture_output=True, text=True, timeout=LONG, env=self.environment(path)
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def create(self, suffix: str, *arguments: str) -> str:
        """A cluster; its name."""
        name = self.name(suffix)
        done = self.kirsch("cluster", "create", name, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return name

    def close(self) -> None:
        """Destroy what is left."""
        for name in self.names:
            if parts(name) or (self.data / "kirsch/clusters" / name).exists():
                self.kirsch("cluster", "destroy", name)


def parts(name: str) -> list[str]:
    """What podman has of a cluster."""
    found: list[str] = []
    for what in (["ps", "--all"], ["volume", "ls"], ["network", "ls"]):
        found += podman(*what, "--quiet", "--filter", f"label={LABEL}={name}").split()
    return found


def traces(name: str, words: Sequence[str]) -> list[str]:
    """All that this computer has of a cluster, by its name and other words that only it has: podman's
    objects, interfaces, firewall rules, mounts, processes, files."""
    marks = [name, *words]
    lines = [
        *parts(name),
        *run("ip", "-oneline", "address").splitlines(),
        *run("ip", "route", "show", "table", "all").splitlines(),
        *run("iptables-save").splitlines(),
        *Path("/proc/self/mountinfo").read_text().splitlines(),
        *processes(),
        *(str(path) for folder in FOLDERS for path in Path(folder).rglob("*")),
    ]
    return [line for line in lines if any(mark in line for mark in marks)]


def words_of(name: str) -> list[str]:
    """What else marks a cluster's parts while it is there: ids, its bridge, its addresses."""
    containers = json.loads(
        podman("ps", "--all", "--format=json", "--no-trunc", f"--filter=label={LABEL}={name}")
    )
    (network,) = json.loads(podman("network", "inspect", f"kirsch-{name}"))
    subnet = network["subnets"][0]["subnet"].removesuffix(".0/24")
    return [
        *(container["Id"] for container in containers), network["id"], f"{network['network_interface']} ",
        f" {subnet}.", f"={subnet}.",
    ]  # fmt: skip


def processes() -> list[str]:
    """Command lines of all processes but ours and our parents', which are named after what they test."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "pytest" not in line:
            found.append(line)
    return found


def podman(*arguments: str) -> str:
    """What podman prints."""
    return run("podman", "--runtime", "runc", *arguments)


def run(*argv: str) -> str:
    """What a program prints that must succeed."""
    environment = {**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout
