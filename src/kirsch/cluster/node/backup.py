"""Backup of a cluster: what people put into the registry, without what machines say, and its return to
another.

Secrets stay sealed. Each machine that keeps etcd makes one a night, and keeps those of three.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kirsch.cluster.model import NAME, Cluster, Release, UnitRecord, keys
from kirsch.cluster.model.certificates import PEOPLE, Issued
from kirsch.cluster.node.units import Refused
from kirsch.cluster.registry.base import Entry
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.secrets.files import write_file
from kirsch.unit import UnitError, UnitName

log = logging.getLogger(__name__)

# In the order in which they are written again: units come last, when all that they use is there.
KINDS = (
    keys.TEXTS,
    keys.SECRETS,
    keys.MACHINE_SETTINGS,
    keys.HOMES,
    keys.CERTIFICATES,
    keys.APPLICATIONS,
    keys.RELEASES,
    keys.UNITS,
)
# Characters of a part, as a request may have 4 MiB; and keys, as a transaction has few.
PART, PART_KEYS = 1 << 20, 1000
KEPT, INTERVAL, LATER = 3, 24 * 3600.0, 900.0


@dataclass(frozen=True, slots=True)
class Backup:
    """Contents of the registry, at a time (seconds since the epoch), and the names of machines by id. `keys`
    are files of the folder of whoever made the cluster, sealed with a passphrase, and `salt` is the
    passphrase's; both are empty in one that a machine made."""

    cluster: str
    made: float
    machines: Mapping[str, str]
    entries: Mapping[str, str]
    salt: str = ""
    keys: str = ""

    def to_json(self) -> str:
        """Return the text of the file."""
        return json.dumps({"kirsch": 1, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def parse(cls, text: str) -> "Backup":
        """Read the text of a file. Raises ValueError."""
        try:
            values: dict[str, Any] = json.loads(text)
            version = values.pop("kirsch")
            if version != 1:
                raise ValueError(f"it has format {version}, and this kirsch reads 1: use a newer one")
            return cls(**values)
        except (KeyError, TypeError, AttributeError):
            raise ValueError("it is no backup of a cluster") from None


def taken(mirror: Mirror, cluster: Cluster, name: str) -> Backup:
    """Return a backup of the registry as it is known now."""
    entries = {entry.key: entry.value for kind in KINDS for entry in mirror.below(kind) if lasting(entry)}
    machines = {id: machine.metadata.get(NAME, "") for id, machine in cluster.machines.items()}
    return Backup(name, time.time(), machines, entries)


def lasting(entry: Entry) -> bool:
    """Return True unless an entry is of machines that will be others: releases under way, certificates.
    Pure."""
    match keys.kind(entry.key):
        case keys.RELEASES:
            return Release.parse(entry.value).over
        case keys.CERTIFICATES:
            issued = Issued.parse(entry.value)
            return issued.role in PEOPLE and not issued.revoked
        case _:
            return True


def moved(entries: Mapping[str, str], before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return the entries for machines of the same names: `before` are names by ids, `now` ids by names. What
    is about a machine that has no successor is left out. Pure."""
    successors = {id: now[name] for id, name in before.items() if name in now}
    found = {}
    for key, value in entries.items():
        match keys.kind(key):
            case keys.MACHINE_SETTINGS:
                if (successor := successors.get(keys.last(key))) is not None:
                    found[keys.machine_settings(successor)] = value
            case keys.HOMES:
                if (successor := successors.get(value)) is not None:
                    found[key] = successor
            case _:
                found[key] = value
    return found


def parts(entries: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield the entries in the order of KINDS, each part small enough for a request. Pure."""
    ordered = sorted(entries.items(), key=lambda item: (KINDS.index(keys.kind(item[0])), item[0]))
    part: dict[str, str] = {}
    size = 0
    for key, value in ordered:
        if part and (size + len(key) + len(value) > PART or len(part) >= PART_KEYS):
            yield part
            part, size = {}, 0
        part[key] = value
        size += len(key) + len(value)
    if part:
        yield part


def check(entries: Mapping[str, Any]) -> None:
    """Raises Refused (400) for entries that no kirsch wrote: what reads the registry relies on it. Pure."""
    for key, value in entries.items():
        try:
            if not isinstance(value, str) or not key.startswith(KINDS) or not keys.last(key):
                raise ValueError
            _parse(key, value)
        except (UnitError, ValueError, LookupError, TypeError, AttributeError):
            raise Refused(400, f"{key} is nothing that a backup has") from None


def _parse(key: str, value: str) -> None:
    match keys.kind(key):
        case keys.UNITS:
            UnitName.parse(keys.last(key))
            UnitRecord.parse(value)
        case keys.RELEASES:
            int(keys.pair(key).second)
            Release.parse(value)
        case keys.CERTIFICATES:
            Issued.parse(value)
        case keys.HOMES:
            UnitName.parse(keys.last(key))
        case keys.SECRETS | keys.MACHINE_SETTINGS | keys.APPLICATIONS:
            if not isinstance(json.loads(value), dict):
                raise ValueError
        case keys.TEXTS:
            pass
        case _:
            raise ValueError


class Nightly:
    """Backups of one machine, in a folder that only root reads: one a day while wanted, the last three."""

    def __init__(self, folder: Path, cluster: str, wanted: Callable[[], bool]) -> None:
        self.folder = folder
        self.cluster = cluster
        self.wanted = wanted

    async def run(self, mirror: Mirror, now: Callable[[], Cluster]) -> None:
        """Make them until cancelled; `now` returns the cluster as it is known."""
        while True:
            pause = self.newest() + INTERVAL - time.time() if self.wanted() else LATER
            if pause <= 0:
                pause = INTERVAL
                try:
                    self.make(taken(mirror, now(), self.cluster))
                except OSError as error:
                    log.warning("there is no backup of this night: %s", error)
                    pause = LATER
            await asyncio.sleep(pause)

    def make(self, backup: Backup) -> Path:
        """Write a backup, whole or not at all, and remove those before the last three. Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{datetime.fromtimestamp(backup.made, UTC):%Y-%m-%dT%H%M%SZ}.json"
        write_file(path, backup.to_json().encode())
        for old in self._made()[:-KEPT]:
            old.unlink(missing_ok=True)
        return path

    def _made(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))

    def newest(self) -> float:
        """Return when the last was made, in seconds since the epoch; 0 where there is none."""
        made = self._made()
        try:
            return made[-1].stat().st_mtime if made else 0.0
        except OSError:
            return 0.0
