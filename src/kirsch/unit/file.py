"""Unit files: text to values and back, every byte kept."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from kirsch.unit.error import UnitError
from kirsch.unit.name import QUADLET_TYPES
from kirsch.unit.syntax import WHITESPACE, Entry, is_utf8, parse_entries


class Option(NamedTuple):
    """One assignment as fleet's API has it: the value as written, its continuations not joined."""

    section: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class UnitFile:
    """A unit file as it was read; make one with `parse`. Two are equal when their bytes are.

    `file` names it in errors, and its ending says whether Quadlet reads it. `sections` are in order of
    first appearance; one that appears twice is one.
    """

    data: bytes
    file: str = field(default="", compare=False)
    sections: tuple[str, ...] = field(default=(), compare=False, repr=False)
    _entries: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict, compare=False, repr=False)
    _order: tuple[Entry, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def parse(cls, data: bytes | str, file: str = "") -> "UnitFile":
        """Read a unit file. Bytes that are not UTF-8 are kept, as surrogates, in names and values.

        Raises UnitError on what systemd would warn of and pass over: an assignment outside a section, a
        line that is no assignment, section or comment, an unfinished section header, a line above 1 MiB.
        """
        data = to_bytes(data, file) if isinstance(data, str) else bytes(data)
        quadlet = file.rpartition(".")[2] in QUADLET_TYPES
        sections, order = parse_entries(data.decode("utf-8", "surrogateescape"), file, quadlet=quadlet)
        grouped: dict[str, list[Entry]] = {section: [] for section in sections}
        for entry in order:
            grouped[entry.section].append(entry)
        entries = {section: tuple(listed) for section, listed in grouped.items()}
        return cls(data, file, sections, entries, order)

    @classmethod
    def from_options(cls, options: Iterable[tuple[str, str, str]], file: str = "") -> "UnitFile":
        """Write a unit file from (section, name, value) triples, as fleet does.

        Raises UnitError if it would not read back as the same options (a line break in a value, say).
        """
        wanted = _grouped(Option(*option) for option in options)
        made = cls.parse(_serialize(wanted), file)
        for read, option in zip(made.options, wanted, strict=False):
            if read[:2] != option[:2] or read.value.strip(WHITESPACE) != option.value.strip(WHITESPACE):
                place = f"[{option.section}] {option.name}"
                raise UnitError(f"option {place} cannot be written as an assignment", file)
        if len(made.options) != len(wanted):
            raise UnitError("an option's value holds a line break without a backslash before it", file)
        return made

    def __bytes__(self) -> bytes:
        return self.data

    @property
    def text(self) -> str:
        """The whole file, as `to_text` makes it."""
        return to_text(self.data)

    @property
    def options(self) -> tuple[Option, ...]:
        """Every assignment in order, as fleet's API has them."""
        return tuple(Option(entry.section, entry.name, entry.source) for entry in self._order)

    @property
    def hash(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def fleet_hash(self) -> str:
        """SHA-1, in hexadecimal, of the file written again from its options: what fleetctl shows."""
        text = _serialize(self.options).encode("utf-8", "surrogateescape")
        return hashlib.sha1(text, usedforsecurity=False).hexdigest()

    def has(self, section: str) -> bool:
        """True if the section is there, even with nothing in it."""
        return section in self._entries

    def entries(self, section: str) -> tuple[Entry, ...]:
        """Every assignment of a section, in order; none if it is not there."""
        return self._entries.get(section, ())

    def values(self, section: str, name: str) -> tuple[Entry, ...]:
        """Return the assignments to `name` that hold: an empty one resets all before it."""
        standing: list[Entry] = []
        for entry in self.entries(section):
            if entry.name == name and entry.value:
                standing.append(entry)
            elif entry.name == name:
                standing.clear()
        return tuple(standing)

    def get(self, section: str, name: str) -> Entry | None:
        """Return the last assignment to `name` that holds."""
        standing = self.values(section, name)
        return standing[-1] if standing else None

    def check_encoding(self) -> None:
        """Raise UnitError at the first section, name or value that is not UTF-8: comments may be anything."""
        for entry in self._order:
            if not is_utf8(entry.section + entry.name + entry.value):
                raise UnitError(f"{entry.name}= is not UTF-8", self.file, entry.line, entry.column)
        if not all(map(is_utf8, self.sections)):
            raise UnitError("a section's name is not UTF-8", self.file)

    def error(self, message: str, entry: Entry | None = None) -> UnitError:
        """Return an error at the value of an entry in this file."""
        if entry is None:
            return UnitError(message, self.file)
        return UnitError(message, self.file, entry.line, entry.column)

    @contextmanager
    def at(self, entry: Entry) -> Iterator[None]:
        """Give every UnitError raised inside, which knows no line, the place of this entry's value."""
        try:
            yield
        except UnitError as error:
            if error.line is not None:
                raise
            raise self.error(f"{entry.name}: {error.message}", entry) from None


def to_text(data: bytes) -> str:
    """Return a unit file as text for JSON and the registry; one that is not UTF-8 as a NUL, which no unit
    file has, and a character for each byte (Latin-1)."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"\0{data.decode('latin-1')}"


def to_bytes(text: str, file: str = "") -> bytes:
    """Undo `to_text`. Raises UnitError."""
    try:
        return text[1:].encode("latin-1") if text[:1] == "\0" else text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UnitError(f"not text: a lone surrogate at character {error.start + 1}", file) from None


def _grouped(options: Iterable[Option]) -> list[Option]:
    """Options sorted by section, sections in order of first appearance."""
    sections: dict[str, list[Option]] = {}
    for option in options:
        sections.setdefault(option.section, []).append(option)
    return [option for listed in sections.values() for option in listed]


def _serialize(options: Iterable[Option]) -> str:
    """The bytes fleet hashes (go-systemd's Serialize, as fleet 1.0 vendors it)."""
    blocks: dict[str, list[str]] = {}
    for section, name, value in options:
        blocks.setdefault(section, [f"[{section}]\n"]).append(f"{name}={value}\n")
    return "\n".join("".join(lines) for lines in blocks.values())
