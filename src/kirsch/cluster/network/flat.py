"""The flat network of one machine: made, kept as desired, and told of units that move.

`plan` decides what is to be done; this module looks at the machine and does it. Changes come as events of the
kernel and of the store, without polling.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from kirsch.cluster.model import keys
from kirsch.cluster.model.certificates import Issued, revoked_machines
from kirsch.cluster.network.allocation import Allocator
from kirsch.cluster.network.observation import CommandFailed, devices, guard, guards, output, podman_network
from kirsch.cluster.network.plan import plan
from kirsch.cluster.network.state import BRIDGE, Desired, Observed, PodmanNetwork, vxlan_id
from kirsch.cluster.network.subnet import Subnet, SubnetError, hardware_address
from kirsch.cluster.network.watch import NetworkWatch
from kirsch.cluster.registry.base import Registry, Unavailable
from kirsch.cluster.registry.mirror import Mirror

ARP = 0x0806
EVERYBODY = b"\xff" * 6


def frame(address: str) -> bytes:
    """An ARP announcement (RFC 5227): a request for itself, from its hardware address. Pure."""
    hardware, packed = bytes.fromhex(hardware_address(address).replace(":", "")), IPv4Address(address).packed
    request = bytes.fromhex("0001 0800 06 04 0001")
    return EVERYBODY + hardware + ARP.to_bytes(2, "big") + request + hardware + packed + bytes(6) + packed


def announce(address: str, device: str = BRIDGE) -> None:
    """Send it, once. Raises OSError."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP)) as sender:
        sender.bind((device, 0))
        sender.send(frame(address))


log = logging.getLogger(__name__)

# Where podman keeps its networks (containers.conf(5), network_config_dir).
FOLDER = Path("/etc/containers/networks")
# Seconds after which what failed is tried again, though nothing has changed; at most the second.
RETRY, SELDOM = 0.2, 30.0


