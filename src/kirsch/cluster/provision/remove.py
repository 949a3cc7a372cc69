"""A machine leaves its cluster: its units move away, then all of kirsch goes from it, or all of it."""

import time
from dataclasses import dataclass, replace

from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.node.machines import MACHINE_ID, THERE
from kirsch.cluster.provision import ingress, podman, registry
from kirsch.cluster.provision.account import dismiss
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.destroy import expel, forget
from kirsch.cluster.provision.endpoint import connected
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, ProvisionError
from kirsch.cluster.provision.steps import Show, Step, perform
from kirsch.cluster.provision.voters import Voters, learn_members

# Seconds in which one of its units is to leave it.
PATIENCE = 60.0
MACHINES, CERTIFICATES = "/kirsch/v1/machines", "/kirsch/v1/certificates"


@dataclass(frozen=True, slots=True)
class Left:
    """A machine that has left, by its name and its id; `kept` is whether its number in the flat network stays
    its own, for it may run on."""

    name: str
    id: str
    kept: bool = False


def remove(cluster: str, name: str, show: Show, *, force: bool = False) -> Left:
    """Have a machine leave; with `force` also one that is away, or whose units cannot move, and by its id one
    that left like that before, whose number is anybody's then. Raises ProvisionError; a step that fails can
    be done again."""
    record = ClusterRecord.load(cluster)
    if force and MACHINE_ID.fullmatch(name) and all(name != machine.id for machine in record.machines):
        perform([Step("number", lambda: _give_back(record, name))], show)
        return Left(name, name)
    record = learn_members(record)
    leaving = Leaving(record, record.machine(name), Runner(), force)
    leaving.check()
    perform(leaving.steps(), show, "what was done stays done: do it again")
    return Left(leaving.machine.name, leaving.machine.id, not leaving.gone)


@dataclass(slots=True)
class Leaving:
    """A machine that is about to leave; `gone` once it is known to run nothing of the cluster any more."""

    record: ClusterRecord
    machine: MachineRecord
    runner: Runner
    force: bool
    gone: bool = False

    def check(self) -> None:
        """Raises ProvisionError if it cannot leave."""
        if len(self.record.machines) == 1:
            raise ProvisionError(
                f"{self.machine.name} is the only machine: `kirsch cluster destroy {self.record.name}` "
                "removes it with the cluster"
            )
        if registry.registry_machine(self.record) == self.machine:
            raise ProvisionError(
                f"{self.machine.name} keeps the cluster's images: first have another machine keep them, by "
                "`kirsch cluster images MACHINE`"
            )

    def steps(self) -> list[Step]:
        """All that is to be done, in order."""
        steps = [Step("units", self._drain, self._settle)]
        if self.machine.etcd:
            # Another machine keeps the registry in its place.
            steps += Voters(self.record, [self.machine.name], runner=self.runner).prepare()
        if self.record.published:
            steps.append(Step("ingress", self._close, self._open))
        steps.append(Step("kirschd", self._leave))
        if self.machine.container:
            steps.append(Step("machine", self._destroy))
        steps.append(Step("number", self._forget))
        steps.append(Step("certificate", self._revoke))
        steps.append(Step("etcd's user", self._dismiss))
        return [*steps, Step("record", lambda: forget(self.record.name, self.machine))]

    def _drain(self) -> None:
        with connected(self.record.name) as client:
            try:
                if all(there["id"] != self.machine.id for there in client.get(MACHINES)["machines"]):
                    raise ClientError(404, f"{self.machine.name} is away")
                client.patch(self._path, {"drained": True})
                self._wait(client)
            except ClientError as error:
                # What ran on one that is away is elsewhere, or waits for it.
                if self.force:
                    return
                raise ProvisionError(f"{error}; --force removes a machine that is away") from None

    def _wait(self, client: Client) -> None:
        """Wait until its units are elsewhere; with `force` sticky ones may stay."""
        before: set[str] | None = None
        deadline = 0.0
        while left := _left(client, self.machine):
            self.runner.check()
            names = set(left)
            if names != before:
                before, deadline = names, time.monotonic() + PATIENCE
            if self.force and all(left.values()):
                return
            if all(left.values()) or time.monotonic() > deadline:
                raise ProvisionError(
                    f"not all units leave it: {', '.join(sorted(names))} (`kirsch why` says why); "
                    "`kirsch move` or `kirsch destroy` them, or give --force"
                )
            time.sleep(0.2)

    def _settle(self) -> None:
        with connected(self.record.name) as client:
            try:
                client.patch(self._path, {"cordoned": False})
            except ClientError as error:
                if error.status != 404:
                    raise ProvisionError(str(error)) from None

    def _forget(self) -> None:
        """Give back the machine's number and addresses in the flat network, unless it may only be cut off:
        then it still uses them, and would return with them."""
        if not self.gone:
            return
        with connected(self.record.name) as client:
            try:
                client.delete(self._path)
            except ClientError as error:
                if not self.force:
                    raise ProvisionError(str(error)) from None

    @property
    def _path(self) -> str:
        return f"{MACHINES}/{self.machine.id}"

    def _close(self) -> None:
        """Take the machine out of the ingress; Global units on it serve open connections until they stop."""
        others = tuple(m for m in self.record.machines if m.name != self.machine.name)
        ingress.follow(replace(self.record, machines=others), self.runner)

    def _open(self) -> None:
        """Put a machine that did not leave back into the ingress, with a new runner: an interrupted one runs
        nothing more."""
        ingress.follow(ClusterRecord.load(self.record.name), Runner())

    def _leave(self) -> None:
        try:
            expel(self.record, self.machine, self.runner)
            self.gone = True
        except ProvisionError as error:
            if not self.force:
                raise ProvisionError(f"{error}; --force removes a machine that is away") from None

    def _revoke(self) -> None:
        """Revoke the machine's certificates: API and etcd refuse it from now on, should it come back."""
        with connected(self.record.name) as client:
            try:
                for each in client.get(CERTIFICATES)["certificates"]:
                    if each["machine"] == self.machine.id and not each["revoked"]:
                        client.delete(f"{CERTIFICATES}/{each['serial']}")
            except ClientError as error:
                raise ProvisionError(str(error)) from None

    def _dismiss(self) -> None:
        # Another machine may keep the registry since.
        dismiss(ClusterRecord.load(self.record.name), self.machine.name, self.runner)

    def _destroy(self) -> None:
        # The container's volume bears the same name.
        self.runner.run(podman.remove_machines([self.machine.container]))
        self.runner.run(podman.podman("volume", "rm", "--force", self.machine.container))
        self.gone = True


def _give_back(record: ClusterRecord, machine: str) -> None:
    """The number and addresses of a machine that was removed though it could not be reached. Raises
    ProvisionError."""
    with connected(record.name) as client:
        try:
            if any(there["id"] == machine for there in client.get(MACHINES)["machines"]):
                raise ProvisionError(THERE.format(machine))
            client.delete(f"{MACHINES}/{machine}")
        except ClientError as error:
            raise ProvisionError(str(error)) from None


def _left(client: Client, machine: MachineRecord) -> dict[str, bool]:
    """The units on a machine, and whether each is sticky. Global ones are everywhere, and go with it."""
    units = client.get("/kirsch/v1/units")["units"]
    return {u["name"]: bool(u["sticky"]) for u in units if u["machine"] == machine.id and not u["is_global"]}
