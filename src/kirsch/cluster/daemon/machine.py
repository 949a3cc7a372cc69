"""kirschd on a machine of a cluster: etcd, and systemd or, where there is none, processes."""

import asyncio
import logging
import os
import resource
import ssl
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kirsch.cluster.daemon.plugins import DaemonError, Setup
from kirsch.cluster.daemon.renewal import Renewal
from kirsch.cluster.model import Cluster, Machine
from kirsch.cluster.network.base import Network
from kirsch.cluster.node.audit import AuditLog
from kirsch.cluster.node.backup import Nightly
from kirsch.cluster.node.node import Node
from kirsch.cluster.node.settings import Settings
from kirsch.cluster.registry.base import Registry, RegistryError
from kirsch.cluster.registry.lease import Heard
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.runtime.journal import Journal
from kirsch.cluster.secrets import SealedSecrets

if TYPE_CHECKING:
    from kirsch.cluster.registry.etcd import EtcdRegistry

# A connection is a descriptor; systemd's soft limit, for the sake of select(2), is 1024.
DESCRIPTORS = 65_536
ETCD_UNITS = (Path("/usr/lib/systemd/system/etcd.service"), Path("/lib/systemd/system/etcd.service"))
# Seconds between two looks at where etcd's leader is.
LOOK = 5.0

log = logging.getLogger(__name__)


def setup(settings: Settings) -> Setup:
    """Set up a machine's kirschd by its settings. Raises DaemonError, SettingsError."""
    _raise_limit()
    machine_id = settings.machine()
    tls = renewal = None
    if settings.certificates is not None:
        renewal = Renewal(settings.certificates)
        try:
            renewal.at_start()
            renewal.tls = tls = settings.certificates.server()
            settings.certificates.client()
        except (OSError, ssl.SSLError) as error:
            raise DaemonError(_what_is_wrong(settings, error)) from None
    for folder in (settings.state, settings.run):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DaemonError(f"cannot keep anything in {folder}: {error.strerror}") from None
    backups = None
    if renewal is not None:
        backups = Nightly(settings.state / "backups", settings.cluster, renewal.signs)
    return Setup(
        lambda: _make(settings, machine_id),
        settings.run / "kirsch.sock",
        member=True,
        listen=settings.listen,
        tls=tls,
        certificates=settings.certificates,
        audit=AuditLog(settings.state / "audit"),
        upkeep=partial(_upkeep, settings, renewal, backups),
        seek=partial(_seek, settings),
        backups=backups,
    )


async def _upkeep(settings: Settings, renewal: Renewal | None, backups: Nightly | None, node: Node) -> None:
    """Look after the certificate and etcd's members and leader, and make backups where the authority's key
    is."""
    from kirsch.cluster.daemon.voters import Voters, change_machine
    from kirsch.cluster.registry.etcd import EtcdRegistry

    tasks: list[Coroutine[Any, Any, None]] = []
    if isinstance(node.registry, EtcdRegistry):
        tasks.append(keep_apart(node.registry, node.machine, node.cluster))
    if renewal is not None:
        tasks.append(renewal.run(node))
    if isinstance(node.registry, EtcdRegistry) and renewal is not None and node.runtime.durable:
        voters = Voters(
            node.registry,
            node.mirror,
            node.machine,
            lambda: node.cluster().machines,
            settings.cluster,
            settings.replace_voters,
            partial(renewal.become_signer, node),
            change_machine,
        )
        tasks.append(voters.run())
    if backups is not None:
        tasks.append(backups.run(node.mirror, node.cluster))
    await asyncio.gather(*tasks)


async def _seek(settings: Settings, node: Node) -> None:
    """Ask other machines where etcd is while nothing that this one knows of it answers."""
    from kirsch.cluster.daemon.voters import Elsewhere, change_machine
    from kirsch.cluster.registry.etcd import EtcdRegistry

    async def unchanged(given: Mapping[str, Any]) -> None:
        """Change nothing: these settings are a person's."""

    if isinstance(node.registry, EtcdRegistry) and settings.certificates is not None:
        await Elsewhere(
            node.registry,
            node.mirror,
            node.machine,
            settings.certificates,
            settings.state / "machines.json",
            lambda: node.lease.silence,
            change_machine if node.runtime.durable else unchanged,
        ).run()


