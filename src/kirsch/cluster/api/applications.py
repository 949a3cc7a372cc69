"""/applications: the units that come with a folder, as one."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import cherrypy

from kirsch.cluster.api.answers import flag, json_answer, json_body, parameters, run
from kirsch.cluster.api.releases import NOTE, read_note
from kirsch.cluster.api.resource import Resource
from kirsch.cluster.model import Unit, finished, keys
from kirsch.cluster.model.release import with_scale
from kirsch.cluster.node.releases import lists, scale_of
from kirsch.cluster.node.units import Note, Outcome, Refused, Request
from kirsch.unit import UnitName

CHECK = "check"


class Applications(Resource):
    """One application, at /applications/NAME."""

    def GET(self, name: str, /, **query: Any) -> bytes:
        """The units that came with an application, by name, whether they are still there or not, and the
        numbers of instances that people asked for, by template."""
        parameters(query)

        async def read() -> tuple[list[str] | None, Mapping[str, int]]:
            return lists(self.node.mirror).get(name), scale_of(name, self.node.cluster())

        units, scale = run(self.loop, read())
        if units is None:
            raise cherrypy.HTTPError(404, f"there is no application {name}")
        return self.read_answer({"name": name, "units": units, "scale": dict(scale)})

    def PUT(self, name: str, /, **query: Any) -> bytes:
        """Make an application what its folder says: {"units": {NAME: TEXT}, "files"?, "start": [NAME],
        "who"?, "message"?, "release"?, "now"?}, by a release; its number is null where nothing would change.

        Its units are submitted, those it had before and has no more destroyed, and those to start started;
        the answer names what was started. With check=yes nothing is done, and refused what would be.
        """
        check = flag(parameters(query, CHECK), CHECK)
        body = json_body()
        for key, value in body.items():
            if not isinstance(value, {"units": dict, "files": dict, "start": list, **NOTE}.get(key, ())):
                raise cherrypy.HTTPError(400, f"{key} is not known, or not what it should be")
        if "units" not in body or "start" not in body:
            raise cherrypy.HTTPError(400, "units and start are needed")
        units, start, files = body["units"], body["start"], body.get("files", {})
        if not all(isinstance(text, str) for text in (*units.values(), *files.values(), *start)):
            raise cherrypy.HTTPError(400, "names, texts and files are to be strings")
        note = read_note(body)
        outcome, start = run(self.loop, self._apply(name, units, files, start, note, check))
        number = outcome.releases[0].number if outcome.releases else None
        return json_answer({"start": start, "warnings": outcome.warnings, "release": number})

    async def _apply(
        self,
        name: str,
        units: dict[str, str],
        files: dict[str, str],
        start: list[str],
        note: Note,
        check: bool,
    ) -> tuple[Outcome, list[str]]:
        # Another machine may have taken in an application a moment ago.
        listing = await self.node.registry.list(keys.APPLICATIONS)
        await self.node.mirror.reached(max((entry.modified for entry in listing.entries), default=0))
        others, before = self._others(name), lists(self.node.mirror).get(name, [])
        cluster = self.node.cluster()
        there = {unit.text for unit in cluster.units}
        start, scale, told = with_scale(start, scale_of(name, cluster), there.intersection(before))
        requests = {
            unit: Request(UnitName.parse(unit), text, file=files.get(unit, ""))
            for unit, text in units.items()
        }
        for unit in start:
            parsed = UnitName.parse(unit)
            source = parsed.text if parsed.text in units else str(parsed.template or parsed)
            requests[unit] = Request(parsed, units.get(source), "launched", files.get(source, ""))
        # What has run to its end and is as it was is not run again.
        for known in self._finished():
            request = requests.get(known.name.text)
            if request and request.text == known.file.text:
                requests[known.name.text] = replace(request, desired=None)
        # What a release under way brings may not be there yet, and is another's all the same; so is what one
        # removes, which is there again where that release is called off.
        coming = {unit for release in cluster.active for unit in (*release.units, *release.gone)}
        _refuse_foreign(requests.keys() & (there | coming), others)
        gone = [UnitName.parse(unit) for unit in before if unit not in requests and unit in there]
        wanted = list(requests.values())
        would = self.node.units.draft(wanted, gone)
        would.warnings += told
        if check:
            return would, start
        outcome = await self.node.units.release(name, wanted, note, scale=scale)
        outcome.warnings += told
        return outcome, start

    def _others(self, name: str) -> dict[str, list[str]]:
        """The units that came with each other application. Where `kirsch up` runs one folder alone there is
        none: its name was changed."""
        if not self.api.member:
            return {}
        return {other: units for other, units in lists(self.node.mirror).items() if other != name}

    def _finished(self) -> list[Unit]:
        cluster = self.node.cluster()
        return [
            unit
            for name, unit in cluster.units.items()
            if any(finished(unit, state) for state in cluster.states.get(name, {}).values())
        ]


def _refuse_foreign(units: Iterable[str], others: Mapping[str, list[str]]) -> None:
    """Raises Refused where units that are there came with another application: they are not to be ours."""
    for other, theirs in others.items():
        if taken := sorted(set(units) & set(theirs)):
            raise Refused(
                409,
                f"{', '.join(taken)}: came with application {other}; give your own another name, or "
                f"`kirsch destroy {' '.join(taken)}` first",
            )
