"""Machines as containers, switched off and on again: they start with podman, not with this computer."""

import time
from collections.abc import Sequence

from kirsch.cluster.provision import podman
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, ProvisionError
from kirsch.cluster.provision.shell import answers
from kirsch.cluster.provision.status import machine_statuses
from kirsch.cluster.provision.steps import Show, Step, perform

# Seconds until machines that boot are in the cluster; and until one that is asked to stop is ended.
READY = 90.0
PATIENCE = 30


def start(name: str, machines: Sequence[str], show: Show) -> ClusterRecord:
    """Start a cluster's machines, or those that are named, and wait until they are in the cluster. Those that
    run already are let be. Raises ProvisionError."""
    record, runner = ClusterRecord.load(name), Runner()
    chosen = choose(record, machines)
    # A cluster's other containers go with its machines.
    others = [] if machines else runner.run(podman.labelled("ps", name)).split()
    containers = list(dict.fromkeys([*(machine.container for machine in chosen), *others]))

    def boot() -> None:
        runner.run(podman.podman("start", *containers))
        runner.run(podman.settle_bridge(chosen[0]))

    steps = [
        Step("machines", boot),
        Step("sshd", lambda: runner.together(chosen, lambda machine: answers(machine, runner))),
        Step("kirschd", lambda: until_well(record, chosen, runner)),
    ]
    perform(steps, show, "what has started goes on")
    return record


def stop(name: str, machines: Sequence[str], show: Show) -> ClusterRecord:
    """Shut a cluster's machines down, or those that are named: systemd stops their units in order. Raises
    ProvisionError."""
    record, runner = ClusterRecord.load(name), Runner()
    chosen = choose(record, machines)
    others = [] if machines else runner.run(podman.labelled("ps", name)).split()
    containers = list(dict.fromkeys([*(machine.container for machine in chosen), *others]))

    def shut_down() -> None:
        runner.run(podman.podman("stop", "--time", str(PATIENCE), *containers, timeout=4 * PATIENCE))

    perform([Step("machines", shut_down)], show, "do it again for those that run")
    return record


def choose(record: ClusterRecord, names: Sequence[str]) -> list[MachineRecord]:
    """The machines that are meant, all if none is named; hosts have a switch of their own. Pure.

    Raises ProvisionError."""
    known = {machine.name: machine for machine in record.machines}
    for name in names:
        if name not in known:
            raise ProvisionError(f"{record.name} has no machine {name}; there are {', '.join(known)}")
        if not known[name].container:
            raise ProvisionError(f"{name} is a host: it is not switched from here")
    chosen = [known[name] for name in dict.fromkeys(names)] or list(record.machines)
    return [machine for machine in chosen if machine.container]


def until_well(
    record: ClusterRecord, machines: Sequence[MachineRecord], runner: Runner, seconds: float = READY
) -> None:
    """Wait until machines are in the cluster, and well. Raises ProvisionError."""
    wanted, deadline = {machine.name for machine in machines}, time.monotonic() + seconds
    while True:
        ill = {each.machine.name: each.kirschd for each in machine_statuses(record) if not each.well}
        if not wanted & ill.keys():
            return
        runner.check()
        if time.monotonic() > deadline:
            name = min(wanted & ill.keys())
            after = f" after {seconds:.0f} s" if seconds else ""
            raise ProvisionError(f"{name}: {ill[name] or 'it is not well'}{after}")
        time.sleep(0.1)