async def keep_apart(
    registry: "EtcdRegistry", machine: Machine, known: Callable[[], Cluster], interval: float = LOOK
) -> None:
    """Keep etcd's leader off the machine that leads a service, until cancelled.

    etcd's next leader gives each lease its full time again, with it the one of a database's leader that died
    on the same machine.
    """
    before = ""
    while True:
        await asyncio.sleep(interval)
        cluster, successor = known(), ""
        if machine.id not in cluster.leading:
            continue
        hosts = {cluster.machines[id].address for id in cluster.leading if id in cluster.machines}
        try:
            health = await registry.health()
            successor = health.successor(machine.address, hosts)
            # Two looks have to agree: while roles change hands etcd's leader is left alone.
            if successor and successor == before:
                await registry.hand_over(health.leader, successor)
                log.info("etcd's leader goes to %s: this machine leads a service", successor)
        except RegistryError as error:
            log.info("%s", error)
        before = successor


async def _make(settings: Settings, machine_id: str) -> Node:
    """Open the registry and the runtime, and put a node together."""
    from kirsch.cluster.registry.etcd import EtcdRegistry

    registry = await EtcdRegistry.open(settings.etcd, settings.certificates)
    try:
        runtime, journal, runs = await _runtime(settings)
        apart = await _why_apart(settings)
        endpoints, heard = settings.run / "endpoints.sock", None
        if runtime.durable:
            endpoints = settings.run / "endpoints/shared/endpoints.sock"
            heard = Heard(settings.run / "heard")
        node = Node(
            registry,
            runtime,
            journal,
            _machine(settings, machine_id, runs, apart),
            partial(SealedSecrets, key=settings.secrets),
            endpoints,
            settings.state / "schedule.json",
            heard=heard,
            network=None if apart else _network(settings, machine_id),
            names=settings.run / "names",
        )
        if settings.rebalance == "manual":
            node.engine.calm = None
        return node
    except BaseException:
        await registry.close()
        raise


async def _runtime(settings: Settings) -> tuple[Any, Any, tuple[str, ...]]:
    """The runtime, its journal, and the unit types it can run."""
    if settings.runtime == "process":
        from kirsch.cluster.runtime.process.runtime import ProcessRuntime

        journal = Journal(settings.state / "journal")
        runtime = ProcessRuntime(settings.state, journal, directory=settings.state)
        return runtime, journal, ("service", "container")
    from kirsch.cluster.runtime.systemd.bus import BusError
    from kirsch.cluster.runtime.systemd.journal import SystemdJournal
    from kirsch.cluster.runtime.systemd.runtime import SystemdRuntime

    runs = await SystemdRuntime.capabilities()
    try:
        return await SystemdRuntime.open(), SystemdJournal(), runs
    except BusError as error:
        raise DaemonError(f"systemd cannot be asked: {error}") from None


async def _why_apart(settings: Settings) -> str:
    """Say why no unit can be in the cluster's flat network here; empty if one can, or if there is none."""
    if settings.network is None:
        return ""
    if settings.runtime != "systemd":
        return "it runs units as processes, and the flat network is for containers"
    from kirsch.cluster.network.capability import why_not

    return await why_not(settings.address, settings.network.mtu)


def _network(settings: Settings, machine_id: str) -> Callable[[Registry, Mirror], Network] | None:
    """Make this machine's part of the flat network."""
    if settings.network is None:
        return None
    from kirsch.cluster.network.flat import FlatNetwork

    subnet, mtu = settings.network.subnet, settings.network.mtu

    def make(registry: Registry, mirror: Mirror) -> Network:
        return FlatNetwork(registry, mirror, subnet, settings.cluster, machine_id, settings.address, mtu)

    return make


def _machine(settings: Settings, machine_id: str, runs: tuple[str, ...], apart: str) -> Machine:
    return Machine(
        id=machine_id,
        address=settings.address,
        metadata={**settings.metadata, "hostname": settings.name},
        runs=runs,
        cpu=float(os.cpu_count() or 1),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        runtime=settings.runtime,
        api=settings.listen[1] if settings.listen else 0,
        apart=apart,
        etcd=settings.runtime == "systemd" and any(path.exists() for path in ETCD_UNITS),
    )


def _what_is_wrong(settings: Settings, error: OSError) -> str:
    """Name the file that ssl's error is about, which ssl does not."""
    certificates = settings.certificates
    assert certificates is not None
    for path in (certificates.authority, certificates.certificate, certificates.key):
        try:
            path.read_bytes()
        except OSError as unreadable:
            return f"[tls]: cannot read {path}: {unreadable.strerror}"
    reason = getattr(error, "reason", None) or str(error)
    return (
        f"[tls]: {certificates.authority}, {certificates.certificate} and {certificates.key} are not an "
        f"authority, a certificate and its key, in PEM: {reason.replace('_', ' ').lower()}"
    )


def _raise_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
