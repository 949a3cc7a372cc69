"""ssh: to a cluster's machine, or to that of a unit."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from kirsch.cli.completion import files, instances, machines
from kirsch.cli.errors import Failure
from kirsch.cli.machines import MACHINE, MACHINES, alone, machine_name
from kirsch.cli.names import full_names
from kirsch.cli.verb import Options, argument, verb
from kirsch.cluster.api.client import UNITS, Client, ClientError
from kirsch.cluster.application import ApplicationError
from kirsch.cluster.provision.endpoint import Where, transport_to

if TYPE_CHECKING:
    from kirsch.cluster.provision.record import ClusterRecord


def targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest units and machines."""
    return instances(ctx, param, incomplete) + machines(ctx, param, incomplete)


@verb(
    "ssh",
    argument("target", "MACHINE|UNIT", f"a machine ({MACHINE}), or a unit", complete=targets),
    argument("command", "COMMAND", "what to run there", many=True, optional=True, complete=files),
    rest=True,
    text="A unit's name stands for its machine. Machines made here, and those that were added, know our key; "
    "with --tunnel the way goes through that host.",
    example="kirsch ssh notes@1 uptime",
)
def ssh(options: Options) -> int:
    """Log in to a machine by becoming ssh."""
    return log_in(options.where(), options.target, options.command)


def log_in(where: Where, target: str, command: Sequence[str], handed_on: Sequence[str] = ()) -> int:
    """Become ssh. The command has our variables in `handed_on`, if the machine's sshd accepts them."""
    if not (where.cluster or where.tunnel):
        _refuse_here(where, target)
    record = _record(where)
    command = command[1:] if command[:1] == ["--"] else command
    if record is not None:
        argv = _to_own(record, target, command)
    else:
        argv = _to_other(Client(transport_to(where)), target, command, where.tunnel)
    # A command has a terminal where we have one.
    flags = ["-t"] if command and sys.stdin.isatty() else []
    flags += [f"-oSendEnv={name}" for name in handed_on]
    try:
        os.execvp(argv[0], [argv[0], *flags, *argv[1:]])
    except OSError as error:
        raise Failure(f"cannot run ssh: {error.strerror}") from None


def _refuse_here(where: Where, target: str) -> None:
    """Raise Failure for this computer, and a unit of an application that runs on it."""
    try:
        client = Client(transport_to(where))
        there = alone(client) and _machine(client, target)
    except (ClientError, Failure):
        return  # a machine of a cluster, perhaps
    if there:
        raise Failure(f"{target} is this computer: `kirsch exec UNIT sh` is a shell beside a unit")


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
    """Return ssh's command with the cluster's own key. A machine's name needs no kirschd."""
    from kirsch.cluster.provision.record import ProvisionError
    from kirsch.cluster.provision.shell import login

    try:
        return login(record, record.machine(machine_name(target)), command)
    except ProvisionError:
        found = _machine(Client(transport_to(Where(cluster=record.name))), target)
    return login(record, record.machine(found["id"]), command)


def _to_other(client: Client, target: str, command: Sequence[str], tunnel: str | None) -> Sequence[str]:
    """Return ssh's command for the machine's address, with ssh's own configuration."""
    from kirsch.cluster.provision.shell import remote

    jump = ["-J", tunnel] if tunnel else []
    return ["ssh", *jump, _machine(client, target)["address"], *remote(command)]


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
