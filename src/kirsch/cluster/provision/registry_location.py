"""Relocation of a cluster's image registry: its machine may be gone, with all its images."""

from dataclasses import dataclass, field, replace

from kirsch.cluster.provision import install, registry
from kirsch.cluster.provision.archive import archive
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, ProvisionError
from kirsch.cluster.provision.shell import act, shell_of
from kirsch.cluster.provision.steps import Show, Step, perform


@dataclass(frozen=True, slots=True)
class Moved:
    """Location of the images: the machine, its HOST:PORT, and the machines that could not be told, with the
    reason."""

    machine: str
    address: str
    left: dict[str, str]


def move_registry(cluster: str, name: str, show: Show) -> Moved:
    """Start the registry on another machine, and have all machines take images from there.

    Images are not copied. Run again, it tells machines that were away. Raises ProvisionError; nothing has
    changed then.
    """
    relocation = Relocation(ClusterRecord.load(cluster), name, Runner())
    perform(relocation.steps(), show, "the images are kept where they were")
    return Moved(
        relocation.machine.name, registry.address(relocation.after), dict(sorted(relocation.left.items()))
    )


@dataclass(slots=True)
class Relocation:
    """Move of the registry to the machine called `name`."""

    before: ClusterRecord
    name: str
    runner: Runner
    left: dict[str, str] = field(default_factory=dict)

    @property
    def machine(self) -> MachineRecord:
        """The machine of that name. Raises ProvisionError if there is none."""
        return self.before.machine(self.name)

    @property
    def after(self) -> ClusterRecord:
        """The record as it is to be."""
        return replace(self.before, keeper=self.machine.name)

    def steps(self) -> list[Step]:
        """All that is to be done, in order."""
        return [
            Step("registry", self._start, self._stop),
            Step("machines", self._tell, self._tell_back),
            Step("record", self._enter),
        ]

    def _start(self) -> None:
        machine = self.machine
        self._act(machine, registry.INSTALLED)
        self._unpack(self.after, machine)
        self._act(machine, registry.start(self.after))

    def _stop(self) -> None:
        if registry.registry_machine(self.before) != self.machine:
            # The other runner runs nothing more once it was interrupted.
            act(Runner(), shell_of(self.before, self.machine), self.machine.name, registry.STOP)

    def _tell(self) -> None:
        others = [machine for machine in self.before.machines if machine != self.machine]

        def tell(machine: MachineRecord) -> None:
            try:
                self._unpack(self.after, machine)
                self._act(machine, registry.STOP)
            except ProvisionError as error:
                self.runner.check()
                self.left[machine.name] = str(error).removeprefix(f"{machine.name}: ")

        self.runner.together(others, tell)

    def _tell_back(self) -> None:
        self.runner = Runner()
        self.runner.together(self.before.machines, lambda machine: self._unpack(self.before, machine))
        machine = registry.registry_machine(self.before)
        self._act(machine, registry.start(self.before))

    def _enter(self) -> None:
        ClusterRecord.change(self.before.name, lambda record: replace(record, keeper=self.machine.name))

    def _unpack(self, record: ClusterRecord, machine: MachineRecord) -> None:
        files = archive(registry.registry_files(record, machine))
        act(self.runner, shell_of(record, machine), machine.name, install.UNPACK, files)

    def _act(self, machine: MachineRecord, script: str) -> None:
        act(self.runner, shell_of(self.before, machine), machine.name, script)
