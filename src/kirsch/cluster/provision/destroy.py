"""Taking a cluster away: all that bears its label, and its record."""

import shutil
from dataclasses import replace

from kirsch.cluster.provision import install, podman
from kirsch.cluster.provision.command import Runner
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
    """What removes a cluster, in order. Each can be done again."""

    def containers() -> None:
        if names := runner.run(podman.labelled("ps", name)).split():
            runner.run(podman.remove_machines(names))

    def volumes() -> None:
        if names := runner.run(podman.labelled("volume", name)).split():
            runner.run(podman.podman("volume", "rm", "--force", *names))

    def network() -> None:
        # Not by force: that would remove whoever else is in it.
        if names := runner.run(podman.labelled("network", name)).split():
            runner.run(podman.podman("network", "rm", *names))

    return [
        Step("machines", containers),
        Step("volumes", volumes),
        Step("network", network),
        Step("keys", lambda: remove_record(name)),
    ]


def remove_record(name: str) -> None:
    """A cluster's folder, with its keys; folders that are empty then go too."""
    shutil.rmtree(clusters_folder() / name, ignore_errors=True)
    memory_file(name).unlink(missing_ok=True)
    for folder in (clusters_folder(), clusters_folder().parent):
        try:
            folder.rmdir()
        except OSError:
            return
