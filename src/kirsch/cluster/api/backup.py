"""/backup: what people put into the registry, secrets sealed; and its return."""

from dataclasses import asdict
from typing import Any

from kirsch.cluster.api.answers import json_answer, json_body, parameters, run
from kirsch.cluster.api.resource import Resource
from kirsch.cluster.node.backup import Backup, check, taken
from kirsch.cluster.node.units import Refused
from kirsch.cluster.registry.base import Put, Unchanged

# Keys of a transaction, each with its condition.
KEYS = 60


class BackupResource(Resource):
    """Contents of the registry, at /backup."""

    def GET(self, /, **query: Any) -> bytes:
        """Return them as they are now."""
        parameters(query)

        async def read() -> Backup:
            return taken(self.node.mirror, self.node.cluster(), "")

        found = asdict(run(self.loop, read()))
        return json_answer({name: found[name] for name in ("made", "machines", "entries")})

    def PUT(self, /, **query: Any) -> bytes:
        """Write entries: {"entries": {KEY: VALUE}}. One that is there with another value is refused, and
        nothing after it is written; what is there already stays, so that a return can be done again."""
        parameters(query)
        body = json_body()
        entries = body.get("entries")
        if not isinstance(entries, dict) or len(body) > 1:
            raise Refused(400, "entries are needed, as an object, and nothing else")
        check(entries)
        return json_answer({"written": run(self.loop, self._write(entries))})

    async def _write(self, entries: dict[str, str]) -> int:
        mirror, revision = self.node.mirror, 0
        new = {key: value for key, value in entries.items() if mirror.value(key) != value}
        if there := [key for key in new if key in mirror.entries]:
            raise Refused(409, f"{there[0]} is there, with another value")
        items = list(new.items())
        for start in range(0, len(items), KEYS):
            part = items[start : start + KEYS]
            written = await self.node.registry.transact(
                [Put(key, value) for key, value in part], [Unchanged(key, 0) for key, _ in part]
            )
            if written is None:
                raise Refused(409, "others write to the registry at the same time; try again")
            revision = written
        await mirror.reached(revision)
        return len(new)
