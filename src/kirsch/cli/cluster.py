"""cluster create, list, status, start, stop, ssh-config, destroy: machines as containers, hosts that join."""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TextIO

from kirsch.cli.errors import Failure, Misuse
from kirsch.cli.tables import Column, table

if TYPE_CHECKING:
    from kirsch.cluster.provision.status import ClusterSummary, PortStatus

# The name of a cluster where none is given.
DEFAULT = "kirsch"
STATUS = ("machine", "id", "address", "ssh", "api", "etcd", "container", "sshd", "kirschd")


@dataclass(slots=True)
class Steps:
    """Shows steps, each a line with its seconds; on a terminal the one that is under way as well."""

    out: TextIO
    begun_at: float = field(default_factory=time.monotonic)
    _under_way: bool = False

    def __enter__(self) -> "Steps":
        return self

    def __exit__(self, *_: object) -> None:
        """What is said next, of a step that failed, begins a line."""
        if self._under_way:
            print(file=self.out, flush=True)
        self._under_way = False

    def begun(self, name: str) -> None:
        """A step has begun."""
        if self.out.isatty():
            print(f"    …    {name}", end="", file=self.out, flush=True)
            self._under_way = True

    def done(self, name: str, seconds: float) -> None:
        """It took so long."""
        start = "\r" if self.out.isatty() else ""
        print(f"{start}{seconds:6.1f} s  {name}", file=self.out, flush=True)
        self._under_way = False

    def undoing(self, name: str) -> None:
        """It failed: what was done is undone."""
        start = "\r" if self.out.isatty() else ""
        print(f"{start}  failed  {name}; undoing what was done", file=self.out, flush=True)
        self._under_way = False

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.begun_at


def create(options: argparse.Namespace) -> int:
    """A new cluster."""
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


def list_(options: argparse.Namespace) -> int:
    """The clusters of this computer."""
    from kirsch.cluster.provision.status import summaries

    rows = [_summary(summary) for summary in summaries()]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    columns = {name: _plain(name) for name in ("name", "machines", "running", "created", "publish")}
    print(table(rows, columns, list(columns), legend=not options.no_legend), end="")
    return 0


def status(options: argparse.Namespace) -> int:
    """How a cluster's machines are."""
    from kirsch.cluster.provision.record import ClusterRecord
    from kirsch.cluster.provision.status import machine_statuses, port_statuses

    record = ClusterRecord.load(_name(options))
    statuses, ports = machine_statuses(record), port_statuses(record)
    # That nobody serves at a port yet is not the cluster's fault.
    well = record.complete and not any(port.problem for port in ports) and all(s.well for s in statuses)
    rows = [
        {
            "machine": status.machine.name,
            "id": status.machine.id,
            "address": status.machine.address,
            "ssh": f"{status.machine.host}:{status.machine.ssh_port}",
            "api": status.machine.endpoint,
            "etcd": "member" if status.machine.etcd else "",
            "container": status.container,
            "sshd": "answers" if status.sshd else "silent",
            "kirschd": "not ready" if status.kirschd else "ready",
            "reason": status.kirschd,
        }
        for status in statuses
    ]
    if options.json:
        shown = {"name": record.name, "id": record.id, "well": well, "machines": rows}
        print(json.dumps(shown | {"ports": [asdict(port) for port in ports]}, indent=2))
        return 0 if well else 1
    columns = {name: _plain(name) for name in STATUS}
    columns["id"] = lambda row, full: f"{row['id'][:8]}..."
    print(table(rows, columns, STATUS), end="")
    for row in rows:
        if row["reason"]:
            print(f"{row['machine']}: {row['reason']}")
    for port in ports:
        print(f"port {port.port}: {port.problem or _leads(port)}")
    if not record.complete:
        raise Failure(f"{record.name} was never finished: `kirsch cluster destroy {record.name}`, then anew")
    return 0 if well else 1


def _leads(port: "PortStatus") -> str:
    to = f"port {port.to} of {' '.join(port.machines)}" if port.machines else ""
    return f"leads to {to}" if to else f"nobody answers at port {port.to} of any machine"


def start(options: argparse.Namespace) -> int:
    """Switch machines on."""
    _extra()
    from kirsch.cluster.provision.power import start as switch_on

    steps = Steps(sys.stdout)
    record = switch_on(_name(options), options.machines, steps)
    what = ", ".join(options.machines) or f"cluster {record.name}"
    print(f"\n{what} {'are' if len(options.machines) > 1 else 'is'} up: {steps.seconds:.0f} s")
    return 0


