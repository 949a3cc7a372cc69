"""/journal: what units wrote, on whichever machines they are."""

import heapq
import re
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cherrypy

from kirsch.cluster.api.answers import flag, json_answer, parameters, run, single
from kirsch.cluster.api.following import PATH, Following, Line, line_of, missing
from kirsch.cluster.api.peers import AT_ONCE, HERE, machines_of
from kirsch.cluster.api.resource import Resource
from kirsch.cluster.model import Cluster, Machine
from kirsch.cluster.node.units import Refused
from kirsch.unit import UnitName

MAX_LINES = 10_000


class JournalLines(Resource):
    """Lines of units, at /journal."""

    def GET(self, /, **query: Any) -> bytes | None:
        """The last lines of units, merged by time; as a stream also each that comes, of all units if none is
        named. With here=yes those of this machine alone."""
        given = parameters(query, "unit", "lines", HERE)
        names = [UnitName.parse(name) for name in given.get("unit", [])]
        lines, here = single(given, "lines", "10"), flag(given, HERE)
        if not re.fullmatch("[0-9]{1,5}", lines, re.ASCII) or int(lines) > MAX_LINES:
            raise cherrypy.HTTPError(400, f"lines is to be a number from 0 to {MAX_LINES}")
        if self.api.streams.wanted():
            self.api.streams.open(lambda: self._follow(names, int(lines), here))
            return None
        return json_answer({"lines": self._tail(names, int(lines), here)})

    def _follow(self, names: Sequence[UnitName], lines: int, here: bool) -> AsyncIterator[Line]:
        units = [name.text for name in names]
        if here:
            return self._own(units, lines)
        return Following(self.node, self.api.peers, units, lines).read()

    async def _own(self, units: Sequence[str], lines: int) -> AsyncIterator[Line]:
        async for record in self.node.journal.follow(units or None, lines):
            yield line_of(record, self.node.machine.id)

    def _tail(self, names: Sequence[UnitName], lines: int, here: bool) -> list[Line]:
        own, others = (names, []) if here else self._split(names)
        journal, machine = self.node.journal, self.node.machine.id
        found = [[line_of(record, machine) for record in journal.tail(name.text, lines)] for name in own]
        if others:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                found += pool.map(lambda each: self._ask(each[0], each[1], lines), others)
        merged = list(heapq.merge(*found, key=lambda line: float(line["time"])))
        return merged[max(len(merged) - lines, 0) :]

    def _split(
        self, names: Sequence[UnitName]
    ) -> tuple[Sequence[UnitName], list[tuple[Machine, Sequence[UnitName]]]]:
        """The units to be read here, and which to ask other machines for."""

        async def read() -> Cluster:
            return self.node.cluster()

        cluster, own = run(self.loop, read()), self.node.machine.id
        asked = machines_of(names, cluster)
        others: list[tuple[Machine, Sequence[UnitName]]] = [
            (cluster.machines[machine], units)
            for machine, units in sorted(asked.items())
            if machine != own and machine in cluster.machines
        ]
        return asked.get(own, []), others

    def _ask(self, machine: Machine, names: Sequence[UnitName], lines: int) -> list[Line]:
        units = [name.text for name in names]
        try:
            answer: list[Line] = self.api.peers.get(machine, PATH, unit=units, lines=lines)["lines"]
        except Refused as error:
            return [missing(error, machine.id)]
        return answer
