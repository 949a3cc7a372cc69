"""`kirsch exec` on a cluster: on the unit's machine, and in its container where it has one."""

import subprocess

import pytest
from tests.machines.tiny import IMAGE
from tests.machines.trial import KIRSCH, Trial

pytestmark = [pytest.mark.machines, pytest.mark.slow]

SERVICE = "[Service]\nExecStart=/bin/sleep infinity\nEnvironment=WORD=%i\nWorkingDirectory=/usr\n"
CONTAINER = f"""\
[Container]
Image={IMAGE}
Exec=sleep infinity
Environment=WORD=%i
Network=none
"""


@pytest.fixture
def units(trial: Trial, image: str):
    """Instances of a service on each machine, and one of a container."""
    trial.submit("exec@.service", SERVICE)
    trial.submit("boxed@.container", CONTAINER)
    names = [f"exec@{number}.service" for number in range(3)]
    trial.kirsch("start", *names, "boxed@c.container")
    yield names
    trial.kirsch("destroy", *names, "boxed@c.container", "exec@.service", "boxed@.container")


def test_a_command_runs_where_the_unit_does(trial: Trial, units: list[str]):
    for number, name in enumerate(units):
        there = trial.machine_of(name)
        said = trial.kirsch("exec", name, "sh", "-c", "hostname; pwd; echo $WORD").out.splitlines()
        assert said == [there.name, "/usr", str(number)]


@pytest.mark.soak
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
