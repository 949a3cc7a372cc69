"""Reading a unit file's directives one by one, so that none is passed over in silence."""

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from kirsch.unit import (
    Entry,
    UnitError,
    UnitFile,
    UnitName,
    expand,
    parse_boolean,
    parse_timespan,
    split_words,
)

PROCESS_SECTION = "X-Kirsch-Process"

T = TypeVar("T")
D = TypeVar("D")

# Without these the program would run as somebody else, see other files, or miss what it needs.
_REFUSED = """
    BindPaths BindReadOnlyPaths BusName DynamicUser ExitType ExtensionDirectories ExtensionImages
    ImportCredential LoadCredential LoadCredentialEncrypted MountImages NetworkNamespacePath PIDFile
    RootDirectory RootHash RootImage SetCredential SetCredentialEncrypted Sockets TemporaryFileSystem
"""
_NO = ("0", "no", "n", "false", "f", "off", "main")  # what says that a refused directive is not wanted

# [Unit]: words for people, and what service_file reads.
_UNIT_KNOWN = "Description Documentation SourcePath DefaultDependencies StartLimitBurst StartLimitIntervalSec"
# Targets are the machine's and reached before we run; other units are what Link= is for.
_ORDER = ("After", "Before", "Wants")
# [Container] keys that change what a program is given; a process gets that from its own section only.
_CONTAINER_ONLY = ("EnvironmentFile", "EnvironmentHost", "Secret")


class Directives:
    """The directives of one section. Reading methods check, and raise UnitError with file, line and column;
    what none of them has asked for is named by close()."""

    def __init__(self, name: UnitName, file: UnitFile, section: str, specifiers: Mapping[str, str]) -> None:
        self.name = name
        self.file = file
        self.section = section
        self.warnings: list[str] = []
        self._specifiers = specifiers
        self._read: set[str] = set()

    def of(self, section: str) -> "Directives":
        """Those of another section of the same file."""
        return Directives(self.name, self.file, section, self._specifiers)

    def specify(self, text: str) -> str:
        return expand(text, self.name, self._specifiers)

    def warn(self, entry: Entry | None, message: str) -> None:
        self.warnings.append(str(self.file.error(message, entry)))

    def warn_last(self, name: str, message: str) -> None:
        self.warn(self.file.get(self.section, name), message)

    def ignore(self, name: str) -> None:
        """It makes no difference here."""
        self._read.add(name)

    def entries(self, *names: str) -> list[Entry]:
        """The entries of these names that stand, in the file's order."""
        self._read.update(names)
        standing = [entry for name in names for entry in self.file.values(self.section, name)]
        return sorted(standing, key=lambda entry: entry.line)

    def parse(self, entry: Entry, parser: Callable[[str], T]) -> T:
        """`parser` of an entry's value; what it raises names the directive and its place."""
        try:
            return parser(entry.value)
        except UnitError as error:
            message = error.message
        except ValueError as error:
            message = str(error)
        raise self.file.error(f"{entry.name}=: {message}", entry)

    def last(self, name: str, parser: Callable[[str], T], default: D) -> T | D:
        """The last value that stands, or the default."""
        entries = self.entries(name)
        return self.parse(entries[-1], parser) if entries else default

    def text(self, name: str, default: str | None = None) -> str | None:
        return self.last(name, self.specify, default)

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        def check(text: str) -> str:
            if text not in choices:
                raise ValueError(f"{text!r} is none of {', '.join(choices)}")
            return text

        return self.last(name, check, default)

    def boolean(self, name: str, default: bool = False) -> bool:
        return self.last(name, parse_boolean, default)

    def integer(self, name: str, default: int, minimum: int, maximum: int) -> int:
        def check(text: str) -> int:
            if not re.fullmatch(r"-?[0-9]{1,10}", text) or not minimum <= int(text) <= maximum:
                raise ValueError(f"{text!r} is not a number from {minimum} to {maximum}")
            return int(text)

        return self.last(name, check, default)

    def span(self, name: str, default: float) -> float:
        """Seconds."""
        return self.last(name, parse_timespan, default)

    def words(self, name: str, check: Callable[[str], str] = str) -> tuple[str, ...]:
        """The words of all lines, quotes taken off before specifiers are expanded, each through `check`."""

        def split(text: str) -> list[str]:
            return [check(self.specify(word)) for word in split_words(text)]

        return tuple(word for entry in self.entries(name) for word in self.parse(entry, split))

    def close(self) -> None:
        """Warn of everything that was not read. Raises UnitError where running without it would be wrong."""
        for entry in self.file.entries(self.section):
            if entry.name in self._read or not entry.value:
                continue
            if entry.name not in _REFUSED.split():
                self.warn(entry, f"{entry.name}= is not honoured by the process runtime")
            elif entry.value.lower() not in _NO:
                message = f"{entry.name}= cannot be given to a plain process, and the unit needs it"
                raise self.file.error(message, entry)


def _is_reached(unit: str, file: UnitFile) -> bool:
    """Whether what After= names is there anyway: a target, or what the unit is linked to."""
    links = (word for entry in file.values("X-Kirsch", "Link") for word in entry.value.split())
    linked = {link.partition(":")[0] for link in links}
    return unit.endswith(".target") or not linked.isdisjoint((unit, unit.partition(".")[0]))


def check_other_sections(directives: Directives) -> None:
    """[Unit] and the rest: warn of what is not honoured. Raises UnitError for conditions: none is checked."""
    file = directives.file
    for entry in file.entries("Unit"):
        if not entry.value or entry.name in _UNIT_KNOWN.split():
            continue
        if entry.name in _ORDER:
            if units := [word for word in entry.value.split() if not _is_reached(word, file)]:
                unit = " ".join(units)
                directives.warn(
                    entry, f"{entry.name}={unit} is not honoured by the process runtime; see Link="
                )
            continue
        if entry.name.startswith(("Condition", "Assert")):
            raise file.error(f"{entry.name}= cannot be checked by the process runtime", entry)
        directives.warn(entry, f"{entry.name}= is not honoured by the process runtime")
    for name in _CONTAINER_ONLY:
        for entry in file.values("Container", name):
            directives.warn(
                entry,
                f"{name}= holds for the container only; the process has [{directives.section}]",
            )
    known = {"Unit", "Install", directives.section}
    if directives.name.type == "container":
        known |= {"Container", "Service", "Quadlet"}
    for section in file.sections:
        if section not in known and (not section.startswith("X-") or section == PROCESS_SECTION):
            first = next(iter(file.entries(section)), None)
            directives.warn(first, f"the section [{section}] is not honoured by the process runtime")
