"""The APIs of the cluster's other machines, for what they alone can answer: journals, processes."""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.api.transport import Https
from kirsch.cluster.model import Cluster, Machine
from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.node.units import Refused
from kirsch.unit import UnitName
from kirsch.websocket import ClientOptions, Closed, Limits, WebSocketError
from kirsch.websocket.asyncio import connect

TIMEOUT = 10.0
# What one machine answers for itself alone, and asks no other.
HERE = "here"
OPTIONS = ClientOptions(proxy=None, deflate=None, limits=Limits(message=1 << 24, handshake_timeout=3.0))


class Peers:
    """The other machines; without certificates none can be asked."""

    def __init__(self, certificates: Certificates | None) -> None:
        self.certificates = certificates
        self._context = certificates.client() if certificates else None

    def get(self, machine: Machine, path: str, **query: Any) -> Any:
        """Send GET to one machine about itself alone, and return its answer. For threads. Raises Refused."""
        reach = self._reach(machine)
        try:
            return Client(reach, timeout=TIMEOUT).get(path, **query, **{HERE: "yes"})
        except ClientError as error:
            if error.status == 0:
                raise Refused(503, f"machine {_named(machine)} does not answer") from None
            raise Refused(error.status, str(error)) from None

    async def follow(self, machine: Machine, path: str, query: str) -> AsyncIterator[Any]:
        """A machine's stream, until either ends it. For the event loop. Raises Refused."""
        [url] = self._reach(machine).stream_urls(f"{path}?{query}&{HERE}=yes")
        try:
            async with connect(url, options=OPTIONS, ssl=self._context) as stream:
                async for message in stream:
                    yield json.loads(message)
        except (TimeoutError, Closed, WebSocketError, OSError):
            raise Refused(503, f"machine {_named(machine)} does not answer any more") from None

    def _reach(self, machine: Machine) -> Https:
        if self.certificates is None or not machine.api:
            raise Refused(503, f"machine {_named(machine)} has no API that other machines can ask")
        return Https(((machine.address, machine.api),), self.certificates, _named(machine))


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
