"""cluster create, list, status, start, stop, ssh-config, destroy: machines as containers, hosts that join."""

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kirsch.cli.backup import BACKUP, RESTORE
from kirsch.cli.completion import clusters, machines
from kirsch.cli.completion import images as images_here
from kirsch.cli.errors import Failure, Misuse
from kirsch.cli.names import cluster_name
from kirsch.cli.output import Column, Steps, table
from kirsch.cli.users import user
from kirsch.cli.values import JSON, NO_LEGEND, YES, confirm, count
from kirsch.cli.verb import REPORT, Noun, Options, argument, flag, option
from kirsch.install import pip_install

if TYPE_CHECKING:
    from kirsch.cluster.provision.status import ClusterSummary, PortStatus

cluster = Noun("cluster")
FILE = click.Path(path_type=Path)
NAME = argument(
    "name",
    "NAME",
    "of the cluster (--cluster, KIRSCH_CLUSTER, else kirsch)",
    optional=True,
    complete=clusters,
)
MACHINES = argument("machines", "MACHINE", "these alone (all)", many=True, optional=True)
MACHINE = argument("machine", "MACHINE", "its name, id or address", complete=machines)
METADATA = option(
    "--metadata",
    metavar="KEY=VALUE,…",
    repeat=True,
    help="what units can ask of a machine; may be repeated",
)
# The name of a cluster where none is given.
DEFAULT = "kirsch"
STATUS = ("machine", "id", "address", "ssh", "api", "etcd", "container", "sshd", "kirschd")


@cluster.verb(
    "create",
    "make a cluster of machines on this computer",
    NAME,
    option("--machines", metavar="N", type=count, default=1, help="how many (1)"),
    METADATA,
    option(
        "--publish",
        metavar="PORT:PORT",
        repeat=True,
        help="let a port of this computer lead to one of whichever machines answer; may be repeated",
    ),
    option(
        "--subnet",
        metavar="ADDRESS/PREFIX",
        default="10.210.0.0/16",
        help="in which containers of all machines have addresses (10.210.0.0/16), or none",
    ),
    option(
        "--image",
        metavar="IMAGE",
        help="what machines begin with: one built from images/node (made anew)",
        complete=images_here,
    ),
    REPORT,
    text="They are containers that run systemd, etcd, podman, sshd and kirschd, with keys and "
    "certificates of their own. It needs podman, and root. If a step fails, all is undone.\n\n"
    "Metadata is KEY=VALUE for all machines, KEY=A/B/C for one machine after another, n2:KEY=VALUE for one "
    "of them.",
    example="kirsch cluster create --machines 3 --metadata zone=a/b/c --publish 7070:8091",
)
def create(options: Options) -> int:
    """Make a cluster, and print its machines and ports."""
    from kirsch.cluster.provision.record import ProvisionError
    from kirsch.cluster.provision.specification import Specification

    try:
        asked = Specification.parse(
            _name(options), options.machines, options.metadata, options.publish, options.subnet
        )
    except ProvisionError as error:
        raise Misuse(str(error)) from None
    _extra()
    from kirsch.cluster.provision.create import create as make

    if options.image:
        from kirsch.cluster.image.reference import Reference

        asked = replace(asked, image=str(Reference.parse(options.image)))

    steps = Steps(sys.stdout)
    record = make(asked, steps)
    count = len(record.machines)
    options.report(
        cluster=record.name,
        machines=[{"name": each.name, "address": each.address} for each in record.machines],
        ports=[*record.published],
    )
    print(f"\ncluster {record.name} is up: {count} machine{'s' if count > 1 else ''}, {steps.seconds:.0f} s")
    for machine in record.machines:
        print(
            f"  {machine.name}  {machine.address}  ssh {machine.host}:{machine.ssh_port}  {machine.endpoint}"
        )
    for port in record.published:
        address, host, at = port.rsplit(":", 2)
        print(f"port {address}:{host} leads to port {at} of whichever machines answer there")
    print(f"verbs speak to it with --cluster {record.name}, or KIRSCH_CLUSTER={record.name}")
    return 0


@cluster.verb(
    "list",
    "list the clusters that were made on this computer",
    NO_LEGEND,
    JSON,
    example="kirsch cluster list",
)
def list_(options: Options) -> int:
    """Print a table of the clusters of this computer."""
    from kirsch.cluster.provision.status import summaries

    rows = [_summary(summary) for summary in summaries()]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    columns = {name: _plain(name) for name in ("name", "machines", "running", "created", "publish")}
    print(table(rows, columns, list(columns), legend=not options.no_legend), end="")
    return 0


