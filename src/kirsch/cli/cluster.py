"""cluster create, list, status, ssh-config, destroy: machines as containers, and hosts that join."""

import argparse
import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

from kirsch.cli.errors import Failure


@dataclass(slots=True)
class Steps:
    """Shows steps, each a line with its seconds; on a terminal the one that is under way as well."""

    out: TextIO
    begun_at: float = field(default_factory=time.monotonic)

    def begun(self, name: str) -> None:
        """A step has begun."""
        if self.out.isatty():
            print(f"    …    {name}", end="", file=self.out, flush=True)

    def done(self, name: str, seconds: float) -> None:
        """It took so long."""
        start = "\r" if self.out.isatty() else ""
        print(f"{start}{seconds:6.1f} s  {name}", file=self.out, flush=True)

    def undoing(self, name: str) -> None:
        """It failed: what was done is undone."""
        start = "\r" if self.out.isatty() else ""
        print(f"{start}  failed  {name}; undoing what was done", file=self.out, flush=True)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.begun_at


def create(options: argparse.Namespace) -> int:
    """A new cluster."""
    from kirsch.cluster.provision.specification import Specification

    specification = Specification.parse(options.name, options.machines, options.metadata, options.publish)
    _extra()
    from kirsch.cluster.provision.create import create as make

    steps = Steps(sys.stdout)
    record = make(specification, steps)
    count = len(record.machines)
    print(f"\ncluster {record.name} is up: {count} machine{'s' if count > 1 else ''}, {steps.seconds:.0f} s")
    for machine in record.machines:
        print(
            f"  {machine.name}  {machine.address}  ssh {machine.host}:{machine.ssh_port}  {machine.endpoint}"
        )
    return 0


def destroy(options: argparse.Namespace) -> int:
    """Take a cluster away."""
    from kirsch.cluster.provision.destroy import destroy as remove

    remove(options.name, Steps(sys.stdout))
    print(f"cluster {options.name} is destroyed")
    return 0


def ssh_config(options: argparse.Namespace) -> int:
    """A configuration for ssh."""
    from kirsch.cluster.provision.record import ClusterRecord
    from kirsch.cluster.provision.ssh import ssh_config as config

    print(config(ClusterRecord.load(options.name)), end="")
    return 0


def _extra() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise Failure("clusters need certificates: pip install 'kirsch[clusters]'") from None
