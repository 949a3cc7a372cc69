"""Taking a cluster away: all that bears its label, and its record."""

import shutil
import time
from collections.abc import Callable
from dataclasses import replace

from kirsch.cluster.provision import install, podman
from kirsch.cluster.provision.command import Command, CommandError, Runner
from kirsch.cluster.provision.keyring import forget_host, public_key
from kirsch.cluster.provision.record import (
    ClusterRecord,
    MachineRecord,
    ProvisionError,
    checked_name,
    clusters_folder,
    memory_file,
)
from kirsch.cluster.provision.shell import act, shell_of
from kirsch.cluster.provision.steps import Show, Step, perform

# Seconds in which a part is removed that is busy, and from one attempt to the next.
PATIENCE = 10.0
AGAIN = 0.5
PARTS = ("ps", "volume", "network")


def destroy(name: str, show: Show) -> list[str]:
    """Remove a cluster, also one that was made by half: the hosts that cannot be reached, with the reason, on
    which kirsch stays. Raises ProvisionError, also if there is none."""
    runner = Runner()
    checked_name(name)
    known = (clusters_folder() / name).exists()
    if not known and not any(runner.run(podman.labelled(part, name)).strip() for part in PARTS):
        names = ", ".join(sorted(path.name for path in clusters_folder().glob("*/")))
        raise ProvisionError(f"there is no cluster {name}" + (f"; there are {names}" if names else ""))
    left: list[str] = []
    steps = destroy_steps(name, runner)
    if hosts := _hosts(name):
        steps.insert(0, Step("hosts", lambda: _leave(name, hosts, runner, left)))
    perform(steps, show, "what is left goes when you do it again")
    return left


def _hosts(name: str) -> list[MachineRecord]:
    try:
        return [machine for machine in ClusterRecord.load(name).machines if not machine.container]
    except ProvisionError:
        return []  # one without a record, or with half of one, has no hosts


def _leave(name: str, hosts: list[MachineRecord], runner: Runner, left: list[str]) -> None:
    record = ClusterRecord.load(name)

    def leave(machine: MachineRecord) -> None:
        try:
            expel(record, machine, runner)
        except ProvisionError as error:
            left.append(str(error))
            return
        forget(name, machine)

    runner.together(hosts, leave)


def expel(record: ClusterRecord, machine: MachineRecord, runner: Runner) -> None:
    """Remove kirsch from a machine, and the cluster's key from those that let people in. Raises
    ProvisionError."""
    shell = shell_of(record, machine)
    act(runner, shell, machine.name, install.LEAVE)
    if not machine.container:
        act(runner, shell, machine.name, install.unauthorize(machine.user, public_key(record)))


def forget(name: str, machine: MachineRecord) -> None:
    """Take a machine from a cluster's record, and from what ssh knows. Raises ProvisionError, OSError."""

    def without(record: ClusterRecord) -> ClusterRecord:
        forget_host(record, machine)
        return replace(record, machines=tuple(m for m in record.machines if m.name != machine.name))

    ClusterRecord.change(name, without)


def destroy_steps(name: str, runner: Runner) -> list[Step]:
    """Return the steps that remove a cluster, in order. Each can be done again."""

    def containers() -> None:
        _removed("ps", name, podman.remove_machines, runner)

    def volumes() -> None:
        _removed("volume", name, lambda names: podman.podman("volume", "rm", "--force", *names), runner)

    def network() -> None:
        # Not by force: that would remove whoever else is in it.
        _removed("network", name, lambda names: podman.podman("network", "rm", *names), runner)

    return [
        Step("machines", containers),
        Step("volumes", volumes),
        Step("network", network),
        Step("keys", lambda: remove_record(name)),
    ]


def _removed(part: str, name: str, remove: Callable[[list[str]], Command], runner: Runner) -> None:
    """Remove all of a part that bears the cluster's label. What was interrupted may be busy for a while:
    podman is asked again."""
    until = time.monotonic() + PATIENCE
    known: list[str] = []
    while True:
        found = runner.run(podman.labelled(part, name)).split()
        # A container whose files were busy is listed no more, and its files are there.
        known = list(dict.fromkeys([*known, *found])) if part == "ps" else found
        if not known:
            return
        try:
            runner.run(remove(known))
            return
        except CommandError as error:
            if error.status is None or time.monotonic() > until:
                raise
        time.sleep(AGAIN)


def remove_record(name: str) -> None:
    """A cluster's folder, with its keys; folders that are empty then go too."""
    shutil.rmtree(clusters_folder() / name, ignore_errors=True)
    memory_file(name).unlink(missing_ok=True)
    for folder in (clusters_folder(), clusters_folder().parent):
        try:
            folder.rmdir()
        except OSError:
            return