@cluster.verb(
    "status",
    "show the state of a cluster's machines",
    NAME,
    JSON,
    text="The exit status is 1 if a machine or a member of etcd is not well; a sentence says what to do.",
    example="kirsch cluster status",
)
def status(options: Options) -> int:
    """Print the state of a cluster's machines and ports; the exit status is 1 if one is not well."""
    from kirsch.cluster.provision.record import ClusterRecord
    from kirsch.cluster.provision.status import machine_statuses, port_statuses, registry_status
    from kirsch.cluster.provision.voters import learn_members

    record = ClusterRecord.load(_name(options))
    statuses, ports = machine_statuses(record), port_statuses(record)
    if not all(status.kirschd for status in statuses):
        record = learn_members(record)
    registry = registry_status(record, [status.machine for status in statuses if not status.kirschd])
    # That nobody serves at a port yet is not the cluster's fault.
    well = record.complete and not any(port.problem for port in ports) and all(s.well for s in statuses)
    well = well and not registry.problem
    rows = [
        {
            "machine": status.machine.name,
            "id": status.machine.id,
            "address": status.machine.address,
            "ssh": f"{status.machine.host}:{status.machine.ssh_port}",
            "api": status.machine.endpoint,
            "etcd": registry.roles.get(status.machine.name, "member" if status.machine.etcd else ""),
            "container": status.container,
            "sshd": "answers" if status.sshd else "silent",
            "kirschd": "not ready" if status.kirschd else "ready",
            "reason": status.kirschd,
        }
        for status in statuses
    ]
    if options.json:
        etcd = {**(registry.health.to_dict() if registry.health else {}), "problem": registry.problem}
        shown = {"name": record.name, "id": record.id, "well": well, "machines": rows, "etcd": etcd}
        print(json.dumps(shown | {"ports": [asdict(port) for port in ports]}, indent=2))
        return 0 if well else 1
    columns = {name: _plain(name) for name in STATUS}
    columns["id"] = lambda row, full: f"{row['id'][:8]}..."
    print(table(rows, columns, STATUS), end="")
    for row in rows:
        if row["reason"]:
            print(f"{row['machine']}: {row['reason']}")
    if registry.summary:
        print(f"etcd: {registry.summary}")
    for port in ports:
        print(f"port {port.port}: {port.problem or _leads(port)}")
    if registry.problem:
        raise Failure(registry.problem)
    if not record.complete:
        raise Failure(f"{record.name} was never finished: `kirsch cluster destroy {record.name}`, then anew")
    return 0 if well else 1


def _leads(port: "PortStatus") -> str:
    to = f"port {port.to} of {' '.join(port.machines)}" if port.machines else ""
    return f"leads to {to}" if to else f"nobody answers at port {port.to} of any machine"


@cluster.verb(
    "start",
    "switch a cluster's machines on",
    NAME,
    MACHINES,
    REPORT,
    text="It returns when they are in the cluster.",
    example="kirsch cluster start",
)
def start(options: Options) -> int:
    """Switch machines on and wait until they are in the cluster."""
    _extra()
    from kirsch.cluster.provision.power import start as switch_on

    steps = Steps(sys.stdout)
    record = switch_on(_name(options), options.machines, steps)
    options.report(cluster=record.name, machines=options.machines or [each.name for each in record.machines])
    what = ", ".join(options.machines) or f"cluster {record.name}"
    print(f"\n{what} {'are' if len(options.machines) > 1 else 'is'} up: {steps.seconds:.0f} s")
    return 0


@cluster.verb(
    "stop",
    "switch a cluster's machines off",
    NAME,
    MACHINES,
    REPORT,
    text="Units stop in order; nothing is lost.",
    example="kirsch cluster stop kirsch n2",
)
def stop(options: Options) -> int:
    """Switch machines off once their units have stopped."""
    _extra()
    from kirsch.cluster.provision.power import stop as switch_off

    record = switch_off(_name(options), options.machines, Steps(sys.stdout))
    options.report(cluster=record.name, machines=options.machines or [each.name for each in record.machines])
    again = " ".join(["kirsch cluster start", record.name, *options.machines])
    print(f"\nswitched off; `{again}` switches on again")
    return 0


@cluster.verb(
    "destroy",
    "remove a cluster of this computer",
    NAME,
    YES,
    REPORT,
    text="Its machines and all that is on them go, nothing is left. kirsch is removed from hosts that "
    "joined it. On a terminal it asks for the cluster's name first.",
    example="kirsch cluster destroy",
)
def destroy(options: Options) -> int:
    """Remove a cluster and everything on its machines."""
    from kirsch.cluster.provision.record import ClusterRecord

    name = _name(options, "")
    names = ClusterRecord.names()
    if not name and len(names) > 1:
        raise Failure(f"which cluster? Name it; there are {', '.join(names)}")
    name = name or DEFAULT
    _extra()
    from kirsch.cluster.provision.destroy import destroy as remove

    if not options.yes:
        confirm(f"This removes cluster {name}: its machines, their units and all data on them.", name)
    left = remove(name, Steps(sys.stdout))
    options.report(cluster=name, left=[*left])
    print(f"cluster {name} is destroyed")
    for reason in left:
        print(f"kirsch: it is still on a host that cannot be reached: {reason}", file=sys.stderr)
    return 1 if left else 0


