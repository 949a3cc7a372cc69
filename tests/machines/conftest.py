"""Three machines for all tests that want machines: made by the first, shared, taken away by the last.

KIRSCH_TEST_CLUSTER=NAME has the tests use a cluster that is there, and leave it.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.faults import application
from tests.machines import tiny
from tests.machines.trial import Trial
from tests.port import free_port

from kirsch.cluster.provision.create import PATH, PROGRAMS
from kirsch.cluster.provision.record import ClusterRecord

KIRSCH = str(Path(sys.executable).with_name("kirsch"))
HERE = Path(__file__).parent
PREFIX = "tests-"
# capabilities(7): CAP_SYS_ADMIN and CAP_NET_ADMIN, by their numbers in linux/capability.h.
CAPABILITIES = 1 << 21 | 1 << 12
# Seconds for the first image of all: packages from a mirror, on a computer that does other things too.
FIRST = 900
# A test may have to wait for the machines until those of another file are through.
TURN = 1800


def why_not() -> str:
    """Why no machine can be made here; empty if one can."""
    if os.geteuid() != 0:
        return "machines as containers need root"
    effective = Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0]
    if ~int(effective, 16) & CAPABILITIES:
        return "machines as containers need CAP_SYS_ADMIN and CAP_NET_ADMIN"
    programs = {**PROGRAMS, "mmdebstrap": "mmdebstrap", "ssh": "openssh-client"}
    missing = [package for program, package in programs.items() if not shutil.which(program, path=PATH)]
    if missing:
        return f"machines as containers need {' '.join(missing)}: apt-get install {' '.join(missing)}"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What uses machines may take long, and is skipped where there can be none."""
    reason = why_not()
    for item in items:
        if HERE not in item.path.parents or not item.get_closest_marker("machines"):
            continue
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TURN))
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of the cluster that all workers share."""
    if given := os.environ.get("KIRSCH_TEST_CLUSTER"):
        yield given
        return
    worker = "PYTEST_XDIST_WORKER" in os.environ
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if worker else folder
    # All workers are children of one process.
    name = f"{PREFIX}{os.getppid() if worker else os.getpid()}"
    users = folder / "machines-users"
    with locked(folder / "machines-lock"):
        count = int(users.read_text()) if users.exists() else 0
        if not count:
            remove_forgotten()
            published = f"{free_port()}:{application.PORT}"
            kirsch(
                "cluster", "create", name, "--machines", "3", "--metadata", "zone=a/b/c",
                "--publish", published,
            )  # fmt: skip
        users.write_text(str(count + 1))
    yield name
    with locked(folder / "machines-lock"):
        count = int(users.read_text()) - 1
        users.write_text(str(count))
        if not count:
            kirsch("cluster", "destroy", name)


@pytest.fixture(scope="module")
def cluster(shared_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRecord]:
    """Three machines, n1 to n3, of the zones a to c, for the tests of one file at a time. Leave them as they
    were."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with locked(folder / "machines-turn"):
        yield ClusterRecord.load(shared_cluster)


@pytest.fixture(scope="module")
def image(cluster: ClusterRecord, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a small image that all machines have."""
    trial = Trial(cluster, tmp_path_factory.mktemp("image"))
    tiny.make(trial, cluster.machines)
    yield tiny.IMAGE
    tiny.remove(trial, cluster.machines)


@pytest.fixture
def trial(cluster: ClusterRecord, tmp_path: Path) -> Trial:
    """The machines under trial."""
    return Trial(cluster, tmp_path)


def kirsch(*arguments: str) -> str:
    """A verb that must succeed."""
    done = subprocess.run([KIRSCH, *arguments], capture_output=True, text=True, timeout=FIRST)
    assert done.returncode == 0, f"kirsch {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
    return done.stdout


def remove_forgotten() -> None:
    """Destroy clusters of tests that were killed, and could not do it themselves."""
    listed = subprocess.run(
        ["podman", "ps", "--all", "--format", "json", "--filter", "label=io.kirsch.cluster"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    labels = {container["Labels"]["io.kirsch.cluster"] for container in json.loads(listed or "[]")}
    for name in {*labels, *ClusterRecord.names()}:
        process = name.removeprefix(PREFIX).partition("-")[0]
        if name.startswith(PREFIX) and process.isdecimal() and not Path("/proc", process).exists():
            kirsch("cluster", "destroy", name)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
