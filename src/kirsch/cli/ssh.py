"""ssh: to a cluster's machine, or to that of a unit."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kirsch.cli.errors import Failure
from kirsch.cli.machines import MACHINES, machine_name
from kirsch.cli.names import full_names
from kirsch.cluster.api.client import UNITS, Client
from kirsch.cluster.application import ApplicationError
from kirsch.cluster.provision.endpoint import Where, locate

if TYPE_CHECKING:
    from kirsch.cluster.provision.record import ClusterRecord


def ssh(options: argparse.Namespace, handed_on: Sequence[str] = ()) -> int:
    """Become ssh; what it ends with is ours. Variables of ours by these names are the command's too, where
    the machine's sshd takes them."""
    where = Where.said(options.endpoint, options.cluster, options.tunnel)
    record = _record(where)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if record is not None:
        argv = _to_own(record, options.target, command)
    else:
        argv = _to_other(Client(locate(where)), options.target, command, where.tunnel)
    # A command has a terminal where we have one.
    flags = ["-t"] if command and sys.stdin.isatty() else []
    flags += [f"-oSendEnv={name}" for name in handed_on]
    try:
        os.execvp(argv[0], [argv[0], *flags, *argv[1:]])
    except OSError as error:
        raise Failure(f"cannot run ssh: {error.strerror}") from None


def _record(where: Where) -> "ClusterRecord | None":
    """The cluster that is meant, if this computer has keys of it. Raises Failure, ProvisionError."""
    from kirsch.cluster.provision.record import ClusterRecord

    if where.cluster:
        return ClusterRecord.load(where.cluster)
    if where.endpoint or where.tunnel:
        return None
    names = ClusterRecord.names()
    if len(names) > 1:
        raise Failure(f"which cluster? There are {', '.join(names)}: name one with --cluster")
    return ClusterRecord.load(names[0]) if names else None


def _to_own(record: "ClusterRecord", target: str, command: Sequence[str]) -> Sequence[str]:
    """With the cluster's own key; to a machine by its name no kirschd is asked."""
    from kirsch.cluster.provision.record import ProvisionError
    from kirsch.cluster.provision.ssh import login

    try:
        return login(record, record.machine(machine_name(target)), command)
    except ProvisionError:
        found = _machine(Client(locate(Where(cluster=record.name))), target)
    return login(record, record.machine(found["id"]), command)


def _to_other(client: Client, target: str, command: Sequence[str], tunnel: str | None) -> Sequence[str]:
    """As ssh's own configuration says, to the machine's address."""
    from kirsch.cluster.provision.ssh import remote

    jump = ["-J", tunnel] if tunnel else []
    there = _machine(client, target)["address"]
    return ["ssh", *jump, there, *remote(command)]


def _machine(client: Client, target: str) -> dict[str, Any]:
    """The machine that is meant, or a unit's. Raises Failure."""
    machines: list[dict[str, Any]] = client.get(MACHINES)["machines"]
    name = machine_name(target)
    for machine in machines:
        if name in (machine["id"], machine["address"], machine["metadata"].get("hostname")):
            return machine
    try:
        [unit] = full_names(client, [target])
    except ApplicationError:
        begin = [machine for machine in machines if machine["id"].startswith(name)]
        if len(begin) == 1:
            return begin[0]
        raise Failure(f"there is no machine or unit {target}") from None
    on = {line["machine"] for line in client.get(UNITS, unit=unit)["units"]} - {""}
    there = [machine for machine in machines if machine["id"] in on]
    if len(there) > 1:
        addresses = ", ".join(machine["address"] for machine in there)
        raise Failure(f"{unit} is on {addresses}: say which")
    if not there:
        raise Failure(f"{unit} is on no machine that is there")
    return there[0]