@cluster.verb(
    "add",
    "have a host join a cluster",
    argument("host", "[USER@]HOST", "as ssh finds it"),
    option("--name", metavar="NAME", default="", help="in the cluster (its host's name)"),
    option("--address", metavar="ADDRESS", default="", help="at which other machines reach it (HOST's)"),
    option("--port", metavar="PORT", type=count, help="sshd's (what ssh's settings say)"),
    option(
        "--identity",
        metavar="FILE",
        type=FILE,
        help="the key to log in with (what ssh finds)",
    ),
    option("--ssh-config", metavar="FILE", type=FILE, help="ssh's settings (its own)"),
    option(
        "--from",
        "source",
        metavar="FILE.deb|DIR",
        type=FILE,
        help="install kirsch's Debian package, or wheels of a folder (the kirsch that runs here)",
    ),
    METADATA,
    REPORT,
    text="kirsch is installed on it by ssh. The host needs sshd, Python 3.11 to 3.14 and systemd, and ssh "
    "must let you in without typing, as root or as a user who may sudo. Containers need podman 4.4 or newer "
    "there; kirsch says what the host cannot run.",
    example="kirsch cluster add root@10.0.0.7 --metadata zone=d",
)
def add(options: Options) -> int:
    """Have a host join the cluster that is meant."""
    from kirsch.cluster.provision.specification import metadata_of_one

    metadata = metadata_of_one(options.metadata)
    _extra()
    from kirsch.cluster.provision.add import Invitation
    from kirsch.cluster.provision.add import add as join

    name = cluster_name(options)
    invitation = Invitation(
        options.host,
        options.port,
        options.identity,
        options.ssh_config,
        options.name,
        options.address,
        metadata,
        options.source,
    )
    joined = join(name, invitation, Steps(sys.stdout))
    options.report(cluster=name, machines=[joined.machine.name], lacks=joined.lacks)
    print(f"\n{joined.machine.name} is a machine of {name}, at {joined.machine.address}")
    if joined.lacks:
        print(f"  {joined.lacks}")
    return 0


@cluster.verb(
    "remove",
    "have a machine leave its cluster",
    MACHINE,
    flag("--force", help="also one that is away, or that has sticky units: they are lost"),
    REPORT,
    text="Its units move to others first. Then kirsch is removed from it, or the whole machine if it is a "
    "container. Volumes of units on a host stay.",
    example="kirsch cluster remove n4",
)
def remove(options: Options) -> int:
    """Have a machine leave the cluster that is meant."""
    _extra()
    from kirsch.cluster.provision.remove import remove as leave

    name = cluster_name(options)
    left = leave(name, options.machine, Steps(sys.stdout), force=options.force)
    options.report(cluster=name, machines=[left.name], kept=left.kept)
    print(f"{left.name} is no machine of {name} any more")
    if left.kept:
        print(
            "  it could not be reached, and may come back: its number in the flat network stays its own.\n"
            f"  Once it is gone for good: kirsch cluster remove {left.id} --force"
        )
    return 0


@cluster.verb(
    "upgrade",
    "have all machines run the kirsch that runs here",
    NAME,
    option("--wheel", metavar="FILE", type=FILE, help="kirsch's wheel to install instead"),
    REPORT,
    text="kirschd is replaced on one machine after another, and units run on. If a machine does not come up, "
    "all go back to what they ran before. A version is upgraded to the same or the next minor one.",
    example="kirsch cluster upgrade",
)
def upgrade(options: Options) -> int:
    """Replace kirschd on all machines of a cluster."""
    _extra()
    from kirsch.cluster.provision.record import ClusterRecord
    from kirsch.cluster.provision.upgrade import Upgrade

    work = Upgrade(ClusterRecord.load(_name(options)), options.wheel)
    work.perform(Steps(sys.stdout))
    options.report(cluster=work.record.name, version=str(work.version))
    print(f"\nall machines of {work.record.name} run kirsch {work.version}")
    return 0


