"""The APIs of other machines, for what they alone can answer: journals, processes, balancers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.api.transport import Https, Unreachable
from kirsch.cluster.balancer.endpoints_server import PATIENCE
from kirsch.cluster.model import Cluster, Machine
from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.node.node import Node
from kirsch.cluster.node.units import Refused
from kirsch.unit import UnitName
from kirsch.websocket import ClientOptions, Closed, Limits, WebSocketError
from kirsch.websocket.asyncio import connect

TIMEOUT = 10.0
# How many machines are asked at once.
AT_ONCE = 8
ENDPOINTS = "/kirsch/v1/endpoints"
# What one machine answers for itself alone, and asks no other.
HERE = "here"
OPTIONS = ClientOptions(proxy=None, deflate=None, limits=Limits(message=1 << 24, handshake_timeout=3.0))


class Peers:
    """The other machines; without certificates none can be asked."""

    def __init__(self, certificates: Certificates | None) -> None:
        self.certificates = certificates

    def get(self, machine: Machine, path: str, *, timeout: float = TIMEOUT, **query: Any) -> Any:
        """Send GET to one machine about itself alone, and return its answer. For threads. Raises Refused."""
        return self._ask(machine, lambda client: client.get(path, **query, **{HERE: "yes"}), timeout)

    def get_all(self, machines: Sequence[Machine], path: str, **query: Any) -> tuple[list[Any], list[str]]:
        """Return the answers of several machines, each about itself alone, and why others do not answer. For
        threads."""
        missing: list[str] = []

        def ask(machine: Machine) -> list[Any]:
            try:
                return [self.get(machine, path, **query)]
            except Refused as error:
                missing.append(str(error))
                return []

        if not machines:
            return [], []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return [answer for found in pool.map(ask, machines) for answer in found], sorted(missing)

    def post(self, machine: Machine, path: str) -> Any:
        """Send POST without a body to one machine, and return its answer. For threads. Raises Refused."""
        return self._ask(machine, lambda client: client.post(path))

    def _ask(self, machine: Machine, request: Callable[[Client], Any], timeout: float = TIMEOUT) -> Any:
        client = Client(self._reach(machine), timeout=timeout)
        try:
            return request(client)
        except ClientError as error:
            if error.status == 0:
                raise Refused(503, f"machine {_named(machine)} does not answer") from None
            raise Refused(error.status, str(error)) from None
        finally:
            client.close()

    async def follow(self, machine: Machine, path: str, query: str) -> AsyncIterator[Any]:
        """A machine's stream, until either ends it. For the event loop. Raises Refused."""
        reach = self._reach(machine)
        [url] = reach.stream_urls(f"{path}?{query}&{HERE}=yes")
        try:
            async with connect(url, options=OPTIONS, ssl=reach.context()) as stream:
                async for message in stream:
                    yield json.loads(message)
        except (TimeoutError, Closed, WebSocketError, OSError, Unreachable):
            raise Refused(503, f"machine {_named(machine)} does not answer any more") from None

    async def let_go(self, node: Node, unit: UnitName, machine: str) -> None:
        """Return once no balancer of any machine sends anything to a machine's unit, or after a while."""
        cluster = node.cluster()
        others = [cluster.machines[id] for id in sorted(balancing(cluster) - {node.machine.id})]

        def ask(other: Machine) -> None:
            # One that is away has no balancer that could send anything, or none that could be told.
            with suppress(Refused):
                self.get(other, ENDPOINTS, timeout=PATIENCE, left=unit.text, on=machine)

        asked = [asyncio.to_thread(ask, other) for other in others]
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(node.endpoints.let_go(unit, machine), *asked)

    def _reach(self, machine: Machine) -> Https:
        if self.certificates is None or not machine.api:
            raise Refused(503, f"machine {_named(machine)} has no API that other machines can ask")
        return Https(((machine.address, machine.api),), self.certificates, _named(machine))


def balancing(cluster: Cluster) -> set[str]:
    """Return the machines that are there and have balancers: units that follow the endpoints. Pure."""
    following = [name for name, unit in cluster.units.items() if unit.options.endpoints]
    return {id for name in following for id in cluster.schedule.get(name, ()) if id in cluster.machines}


def machines_of(names: Iterable[UnitName], cluster: Cluster) -> dict[str, list[UnitName]]:
    """Which machines to ask about which units: those that have them, or did last; of one that no machine
    has, all. Pure."""
    found: dict[str, list[UnitName]] = {}
    for name in names:
        on = cluster.schedule.get(name, {}).keys() | cluster.states.get(name, {}).keys()
        for machine in on or cluster.machines:
            found.setdefault(machine, []).append(name)
    return found


def _named(machine: Machine) -> str:
    return f"{machine.metadata.get('hostname', machine.id)} ({machine.address})"
