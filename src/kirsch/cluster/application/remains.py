"""An application that is not up: its units as they were when its kirschd ended, read from its folder."""

import heapq
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.api.following import line_of
from kirsch.cluster.application.embedded import owner, running, socket_path
from kirsch.cluster.engine.status import statuses
from kirsch.cluster.model import Cluster, Unit, UnitRecord, keys
from kirsch.cluster.node.node import LAST
from kirsch.cluster.registry import RegistryError
from kirsch.cluster.registry.snapshot import read_name, read_unit
from kirsch.cluster.registry.sqlite_file import check_header
from kirsch.cluster.runtime.journal import Journal

REGISTRY = "registry.db"
KILLED = "its kirschd was killed, so nobody knows how it ended: kirsch journal has its last lines"


class Remains(Client):
    """Client of a kirschd that has ended: reads what it left in a state folder, and changes nothing.

    `ended_at` is when (seconds since the epoch); `killed`: it could not say how its units were.
    """

    def __init__(self, state: Path) -> None:
        super().__init__(socket_path(state))
        self.state = state
        self.killed = False
        self._last: dict[str, Any] = {}
        try:
            self._last = json.loads((state / LAST).read_bytes())
            self.ended_at = float(self._last["at"])
        except (OSError, ValueError, KeyError):
            self.killed = True
            self.ended_at = _last_written(state)

    @classmethod
    def find(cls, directory: Path) -> "Remains | None":
        """Return what is left of the application whose folder this is, or is below it; None where it was
        never up, or its kirschd is there. Raises ClientError where the folder is another user's."""
        for folder in (directory, *directory.parents):
            state = folder / ".kirsch"
            if os.path.exists(state / REGISTRY):
                return None if running(state) or owner(state) else cls(state)
        return None

    @property
    def notice(self) -> str:
        """One line that says from when all of this is."""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.ended_at))
        how = "was killed" if self.killed else "ended"
        return f"{self.state.parent} is not up; this is as of {at}, when it {how}"

    def get(self, path: str, /, **query: Any) -> Any:
        """Answer as kirschd would have: units, a unit, lines of the journal, no machine."""
        match path.removeprefix("/kirsch/v1/").partition("/"):
            case "units", _, "":
                meant = query.get("unit", [])
                return {"units": [line for line in self._lines if not meant or line["name"] in meant]}
            case "units", _, name if "/" not in name:
                return self._unit(unquote(name))
            case "journal", _, "":
                return {"lines": list(self._journal(query.get("unit", []), int(query.get("lines", 10))))}
            case "machines", _, "":
                return {"machines": []}
        raise self._refusal()

    def stream(self, path: str, *, timeout: float | None = None, **query: Any) -> Iterator[Any]:
        """Raise ClientError: nothing comes any more."""
        raise self._refusal()

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        raise self._refusal()

    def _refusal(self) -> ClientError:
        return ClientError(0, f"{self.state.parent} is not up: start it with `kirsch up {self.state.parent}`")

    @cached_property
    def _units(self) -> dict[str, Unit]:
        """The units that are in the registry's file. Raises ClientError where that cannot be read."""
        path = self.state / REGISTRY
        try:
            check_header(path)
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
                entries = dict(database.execute("SELECT key, value FROM entries"))
        except (OSError, RegistryError, sqlite3.Error) as error:
            raise ClientError(
                0, str(error) if isinstance(error, RegistryError) else f"{path}: {error}"
            ) from None
        found = {}
        for key, value in entries.items():
            if key.startswith(keys.UNITS):
                name, record = read_name(keys.last(key)), UnitRecord.parse(value)
                if (text := entries.get(keys.text(record.hash))) is not None:
                    found[name.text] = Unit(name, *read_unit(name, text), record)
        return found

    @cached_property
    def _lines(self) -> list[dict[str, Any]]:
        if not self.killed:
            return [line | {"pid": 0} for line in self._last["units"]]
        lines = statuses(Cluster(units={unit.name: unit for unit in self._units.values()}))
        wanted = {"reasons": (KILLED,)}
        return [line.to_dict() | (wanted if line.desired == "launched" else {}) for line in lines]

    def _unit(self, name: str) -> dict[str, Any]:
        lines = [line for line in self._lines if line["name"] == name]
        if not lines:
            raise ClientError(404, f"there is no unit {name}")
        text = self._units[name].file.text if name in self._units else ""
        return {"name": name, "text": text, "on": lines}

    def _journal(self, names: str | list[str], lines: int) -> list[dict[str, Any]]:
        units = [names] if isinstance(names, str) else names
        with closing(Journal(self.state / "journal")) as journal:
            tails = [[line_of(record, "") for record in journal.tail(unit, lines)] for unit in units]
        merged = list(heapq.merge(*tails, key=lambda line: float(line["time"])))
        return merged[max(len(merged) - lines, 0) :]


def _last_written(state: Path) -> float:
    """Return the time of the last write by a kirschd, or by its units."""
    paths = [state / REGISTRY, *state.glob("*.log"), *state.glob("journal/*.log")]
    return max((os.stat(path).st_mtime for path in paths if path.exists()), default=0.0)
