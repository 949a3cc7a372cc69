"""A cluster that a test makes and breaks: its machines are containers on this computer."""

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kirsch.cluster.api.client import Client
from kirsch.cluster.application import load
from kirsch.cluster.provision.endpoint import Where, transport_to
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, published
from kirsch.robot.application import KIRSCH, Application, RunError
from kirsch.robot.output import Moment
from kirsch.robot.units import UnitStates

CREATE_TIMEOUT = 900.0
PODMAN_TIMEOUT = 60.0


@dataclass
class OnCluster(Application):
    """An application's folder, and the cluster on which its units are: `kirsch` commands are for that."""

    name: str = ""

    @classmethod
    def of(cls, directory: Path, name: str) -> "OnCluster":
        """A folder and the cluster of a name. The folder is read, and nothing is written there."""
        record, application = ClusterRecord.load(name), load(directory, cluster=True)
        found = cls(directory, name=name)
        found.address = published(application.open, record.published) or application.open
        # For ports of the application, those at which this computer has them.
        found.ports = {int(each.rsplit(":", 1)[1]): int(each.rsplit(":", 2)[1]) for each in record.published}
        found.states = UnitStates(Client(transport_to(Where(cluster=name))))
        return found

    def environment(self) -> Mapping[str, str]:
        """Commands are for the cluster."""
        return {**Application.environment(self), "KIRSCH_CLUSTER": self.name}

    def remove(self) -> None:
        """The folder is a person's own: it stays."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster by its name."""

    name: str

    @classmethod
    def create(cls, name: str, *options: str) -> "Cluster":
        """Create a cluster. Raises RunError."""
        run("cluster", "create", name, *options, timeout=CREATE_TIMEOUT)
        return cls(name)

    def destroy(self) -> str:
        """Destroy the cluster and return the command's output. Raises RunError."""
        return run("cluster", "destroy", self.name, timeout=CREATE_TIMEOUT)

    @property
    def there(self) -> bool:
        """True while this computer has a record of the cluster."""
        return self.name in ClusterRecord.names()

    def machine(self, name: str) -> MachineRecord:
        """A machine, by its name, or its id. Raises ProvisionError."""
        return ClusterRecord.load(self.name).machine(name)

    def kill(self, name: str) -> Moment:
        """End a machine as a power cut does; return the moment."""
        begun = time.monotonic()
        podman("kill", "--signal", "KILL", self.machine(name).container)
        return Moment(f"machine {name} was killed", begun, time.monotonic())

    def boot(self, name: str) -> None:
        """Switch on a machine that was killed."""
        podman("start", self.machine(name).container)


def run(*arguments: str, timeout: float) -> str:
    """Run a `kirsch` command and return its output. Raises RunError if it fails."""
    done = subprocess.run(
        [*KIRSCH, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
    )
    if done.returncode:
        raise RunError(f"kirsch {' '.join(arguments)}: {done.stderr or done.stdout}".rstrip())
    return done.stdout


def podman(*arguments: str) -> None:
    """Run podman. Raises RunError."""
    done = subprocess.run(
        ["podman", "--runtime", "runc", *arguments],
        capture_output=True,
        text=True,
        timeout=PODMAN_TIMEOUT,
        env={**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"},
    )
    if done.returncode:
        raise RunError(f"podman {' '.join(arguments)}: {done.stderr}".rstrip())
