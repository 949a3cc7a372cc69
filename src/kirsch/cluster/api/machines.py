"""/machines: who is there, and what people set on them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cherrypy

from kirsch.cluster.api.answers import empty, json_body, parameters, run
from kirsch.cluster.api.resource import Collection, Resource
from kirsch.cluster.model import Machine, keys
from kirsch.cluster.model.certificates import Issued
from kirsch.cluster.node.machines import MACHINE_ID, SettingsChange, find, known
from kirsch.cluster.node.node import Node
from kirsch.cluster.node.settings import METADATA_KEY

KINDS: Mapping[str, type] = {"cordoned": bool, "drained": bool, "metadata": dict}


def machine_entities(machines: Iterable[Machine], node: Node) -> list[dict[str, Any]]:
    """Machines as the API has them; `leads` says whether a machine's engine is the one that decides."""
    reserved, ends, none = node.cluster().reservations(), certificate_ends(node), (0.0, 0)
    leader = node.mirror.value(keys.LEADER)
    return [
        {
            "id": machine.id,
            "address": machine.address,
            "metadata": dict(machine.metadata),
            "runs": list(machine.runs),
            "problems": [each for each in (machine.apart, machine.nameless, machine.unwatched) if each],
            "cordoned": machine.cordoned,
            "drained": machine.drained,
            "leads": leader == machine.id,
            "cpu": machine.cpu,
            "memory": machine.memory,
            "reservedCpu": reserved.get(machine.id, none)[0],
            "reservedMemory": reserved.get(machine.id, none)[1],
            "number": int(node.mirror.value(keys.machine_number(machine.id)) or 0),
            "meshed": node.mirror.value(keys.mesh(machine.id)) is not None,
            "certificateEnds": ends.get(machine.id),
        }
        for machine in machines
    ]


def certificate_ends(node: Node) -> dict[str, float]:
    """Return when the last certificate of each machine ends."""
    ends: dict[str, float] = {}
    for entry in node.mirror.below(keys.CERTIFICATES):
        issued = Issued.parse(entry.value)
        if not issued.revoked:
            ends[issued.machine] = max(issued.until, ends.get(issued.machine, 0.0))
    return ends


class Machines(Collection["OneMachine"]):
    """All machines, at /machines."""

    def GET(self, /, **query: Any) -> bytes:
        """Every machine that is there."""
        parameters(query)

        async def read() -> list[dict[str, Any]]:
            machines = self.node.cluster().machines
            return machine_entities((machines[machine] for machine in sorted(machines)), self.node)

        return self.read_answer({"machines": run(self.loop, read())})

    def item(self, name: str) -> "OneMachine":
        """Return the resource of one machine."""
        return OneMachine(self.api, name)


@dataclass
class OneMachine(Resource):
    """/machines/NAME: its id, the beginning of that, its host's name or its address."""

    name: str

    def GET(self, /, **query: Any) -> bytes:
        """Return the machine with its settings."""
        parameters(query)

        async def read() -> dict[str, Any]:
            return machine_entities([find(self.name, self.node.cluster())], self.node)[0]

        return self.read_answer(run(self.loop, read()))

    def PATCH(self, /, **query: Any) -> None:
        """Set what people set: {"cordoned"?, "drained"?, "metadata"?: {KEY: TEXT}}; null takes a key away. It
        holds for when a machine that is away is back."""
        parameters(query)
        change = read_change(json_body())
        run(self.loop, self._change(change))
        empty()

    def DELETE(self, /, **query: Any) -> None:
        """Forget what a machine had in the flat network: it has left. By its whole id, for most are gone by
        then."""
        parameters(query)
        if not MACHINE_ID.fullmatch(self.name):
            raise cherrypy.HTTPError(400, f"{self.name!r} is no machine's whole id")
        run(self.loop, self.node.machines.forget(self.name))
        empty()

    async def _change(self, change: SettingsChange) -> None:
        machine = known(self.name, self.node.cluster(), self.node.mirror)
        await self.node.machines.change({machine: change})


def read_change(body: dict[str, Any]) -> SettingsChange:
    """Read the body of a PATCH. Raises HTTPError 400."""
    for key, value in body.items():
        if not isinstance(value, KINDS.get(key, ())):
            raise cherrypy.HTTPError(400, f"{key} is not known, or not what it should be")
    for key, value in body.get("metadata", {}).items():
        if not METADATA_KEY.fullmatch(key) or not (value is None or (isinstance(value, str) and value)):
            raise cherrypy.HTTPError(
                400, f"metadata: {key!r} is to be a key of letters, digits, _ . - with a text, or null"
            )
    return SettingsChange(body.get("metadata", {}), body.get("cordoned"), body.get("drained"))
