"""Cache of what a machine may start though the store is away: its sticky units, as they were assigned last.

A file of mode 0600, written only where its text changes; values of secrets are sealed in it.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from kirsch.cluster.agent.plan import Assigned
from kirsch.cluster.model import Assignment, to_json
from kirsch.cluster.runtime.base import Prepared
from kirsch.cluster.secrets import SecretError
from kirsch.cluster.secrets.files import write_file
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
        """Return the unit as the schedule would have it."""
        file = self.prepared.file
        return Assigned(file, Options.parse(file, self.prepared.name), self.assignment)


# What makes of a text by its name one that only this machine can read, or the opposite.
Seal = Callable[[str, str], str]


def plainly(name: str, text: str) -> str:
    """Return the text unchanged."""
    return text


def dump(units: Mapping[UnitName, Cached], seal: Seal = plainly) -> str:
    """The file's text; values of secrets are sealed. Raises SecretError."""
    return to_json(
        {
            name.text: {
                "text": unit.prepared.file.text,
                "environment": dict(unit.prepared.environment),
                "sealed": _sealed(unit.prepared, seal),
                "endpoints": unit.prepared.endpoints,
                "hosts": dict(unit.prepared.hosts),
                "address": unit.prepared.address,
                "dns": unit.prepared.dns,
                "assignment": json.loads(unit.assignment.to_json()),
                "linked": dict(unit.linked),
            }
            for name, unit in units.items()
        }
    )


def _sealed(prepared: Prepared, seal: Seal) -> str:
    """A unit's secrets; empty if it has none."""
    if not (prepared.credentials or prepared.secrets):
        return ""
    values = {"credentials": dict(prepared.credentials), "secrets": dict(prepared.secrets)}
    return seal(prepared.name.text, json.dumps(values))


def parse(text: str, unseal: Seal = plainly) -> dict[UnitName, Cached]:
    """Back from the file's text. Raises ValueError, KeyError, TypeError, UnitError, SecretError."""
    units = {}
    for key, value in json.loads(text).items():
        name, file = UnitName.parse(key), UnitFile.parse(value["text"], key)
        hosts, linked = value.get("hosts", {}), value.get("linked", {})
        given = json.loads(unseal(key, value["sealed"])) if value["sealed"] else {}
        prepared = Prepared(name, file, value["environment"], **given, hosts=hosts)
        prepared = replace(prepared, endpoints=value.get("endpoints", ""))
        prepared = replace(prepared, address=value.get("address", ""), dns=value.get("dns", ""))
        units[name] = Cached(prepared, Assignment(**value["assignment"]), linked)
    return units


class Cache:
    """The file; without a path nothing is kept. An error is logged and nothing more: it is only a cache."""

    def __init__(self, path: Path | None, seal: Seal = plainly, unseal: Seal = plainly) -> None:
        self.path = path
        self._seal, self._unseal = seal, unseal
        # As it would be if nothing were sealed: a text that is sealed is another each time.
        self._text = ""
        self.units = self._load()

    def keep(self, units: Mapping[UnitName, Cached]) -> None:
        """From now on these."""
        if self._text and units == self.units:
            return
        self.units = dict(units)
        text = dump(self.units)
        if text == self._text:
            return
        # A file that could not be written is tried again.
        self._text = ""
        try:
            if self.path is not None:
                self.write(dump(self.units, self._seal))
            self._text = text
        except OSError as error:
            log.warning("%s cannot be written: %s", self.path, error.strerror)
        except SecretError as error:
            log.warning("%s cannot be written: %s", self.path, error)

    def read(self) -> str:
        """The file's text. Raises OSError."""
        if self.path is None:
            raise FileNotFoundError
        return self.path.read_text()

    def write(self, text: str) -> None:
        """Replace the file, whole or not at all. Raises OSError."""
        assert self.path is not None
        write_file(self.path, text.encode())

    def _load(self) -> dict[UnitName, Cached]:
        try:
            units = parse(self.read(), self._unseal)
            self._text = dump(units)
            return units
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UnitError, SecretError) as error:
            log.warning("%s cannot be read, no unit is started from it: %s", self.path, error)
            return {}
