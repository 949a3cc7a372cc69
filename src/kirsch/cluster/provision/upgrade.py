"""Upgrade of a cluster: kirschd is replaced on one machine after another, and units run on.

The new environment is made beside the one that runs; two renames and a restart put it in its place. In the
end all machines have the new one, or all the one before.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from kirsch.cluster.provision import install, probe
from kirsch.cluster.provision.archive import File, archive
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.power import until_well
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, ProvisionError
from kirsch.cluster.provision.settings import HOME, KIRSCHD
from kirsch.cluster.provision.shell import act, shell_of
from kirsch.cluster.provision.status import machine_statuses
from kirsch.cluster.provision.steps import Show, Step, perform
from kirsch.cluster.provision.wheels import Wheels, shipped

# Seconds for a machine that is ill to be well by itself.
HEALS = 20.0


def refusal(machine: str, there: str, new: str) -> str:
    """Return why a machine cannot go from one version to another; empty if it can. Pure.

    The registry and the API are understood by the versions next to each other alone.
    """
    if not there:
        return f"{machine} has no kirsch in {HOME}: its kirschd was not installed by `kirsch cluster`"
    before, after = (Version(text).release[:2] for text in (there, new))
    following = ((before[0], before[1] + 1), (before[0] + 1, 0))
    if after == before or after in following:
        return ""
    if after < before:
        return f"{machine} runs kirsch {there}, and {new} is older: a cluster does not go back to it"
    return (
        f"{machine} runs kirsch {there}, and {new} is more than one minor version ahead: first upgrade to "
        f"{following[0][0]}.{following[0][1]}"
    )


def mark(wheels: Sequence[Path]) -> str:
    """Return what tells wheels of one state of kirsch from those of another."""
    digest = hashlib.sha256()
    for path in sorted(wheels, key=lambda path: path.name):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(slots=True)
class Upgrade:
    """An upgrade of a cluster to the kirsch that runs here, or to the one in `wheel`."""

    record: ClusterRecord
    wheel: Path | None = None
    runner: Runner = field(default_factory=Runner)
    own: Sequence[Path] = ()
    version: str = ""
    mark: str = ""
    # Machines that have it already.
    done: set[str] = field(default_factory=set)

    def perform(self, show: Show) -> None:
        """Do all steps; if one fails all machines run what they ran before. Raises ProvisionError."""
        machines = self.record.machines
        steps = [
            Step("kirsch's wheel", self._wheels),
            Step("versions", self._check),
            Step("libraries", lambda: self.runner.together(machines, self._prepare), self._discard),
        ]
        steps += [
            Step(f"kirschd of {machine.name}", partial(self._exchange, machine), partial(self._back, machine))
            for machine in machines
        ]
        perform(steps, show, "all machines run the kirsch that they ran before")
        # What is left of the one before harms nobody, and goes with the next upgrade.
        self.runner.together(machines, self._finish)

    def _wheels(self) -> None:
        self.own = Wheels(self.runner).own()
        if self.wheel is not None:
            try:
                name, *_ = parse_wheel_filename(self.wheel.name)
            except InvalidWheelFilename:
                raise ProvisionError(f"{self.wheel} is no wheel") from None
            others = [path for path in self.own if parse_wheel_filename(path.name)[0] != name]
            self.own = [*others, self.wheel]
        versions = {
            parse_wheel_filename(path.name)[0]: parse_wheel_filename(path.name)[1] for path in self.own
        }
        self.version = str(versions[canonicalize_name("kirsch")])
        self.mark = mark(self.own)

    def _check(self) -> None:
        """Raises ProvisionError if a machine is away or ill, or has a version from which there is no way."""
        ill = [status.machine for status in machine_statuses(self.record) if not status.well]
        # An upgrade that died half way may have left them so.
        self.runner.together(ill, self._go_back)
        try:
            until_well(self.record, ill, self.runner, HEALS)
        except ProvisionError as error:
            raise ProvisionError(f"{error}: all machines are to be well before an upgrade") from None
        for machine in self.record.machines:
            there, _, has = self._act(machine, install.INSTALLED).strip().partition("\n")
            if reason := refusal(machine.name, there, self.version):
                raise ProvisionError(reason)
            if has == self.mark:
                self.done.add(machine.name)

    def _prepare(self, machine: MachineRecord) -> None:
        """Make the new environment beside the one that runs."""
        if machine.name in self.done:
            return
        facts = probe.Facts.parse(self._act(machine, *probe.script([])))
        wheels = [*Wheels(self.runner).libraries(self.own, facts.target), *self.own]
        files = shipped(wheels)
        files.append(File(f"{install.WHEELS}/kirschd.service", KIRSCHD.encode()))
        files.append(File(f"{install.WHEELS}/mark", self.mark.encode()))
        self._act(machine, f"rm -rf {install.WHEELS}")
        self._act(machine, install.UNPACK, archive(files))
        self._act(machine, install.PREPARE)

    def _exchange(self, machine: MachineRecord) -> None:
        if machine.name in self.done:
            return
        self._act(machine, install.EXCHANGE)
        until_well(self.record, [machine], self.runner)

    def _back(self, machine: MachineRecord) -> None:
        # An interrupted runner runs nothing more.
        self.runner = Runner()
        if machine.name not in self.done:
            self._go_back(machine)

    def _go_back(self, machine: MachineRecord) -> None:
        self._act(machine, install.GO_BACK)

    def _discard(self) -> None:
        """Remove what was made and never ran."""
        self.runner = Runner()
        for machine in self.record.machines:
            self._act(machine, install.DISCARD)

    def _finish(self, machine: MachineRecord) -> None:
        self._act(machine, install.FINISH)

    def _act(self, machine: MachineRecord, script: str, given: bytes = b"") -> str:
        return act(self.runner, shell_of(self.record, machine), machine.name, script, given)