@cluster.verb(
    "etcd",
    "have other machines keep the cluster's registry",
    NAME,
    option(
        "--replace",
        metavar="MACHINE",
        repeat=True,
        help="a machine that is to keep it no longer; may be repeated",
        complete=machines,
    ),
    option("--voters", metavar="N", type=click.Choice(("1", "3", "5")), help="how many are to: 1, 3 or 5"),
    REPORT,
    text="As many as before, or as the number of machines asks for, from as many zones (--metadata zone=) as "
    "there are. A machine that is "
    "lost leaves etcd first; others join as learners, and vote once they have all data. kirschd restarts on "
    "each machine, and units run on. Done again it goes on where it ended.",
    example="kirsch cluster etcd kirsch --replace n3",
)
def etcd(options: Options) -> int:
    """Choose the machines that keep the registry."""
    _extra()
    from kirsch.cluster.provision.record import ClusterRecord
    from kirsch.cluster.provision.voters import Voters

    record = ClusterRecord.load(_name(options))
    leaving = [record.machine(name).name for name in options.replace]
    work = Voters(record, leaving, int(options.voters or 0))
    # Asked before: a machine that is away afterwards does not make the change a failed one.
    accounts = work.accounts
    work.perform(Steps(sys.stdout))
    options.report(cluster=record.name, machines=[*work.wanted], accounts=[*accounts])
    print(f"\n{', '.join(work.wanted)} keep the registry of {record.name}")
    for name in accounts:
        print(f"  {name} knows those of before: kirsch db account {name} --renew, and restart its units")
    return 0


@cluster.verb(
    "rotate",
    "replace all keys of a cluster by new ones",
    NAME,
    REPORT,
    text="New are its authorities, all certificates, ssh's key and the key that secrets are sealed with. "
    "Machines first trust both old and new, then use the new, then forget the old; kirschd and etcd restart, "
    "one machine after another, and units run on. If it ends half way, do it again. Users need new archives "
    "afterwards.",
    example="kirsch cluster rotate",
)
def rotate(options: Options) -> int:
    """Replace all keys of a cluster, and name the users that need new archives."""
    _extra()
    from kirsch.cluster.provision.record import ClusterRecord
    from kirsch.cluster.provision.rotate import Rotation
    from kirsch.cluster.provision.users import list_users
    from kirsch.cluster.provision.voters import learn_members

    work = Rotation(learn_members(ClusterRecord.load(_name(options))))
    work.perform(Steps(sys.stdout))
    users = list_users(work.record.name)
    options.report(cluster=work.record.name, users=[each.name for each in users])
    print(f"\n{work.record.name} has new keys")
    for each in users:
        print(f"  {each.name} needs a new archive: kirsch cluster user add {each.name} --role {each.role}")
    return 0


@cluster.verb(
    "images",
    "have another machine keep the cluster's images",
    MACHINE,
    REPORT,
    text="All machines take them from there then. Use it when the machine that kept them is gone, or is to "
    "leave. Images are not brought along: send them again. Done again, it tells machines that were away.",
    example="kirsch cluster images n2",
)
def images(options: Options) -> int:
    """Have another machine keep the cluster's images."""
    from kirsch.cluster.provision.registry import move_registry

    name = cluster_name(options)
    kept = move_registry(name, options.machine, Steps(sys.stdout))
    options.report(cluster=name, machines=[kept.machine], address=str(kept.address), left=dict(kept.left))
    print(f"\n{kept.machine} keeps the images of {name}, at {kept.address}")
    print("  `kirsch up DIR --on` and `kirsch image push --on` send them there; units start anew with")
    print("  images of another name, one instance after another")
    for machine, why in kept.left.items():
        print(f"kirsch: {machine} was not told: {why}; when it is back do this again", file=sys.stderr)
    return 0


@cluster.verb(
    "ssh-config",
    "print a configuration for ssh",
    NAME,
    text="Its hosts are the machines, by their names.",
    example="kirsch cluster ssh-config > config && ssh -F config n1",
)
def ssh_config(options: Options) -> int:
    """Print a configuration for ssh."""
    from kirsch.cluster.provision.record import ClusterRecord
    from kirsch.cluster.provision.shell import ssh_config as config

    print(config(ClusterRecord.load(_name(options))), end="")
    return 0


for each in (BACKUP, RESTORE, user):
    cluster.add_command(each)


def _name(options: Options, otherwise: str = DEFAULT) -> str:
    """Return the cluster of NAME, --cluster or KIRSCH_CLUSTER. Raises Misuse."""
    if options.name and options.cluster and options.name != options.cluster:
        raise Misuse(f"{options.name} and --cluster {options.cluster} are two clusters: name one")
    return options.name or options.cluster or os.environ.get("KIRSCH_CLUSTER") or otherwise


def _summary(summary: "ClusterSummary") -> dict[str, Any]:
    record = summary.record
    return {
        "name": summary.name,
        "machines": len(record.machines) if record else summary.containers,
        "running": "" if summary.running is None else summary.running,
        "created": record.created if record else "",
        "publish": " ".join(record.published) if record else "",
    }


def _plain(key: str) -> Column:
    return lambda row, full: str(row[key])


def _extra() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise Failure(f"clusters need certificates: {pip_install('kirsch[machines]')}") from None
