"""Status of this computer's clusters: which there are, which of their machines run and answer."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.provision import podman
from kirsch.cluster.provision.command import CommandError, Runner
from kirsch.cluster.provision.endpoint import Where, transport_to
from kirsch.cluster.provision.ingress import INGRESS, backend, publications, states
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, ProvisionError, etcd_url
from kirsch.cluster.provision.shell import greets
from kirsch.cluster.registry.health import StoreHealth

# Seconds for a machine to answer: it is near, or it is not there.
ANSWER = 5.0
RUNNING = "running"


@dataclass(frozen=True, slots=True)
class ClusterSummary:
    """A cluster by name: its record, None where only podman knows of it; containers that run and that are
    there, None where podman cannot be asked."""

    name: str
    record: ClusterRecord | None
    running: int | None
    containers: int | None


@dataclass(frozen=True, slots=True)
class PortStatus:
    """A port of this computer, the machines' port that it leads to, the machines that answer there; and what
    is wrong with the ingress (empty if nothing)."""

    port: str
    to: int
    machines: tuple[str, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """A machine: its container's state in podman's words (empty for a host), whether its sshd greets, and
    what is wrong with its kirschd (empty if nothing)."""

    machine: MachineRecord
    container: str
    sshd: bool
    kirschd: str

    @property
    def well(self) -> bool:
        """True if container, sshd and kirschd are all as they should be."""
        return self.container in ("", RUNNING) and self.sshd and not self.kirschd


@dataclass(frozen=True, slots=True)
class RegistryStatus:
    """State of the cluster's registry: etcd's health (None where no kirschd could be asked), each member's
    role by its machine's name, and one sentence with what is wrong and what to do (empty if nothing)."""

    health: StoreHealth | None
    roles: Mapping[str, str]
    problem: str

    @property
    def summary(self) -> str:
        """One line about a registry that could be asked."""
        if self.health is None:
            return ""
        leader = next((name for name, role in self.roles.items() if role == "leader"), "nobody")
        answering, count = len(self.health.answering), len(self.health.members)
        return f"{answering} of {count} members answer, {leader} leads, {self.health.size / 1e6:.1f} MB"


def summaries() -> list[ClusterSummary]:
    """All clusters of this computer, by name. Raises ProvisionError."""
    records = {name: ClusterRecord.load(name) for name in ClusterRecord.names()}
    try:
        states = _containers(Runner())
    except CommandError:
        return [ClusterSummary(name, record, None, None) for name, record in sorted(records.items())]
    there = Counter(cluster for cluster, _ in states.values())
    running = Counter(cluster for cluster, state in states.values() if state == RUNNING)
    return [
        ClusterSummary(name, records.get(name), running[name], there[name])
        for name in sorted({*records, *there})
    ]


def machine_statuses(record: ClusterRecord) -> list[MachineStatus]:
    """Return the status of all machines, asked at once."""
    runner = Runner()
    try:
        states = {name: state for name, (_, state) in _containers(runner).items()}
    except CommandError:
        states = {}
    found: dict[str, MachineStatus] = {}

    def ask(machine: MachineRecord) -> None:
        state = states.get(machine.container, "gone") if machine.container else ""
        found[machine.name] = MachineStatus(
            machine, state, greets(machine.host, machine.ssh_port), _kirschd(record, machine)
        )

    runner.together(record.machines, ask)
    return [found[machine.name] for machine in record.machines]


def port_statuses(record: ClusterRecord) -> list[PortStatus]:
    """Return the machines behind each published port; empty if none is published."""
    ports = publications(record)
    if not ports:
        return []
    problem, seen = "", {}
    try:
        seen = states(record, Runner())
    except ProvisionError as error:
        problem = str(error)
    found = []
    for port in ports:
        up = tuple(name for name, answers in seen.get(backend(port), {}).items() if answers)
        found.append(PortStatus(f"{port.address}:{port.host}", port.machine, up, problem))
    return found


def registry_status(record: ClusterRecord, machines: Sequence[MachineRecord]) -> RegistryStatus:
    """Return the health of the cluster's etcd, as the first kirschd of `machines` that answers sees it."""
    reasons = []
    for machine in machines:
        client = _client(record, machine)
        try:
            health = StoreHealth.from_dict(client.get("/kirsch/v1/store"))
        except (ClientError, KeyError, TypeError) as error:
            reasons.append(f"{machine.name}: {error}")
            continue
        finally:
            client.close()
        names = {etcd_url(each): each.name for each in record.machines}
        roles = {names.get(each.url, each.url): health.role(each) or "silent" for each in health.members}
        switch_on, replace = (
            f"kirsch cluster start {record.name}",
            f"kirsch cluster etcd {record.name} --replace",
        )
        return RegistryStatus(health, roles, health.problem(names, switch_on, replace))
    why = f": {'; '.join(reasons)}" if reasons else ""
    return RegistryStatus(None, {}, f"etcd's state is not known, for no machine's kirschd answers{why}")


def _client(record: ClusterRecord, machine: MachineRecord) -> Client:
    return Client(transport_to(Where(endpoint=machine.endpoint, cluster=record.name)), ANSWER)


def _containers(runner: Runner) -> Mapping[str, tuple[str, str]]:
    """All containers of clusters, by name: their cluster and state."""
    shown = runner.run(podman.podman("ps", "--all", "--format", "json", "--filter", f"label={podman.LABEL}"))
    return {
        container["Names"][0]: (container["Labels"][podman.LABEL], container["State"])
        for container in json.loads(shown or "[]")
        if INGRESS not in container["Labels"]
    }


def _kirschd(record: ClusterRecord, machine: MachineRecord) -> str:
    """Return the problem of a machine's kirschd, "" if there is none; kirschd itself must list the
    machine."""
    try:
        client = _client(record, machine)
        try:
            present = client.get("/kirsch/v1/machines")["machines"]
        finally:
            client.close()
    except (ClientError, ProvisionError) as error:
        return str(error)
    if machine.id not in {each["id"] for each in present}:
        return "it runs, and is not in the cluster"
    return ""