def stop(options: argparse.Namespace) -> int:
    """Switch machines off."""
    _extra()
    from kirsch.cluster.provision.power import stop as switch_off

    record = switch_off(_name(options), options.machines, Steps(sys.stdout))
    again = " ".join(["kirsch cluster start", record.name, *options.machines])
    print(f"\nswitched off; `{again}` switches on again")
    return 0


def destroy(options: argparse.Namespace) -> int:
    """Take a cluster away."""
    from kirsch.cluster.provision.record import ClusterRecord

    name = _name(options, "")
    names = ClusterRecord.names()
    if not name and len(names) > 1:
        raise Failure(f"which cluster? Name it; there are {', '.join(names)}")
    name = name or DEFAULT
    _extra()
    from kirsch.cluster.provision.destroy import destroy as remove

    left = remove(name, Steps(sys.stdout))
    print(f"cluster {name} is destroyed")
    for reason in left:
        print(f"kirsch: it is still on a host that cannot be reached: {reason}", file=sys.stderr)
    return 1 if left else 0


def add(options: argparse.Namespace) -> int:
    """A host joins."""
    from kirsch.cluster.provision.specification import metadata_of_one

    metadata = metadata_of_one(options.metadata)
    _extra()
    from kirsch.cluster.provision.add import Invitation
    from kirsch.cluster.provision.add import add as join

    cluster = _cluster(options)
    invitation = Invitation(
        options.host,
        options.port,
        options.identity,
        options.ssh_config,
        options.name,
        options.address,
        metadata,
    )
    joined = join(cluster, invitation, Steps(sys.stdout))
    print(f"\n{joined.machine.name} is a machine of {cluster}, at {joined.machine.address}")
    if joined.lacks:
        print(f"  {joined.lacks}")
    return 0


def remove(options: argparse.Namespace) -> int:
    """A machine leaves."""
    _extra()
    from kirsch.cluster.provision.remove import remove as leave

    cluster = _cluster(options)
    left = leave(cluster, options.machine, Steps(sys.stdout), force=options.force)
    print(f"{left.name} is no machine of {cluster} any more")
    if left.kept:
        print(
            "  it could not be reached, and may come back: its number in the flat network stays its own.\n"
            f"  Once it is gone for good: kirsch cluster remove {left.id} --force"
        )
    return 0


def images(options: argparse.Namespace) -> int:
    """Another machine keeps the images."""
    from kirsch.cluster.provision.keep import keep

    cluster = _cluster(options)
    kept = keep(cluster, options.machine, Steps(sys.stdout))
    print(f"\n{kept.machine} keeps the images of {cluster}, at {kept.address}")
    print("  `kirsch up DIR --on` and `kirsch image push --on` send them there; units start anew with")
    print("  images of another name, one instance after another")
    for machine, why in kept.left.items():
        print(f"kirsch: {machine} was not told: {why}; when it is back do this again", file=sys.stderr)
    return 0


def ssh_config(options: argparse.Namespace) -> int:
    """A configuration for ssh."""
    from kirsch.cluster.provision.record import ClusterRecord
    from kirsch.cluster.provision.ssh import ssh_config as config

    print(config(ClusterRecord.load(_name(options))), end="")
    return 0


def _name(options: argparse.Namespace, otherwise: str = DEFAULT) -> str:
    """The cluster that is meant: by NAME, --cluster or KIRSCH_CLUSTER. Raises Misuse."""
    if options.name and options.cluster and options.name != options.cluster:
        raise Misuse(f"{options.name} and --cluster {options.cluster} are two clusters: name one")
    return options.name or options.cluster or os.environ.get("KIRSCH_CLUSTER") or otherwise


def _cluster(options: argparse.Namespace) -> str:
    """The cluster that is meant: the one that was named, or the only one."""
    from kirsch.cluster.provision.record import ClusterRecord

    named = options.cluster or os.environ.get("KIRSCH_CLUSTER")
    if named:
        return str(named)
    names = ClusterRecord.names()
    if len(names) == 1:
        return names[0]
    known = f"there are {', '.join(names)}" if names else "make one: `kirsch cluster create`"
    raise Failure(f"which cluster? Name it with --cluster; {known}")


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
        raise Failure("clusters need certificates: pip install 'kirsch[machines]'") from None
