"""`kirsch exec` on a cluster: on the unit's machine, and in its container where it has one."""

import subprocess

import pytest
from tests.machines.trial import KIRSCH, Trial

pytestmark = [pytest.mark.machines, pytest.mark.slow]

# An image of a shell and little else: of what the machine has itself.
IMAGE = """\
set -e
cd $(mktemp -d)
mkdir bin
for program in sh sleep env cat; do cp /bin/$program bin/; done
libraries=$(ldd bin/* | grep -o '/[^ ]*[.]so[^ ]*' | sort -u)
tar -c --dereference bin $libraries 2>/dev/null | podman import --quiet - exec:1 >/dev/null
"""
SERVICE = "[Service]\nExecStart=/bin/sleep infinity\nEnvironment=WORD=%i\nWorkingDirectory=/usr\n"
CONTAINER = """\
[Container]
Image=localhost/exec:1
Exec=sleep infinity
Environment=WORD=%i
Network=none
"""


@pytest.fixture
def units(trial: Trial):
    """Instances of a service on each machine, and one of a container."""
    for machine in trial.machines:
        trial.shell(machine, IMAGE)
    trial.submit("exec@.service", SERVICE)
    trial.submit("boxed@.container", CONTAINER)
    names = [f"exec@{number}.service" for number in range(3)]
    trial.kirsch("start", *names, "boxed@c.container")
    yield names
    trial.kirsch("destroy", *names, "boxed@c.container", "exec@.service", "boxed@.container")
    for machine in trial.machines:
        trial.shell(machine, "podman rmi --force exec:1 >/dev/null")


def test_a_command_runs_where_the_unit_does(trial: Trial, units: list[str]):
    for number, name in enumerate(units):
        there = trial.machine_of(name)
        said = trial.kirsch("exec", name, "sh", "-c", "hostname; pwd; echo $WORD").out.splitlines()
        assert said == [there.name, "/usr", str(number)]


def test_in_its_container(trial: Trial, units: list[str]):
    ended = trial.kirsch(
        "exec", "-e", "MORE=a b", "boxed@c.container", "sh", "-c", "echo $WORD $MORE; exit 3", check=False
    )
    assert (ended.status, ended.out) == (3, "c a b\n")
    done = subprocess.run(
        [KIRSCH, "--cluster", trial.record.name, "exec", "boxed@c.container", "cat"],
        input="through a pipe\n", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "through a pipe\n", done.stderr
    # Its own file system, which has no kirsch.
    assert "opt" not in trial.kirsch("exec", "boxed@c.container", "sh", "-c", "echo /*").out