class FlatNetwork:
    """A Network (see base) of a real machine: `machine` is its id, `address` where others reach it."""

    def __init__(
        self,
        registry: Registry,
        mirror: Mirror,
        subnet: Subnet,
        cluster: str,
        machine: str,
        address: str,
        mtu: int,
        folder: Path = FOLDER,
    ) -> None:
        self.subnet = subnet
        self.may_stay: Callable[[], bool] = lambda: False
        self._allocator = Allocator(registry, mirror, subnet)
        self._mirror = mirror
        self._machine = machine
        self._desired = Desired(subnet, 0, address, vxlan_id(cluster), mtu, guarded=guards())
        self._folder = folder
        self._podman: PodmanNetwork | None = None
        self._podman_known = False
        self._stands = False
        self._joined = False
        self._problem = ""
        self._unwatched = ""
        self._wake = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        mirror.listen(self._take_notice)

    @property
    def stands(self) -> bool:
        """True while all parts are there, except those that wait until the machine is in the mesh."""
        return self._stands

    @property
    def apart(self) -> str:
        """Reason why no unit can be started in it; empty if one can."""
        if self._stands and self._joined:
            return ""
        why = f" ({self._problem})" if self._problem else ""
        return f"until its machine is in the flat network{why}"

    @property
    def unwatched(self) -> str:
        """Reason why podman's networks are only looked at now and then; empty if changes are told."""
        return self._unwatched

    @property
    def gateway(self) -> str:
        """The machine's own address in it; empty as long as it has none."""
        return self.subnet.gateway(self._desired.number) if self._desired.number else ""

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` when `stands` or `apart` has changed."""
        self._listeners.append(listener)

    def announce(self, address: str) -> None:
        """Tell whoever remembers another place."""
        try:
            announce(address)
        except OSError as error:
            log.warning("%s cannot be announced: %s", address, error.strerror)

    async def run(self) -> None:
        """Make it, and keep it so, until cancelled."""
        watch = NetworkWatch(self._folder, self._wake.set, self._networks_changed)
        try:
            await self._numbered()
            self._wake.set()
            pause = RETRY
            while True:
                self._look_at(watch)
                again = pause if self._problem else SELDOM if watch.problem else None
                try:
                    async with asyncio.timeout(again):
                        await self._wake.wait()
                except TimeoutError:
                    if watch.problem:
                        self._podman_known = False
                        watch.watch_files()
                self._wake.clear()
                before = self._problem
                await self._keep()
                pause = min(2 * pause, SELDOM) if self._problem and self._problem == before else RETRY
        finally:
            watch.close()

    async def _numbered(self) -> None:
        """Wait for the store, and take a number."""
        await self._mirror.reached(1)
        while True:
            try:
                number = await self._allocator.number(self._machine)
                self._desired = replace(self._desired, number=number)
                return
            except Unavailable:
                await asyncio.sleep(RETRY * 5)
            except SubnetError as error:
                self._tell(False, False, str(error))
                await self._mirror.reached(self._mirror.revision + 1)

    async def _keep(self) -> None:
        """Do what is to be done. What changes meanwhile is looked at in the next round."""
        try:
            observed = await self._see()
            self._desired = self._desire(observed)
            commands = plan(self._desired, observed)
            for command in commands:
                await self._do(command)
            if commands:
                left = plan(self._desired, await self._see())
                if left:
                    raise CommandFailed(f"it does not stay as it is to be: {' '.join(left[0])}")
        except (CommandFailed, OSError) as error:
            if str(error) != self._problem:
                log.warning("the flat network cannot be made: %s", error)
            self._podman_known = False
            self._tell(False, self._desired.joined, str(error))
            return
        self._tell(True, self._desired.joined, "")

    def _desire(self, observed: Observed) -> Desired:
        """Return the desired state by the store's mesh keys; while the store is away, by its last ones."""
        own = keys.mesh(self._machine)
        mesh = {entry.key: entry.value for entry in self._mirror.held_below(keys.MESH)}
        for machine in revoked_machines(Issued.parse(e.value) for e in self._mirror.below(keys.CERTIFICATES)):
            mesh.pop(keys.mesh(machine), None)
        joined = mesh.pop(own, None) is not None and (own in self._mirror.entries or self.may_stay())
        indices = {link.index for link in observed.links.values()}
        return replace(
            self._desired,
            peers=frozenset(mesh.values()) - {self._desired.address},
            joined=joined,
            # Of those that were there, what is still there.
            ports={i: name for i, name in self._desired.ports.items() if i in indices} | observed.ports,
        )

    async def _see(self) -> Observed:
        if not self._podman_known:
            self._podman_known = True
            self._podman = await podman_network()
        return Observed(*await devices(), self._podman, await guard() if self._desired.guarded else None)

    async def _do(self, command: Sequence[str]) -> None:
        log.info("flat network: %s", " ".join(command))
        if command[0] == "podman":
            self._podman_known = False
        await output(*command)

    def _tell(self, stands: bool, joined: bool, problem: str) -> None:
        before = (self._stands, self.apart)
        self._stands, self._joined, self._problem = stands, joined, problem
        if before != (self._stands, self.apart):
            for listener in self._listeners:
                listener()

    def _look_at(self, watch: NetworkWatch) -> None:
        if watch.problem != self._unwatched:
            self._unwatched = watch.problem
            if watch.problem:
                log.warning("podman's networks are looked at every %.0f s: %s", SELDOM, watch.problem)
            for listener in self._listeners:
                listener()

    def _networks_changed(self) -> None:
        self._podman_known = False
        self._wake.set()

    def _take_notice(self, changed: frozenset[str]) -> None:
        # While the own key is missing, a unit that is put elsewhere decides whether this machine may stay.
        missing = keys.mesh(self._machine) in self._mirror.vanished
        own = keys.schedule(self._machine, "")
        if any(
            key.startswith((keys.MESH, keys.CERTIFICATES)) or (missing and key.startswith(own))
            for key in changed
        ):
            self._wake.set()
