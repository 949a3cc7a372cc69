"""The files of a machine's units under /run: written whole or not at all, found again, removed."""

import errno
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kirsch.cluster.runtime.base import Prepared
from kirsch.cluster.runtime.systemd.files import (
    QUADLETS,
    RECORDS,
    UNITS,
    Record,
    Written,
    compose,
    credentials_folder,
    drop_in,
    environment_file,
    hosts_file,
    is_ours,
    original,
    record_file,
    unit_file,
)
from kirsch.unit import UnitError, UnitFile, UnitName

_TEMPORARY = ".kirsch-"
# Folders to which people write, and that come before /run/systemd/system and a generator's (systemd.unit(5)).
BEFORE = ("etc/systemd/system.control", "run/systemd/system.control", "etc/systemd/system")


@dataclass(frozen=True, slots=True)
class Found:
    """A unit that an earlier kirschd left: its record, and its file as it stands there."""

    name: UnitName
    record: Record
    file: UnitFile


class Disk:
    """Below `root`, the machine's file system. Its methods block; they raise OSError. `merges` is whether the
    machine's Quadlet reads drop-ins."""

    def __init__(self, root: Path, merges: bool = True) -> None:
        self._root = root
        self._merges = merges

    def open(self) -> None:
        """Make the folders, and remove what a write that was cut short has left."""
        (self._root / RECORDS).mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._root / RECORDS).chmod(0o700)
        for folder in (UNITS, QUADLETS):
            (self._root / folder).mkdir(mode=0o755, parents=True, exist_ok=True)
            for left in (self._root / folder).glob(f"**/{_TEMPORARY}*"):
                left.unlink(missing_ok=True)
        for left in (self._root / RECORDS).glob(f"**/{_TEMPORARY}*"):
            left.unlink(missing_ok=True)

    def found(self) -> Iterator[Found]:
        """The units that are ours: with a record, and with files that say so. What of a unit is left whose
        loading or unloading was cut short is removed."""
        for path in sorted((self._root / RECORDS).glob("*.json")):
            try:
                record = Record.parse(path.read_bytes())
                name = UnitName.parse(record.name)
            except (ValueError, OSError):
                path.unlink(missing_ok=True)
                continue
            data = self._read(unit_file(name))
            if data is None or not is_ours(self._read(drop_in(name))):
                self.remove(name)
                continue
            data = original(data)
            try:
                file = UnitFile.parse(data, name.text)
            except UnitError:
                file = UnitFile(data, name.text)  # somebody edited it; it is ours all the same
            yield Found(name, record, file)

    def write(self, prepared: Prepared, record: Record) -> bool:
        """Write those of a unit's files that are to be others: whether systemd has to read them. When that
        fails those that were there before stand as they were; none is new and none is half. Raises OSError:
        FileExistsError where another's file is there."""
        name = prepared.name
        path = self._root / unit_file(name)
        new = not os.path.lexists(path)
        if not new and not is_ours(self._read(drop_in(name))):
            raise FileExistsError(
                errno.EEXIST, "it is there already, and is not kirsch's: choose another name"
            )
        hosts = self._read("etc/hosts") or b""
        files = [Written(record_file(name), record.to_json(), 0o600)]
        files += compose(prepared, self._merges, hosts)
        changed = [file for file in files if self._read(file.path) != file.content]
        temporary: list[tuple[str, str]] = []
        try:
            for file in changed:
                temporary.append((self._write_aside(file), file.path))
            for aside, to in temporary:
                os.replace(aside, self._root / to)
        except OSError:
            for aside, _ in temporary:
                Path(aside).unlink(missing_ok=True)
            if new:
                self.remove(name)
            raise
        self._remove_credentials(name, keep={file.path for file in files})
        return any(file.path.startswith((UNITS, QUADLETS)) for file in changed)

    def hidden(self, service: str) -> str:
        """The file that systemd reads in place of one of ours; "" if there is none."""
        paths = (f"{folder}/{service}" for folder in BEFORE)
        return next((f"/{path}" for path in paths if os.path.lexists(self._root / path)), "")

    def record(self, records: Mapping[UnitName, Record]) -> dict[UnitName, OSError]:
        """Write units' records anew: for those that cannot be written, why."""
        errors = {}
        for name, record in records.items():
            file = Written(record_file(name), record.to_json(), 0o600)
            try:
                os.replace(self._write_aside(file), self._root / file.path)
            except OSError as error:
                errors[name] = error
        return errors

    def remove(self, name: UnitName) -> None:
        """Remove a unit's files, the record last. What was never written, or is another's, is let be."""
        if is_ours(self._read(drop_in(name))):
            self._unlink(unit_file(name))
            self._unlink(drop_in(name))
        try:
            (self._root / drop_in(name)).parent.rmdir()
        except OSError:
            pass  # there is none, or somebody put a drop-in of their own there
        self._unlink(environment_file(name))
        self._unlink(hosts_file(name))
        self._remove_credentials(name)
        self._unlink(record_file(name))

    def _remove_credentials(self, name: UnitName, keep: Collection[str] = ()) -> None:
        folder = self._root / credentials_folder(name)
        for path in folder.glob("*"):
            if f"{credentials_folder(name)}/{path.name}" not in keep:
                path.unlink(missing_ok=True)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)

    def _write_aside(self, file: Written) -> str:
        path = self._root / file.path
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        aside = path.with_name(f"{_TEMPORARY}{path.name}")
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, file.mode)
        try:
            with open(fd, "wb") as opened:
                os.fchmod(fd, file.mode)
                opened.write(file.content)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        return str(aside)

    def _read(self, path: str) -> bytes | None:
        try:
            return (self._root / path).read_bytes()
        except OSError:
            return None

    def _unlink(self, path: str) -> None:
        try:
            (self._root / path).unlink(missing_ok=True)
        except NotADirectoryError:
            pass
