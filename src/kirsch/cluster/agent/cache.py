"""What a machine may start though the store is away: its sticky units, as they were assigned last.

A file of mode 0600, for environments hold secrets; written only where its text changes.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from kirsch.cluster.agent.plan import Assigned
from kirsch.cluster.model import Assignment, to_json
from kirsch.cluster.runtime.base import Prepared
from kirsch.unit import Options, UnitError, UnitFile, UnitName

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cached:
    """A unit as it was prepared, for which assignment, and with which addresses of its links."""

    prepared: Prepared
    assignment: Assignment
    linked: Mapping[str, str] = field(default_factory=dict)

    @property
    def assigned(self) -> Assigned:
        """As the schedule would have it."""
        file = self.prepared.file
        return Assigned(file, Options.parse(file, self.prepared.name), self.assignment)


def dump(units: Mapping[UnitName, Cached]) -> str:
    """The file's text."""
    return to_json(
        {
            name.text: {
                "text": unit.prepared.file.text,
                "environment": dict(unit.prepared.environment),
                "credentials": dict(unit.prepared.credentials),
                "secrets": dict(unit.prepared.secrets),
                "endpoints": unit.prepared.endpoints,
                "hosts": dict(unit.prepared.hosts),
                "address": unit.prepared.address,
                "assignment": json.loads(unit.assignment.to_json()),
                "linked": dict(unit.linked),
            }
            for name, unit in units.items()
        }
    )


def parse(text: str) -> dict[UnitName, Cached]:
    """Back from the file's text. Raises ValueError, KeyError, TypeError, UnitError."""
    units = {}
    for key, value in json.loads(text).items():
        name, file = UnitName.parse(key), UnitFile.parse(value["text"], key)
        hosts, linked = value.get("hosts", {}), value.get("linked", {})
        prepared = Prepared(name, file, value["environment"], value["credentials"], hosts=hosts)
        prepared = replace(prepared, secrets=value.get("secrets", {}), endpoints=value.get("endpoints", ""))
        prepared = replace(prepared, address=value.get("address", ""))
        units[name] = Cached(prepared, Assignment(**value["assignment"]), linked)
    return units


class Cache:
    """The file; without a path nothing is kept. An error is logged and nothing more: it is only a cache."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._text = ""
        self.units = self._load()

    def keep(self, units: Mapping[UnitName, Cached]) -> None:
        """From now on these."""
        self.units = dict(units)
        text = dump(self.units)
        if text == self._text:
            return
        try:
            self.write(text)
            self._text = text
        except OSError as error:
            log.warning("%s cannot be written: %s", self.path, error.strerror)

    def read(self) -> str:
        """The file's text. Raises OSError."""
        if self.path is None:
            raise FileNotFoundError
        return self.path.read_text("utf-8", "surrogateescape")

    def write(self, text: str) -> None:
        """Replace the file, whole or not at all. Raises OSError."""
        if self.path is None:
            return
        draft = self.path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        # A secret may be any bytes.
        with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self.path)

    def _load(self) -> dict[UnitName, Cached]:
        try:
            self._text = self.read()
            return parse(self._text)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UnitError) as error:
            log.warning("%s cannot be read, no unit is started from it: %s", self.path, error)
            return {}
