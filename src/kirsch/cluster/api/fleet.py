"""/fleet/v1: fleet's units, states and machines, in its words."""

import html
import json
from typing import Any

import cherrypy

from kirsch.bus import AsyncioPlugin
from kirsch.cluster.api.answers import empty, json_answer, json_body, run
from kirsch.cluster.api.kirsch import Resource
from kirsch.cluster.api.streams import Streams
from kirsch.cluster.model import DESIRED_STATES
from kirsch.cluster.node import Node
from kirsch.cluster.status import current
from kirsch.cluster.units import Refused, Request
from kirsch.unit import Option, UnitFile, UnitName


class FleetUnits(Resource):
    """/units, /units/NAME."""

    def GET(self, name: str | None = None) -> bytes:
        """All units, or one."""
        units = run(self.loop, self._read())
        if name is None:
            return json_answer({"units": units})
        found = next((unit for unit in units if unit["name"] == name), None)
        if found is None:
            raise Refused(404, "unit does not exist")
        return json_answer(found)

    def PUT(self, name: str) -> None:
        """Create a unit, replace its options, or set its desired state."""
        body = json_body()
        if body.get("name", name) != name:
            given = body["name"]
            raise Refused(400, f'name in URL "{name}" differs from unit name in request body "{given}"')
        desired = body.get("desiredState") or None
        if desired is not None and desired not in DESIRED_STATES:
            raise Refused(400, f"invalid desired state {json.dumps(desired)}")
        unit = UnitName.parse(name)
        options = read_options(body.get("options") or [])
        text = UnitFile.from_options(options, name).text if options else None
        status = run(self.loop, self._put(unit, text, desired, options))
        if status == 204:
            empty()
        else:
            cherrypy.response.status = status

    def DELETE(self, name: str) -> None:
        """Destroy a unit."""
        run(self.loop, self.node.units.destroy(UnitName.parse(name)))
        empty()

    async def _put(self, name: UnitName, text: str | None, desired: Any, options: list[Option]) -> int:
        known = self.node.cluster().units.get(name)
        if known is None and text is None:
            raise Refused(409, "unit does not exist and options field empty")
        if known is not None and desired is None:
            raise Refused(409, "must provide DesiredState to update existing unit")
        # Unchanged options leave the text as somebody wrote it.
        same = known is not None and list(known.file.options) == options
        await self.node.units.change([Request(name, None if same else text, desired or "inactive")])
        return 204 if known is not None and (same or text is None) else 201

    async def _read(self) -> list[dict[str, Any]]:
        cluster = self.node.cluster()
        units = []
        for name, unit in sorted(cluster.units.items()):
            machine = min(cluster.schedule.get(name, {}), default="")
            units.append(
                {
                    "name": name.text,
                    "options": [
                        {"section": option.section, "name": option.name, "value": option.value}
                        for option in unit.file.options
                    ],
                    "desiredState": unit.desired,
                    "currentState": current(unit, machine, cluster),
                    "machineID": machine,
                }
            )
        return units


class FleetStates(Resource):
    """/state."""

    def GET(self, machineID: str = "", unitName: str = "") -> bytes:
        """What systemd says of units, of all or of those on one machine or of one name."""

        async def read() -> list[dict[str, Any]]:
            cluster = self.node.cluster()
            return [
                {
                    "name": name.text,
                    "hash": cluster.units[name].file.fleet_hash,
                    "machineID": machine,
                    "systemdLoadState": state.load,
                    "systemdActiveState": state.active,
                    "systemdSubState": state.sub,
                }
                for name, states in sorted(cluster.states.items())
                for machine, state in sorted(states.items())
                if name in cluster.units and machineID in ("", machine) and unitName in ("", name.text)
            ]

        return json_answer({"states": run(self.loop, read())})


class FleetMachines(Resource):
    """/machines."""

    def GET(self) -> bytes:
        """Every machine that is there."""

        async def read() -> list[dict[str, Any]]:
            machines = sorted(self.node.cluster().machines.values(), key=lambda machine: machine.id)
            return [{"id": m.id, "primaryIP": m.address, "metadata": dict(m.metadata)} for m in machines]

        return json_answer({"machines": run(self.loop, read())})


def read_options(values: Any) -> list[Option]:
    """The options of a PUT's body. Raises Refused(400)."""
    try:
        return [Option(str(v["section"]), str(v["name"]), str(v["value"])) for v in values]
    except (KeyError, TypeError):
        raise Refused(400, "options is to be a list of {section, name, value}") from None


def error_page(status: str, message: str, traceback: str, version: str) -> bytes:
    """fleet's error body."""
    cherrypy.response.headers["Content-Type"] = "application/json"
    code = int(status.split()[0])
    return json.dumps({"error": {"code": code, "message": html.unescape(message)}}).encode() + b"\n"


def tree(node: Node, loop: AsyncioPlugin, streams: Streams) -> Any:
    """The resources of /fleet/v1, to be mounted."""
    root = Resource(node, loop, streams)
    for name, kind in {"units": FleetUnits, "state": FleetStates, "machines": FleetMachines}.items():
        setattr(root, name, kind(node, loop, streams))
    return root
