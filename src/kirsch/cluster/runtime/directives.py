"""systemd's directives, and what each runtime does with them: one table, and how its values are read.

A directive that the table does not have is systemd's alone: the process runtime warns of it. The directives
are in [Service] of a .service and in [X-Kirsch-Process] of a Quadlet .container.
"""

import enum
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from kirsch.cluster.runtime.command_line import CommandLine, parse_command_lines
from kirsch.cluster.runtime.environment import EnvironmentFile, parse_assignment
from kirsch.cluster.runtime.known import mistake
from kirsch.cluster.runtime.status import Statuses, parse_signal
from kirsch.unit import (
    Entry,
    UnitError,
    UnitFile,
    UnitName,
    expand,
    parse_boolean,
    parse_size,
    parse_timespan,
    split_words,
)

PROCESS_SECTION = "X-Kirsch-Process"

T = TypeVar("T")


class Section:
    """One section of a unit file. Reading methods raise UnitError with file, line and column."""

    def __init__(self, name: UnitName, file: UnitFile, section: str, specifiers: Mapping[str, str]) -> None:
        self.name = name
        self.file = file
        self.section = section
        self.warnings: list[str] = []
        self._specifiers = specifiers

    def sibling(self, section: str) -> "Section":
        """Return another section of the same file."""
        return Section(self.name, self.file, section, self._specifiers)

    def specify(self, text: str) -> str:
        """Expand the specifiers of a text (systemd.unit(5), "Specifiers")."""
        return expand(text, self.name, self._specifiers)

    def warn(self, entry: Entry | None, message: str) -> None:
        """Add a warning that names the entry's place."""
        self.warnings.append(str(self.file.error(message, entry)))

    def warn_of_name(self, entry: Entry, message: str) -> None:
        """Add a warning at the entry's name."""
        self.warnings.append(str(UnitError(message, self.file.file, entry.line, entry.name_column)))

    def entries(self, *names: str) -> list[Entry]:
        """Return the entries of these names in the file's order, those before an empty reset left out."""
        standing = [entry for name in names for entry in self.file.values(self.section, name)]
        return sorted(standing, key=lambda entry: entry.line)

    def parse(self, entry: Entry, parser: Callable[[str], T]) -> T:
        """Apply `parser` to an entry's value; errors name the directive and its place."""
        try:
            return parser(entry.value)
        except UnitError as error:
            message = error.message
        except ValueError as error:
            message = str(error)
        raise self.file.error(f"{entry.name}=: {message}", entry)

    def last(self, name: str, parser: Callable[[str], T]) -> T | None:
        """Return the last value, None where the directive is not set."""
        entries = self.entries(name)
        return self.parse(entries[-1], parser) if entries else None

    def text(self, name: str) -> str | None:
        """Return the last value with its specifiers expanded."""
        return self.last(name, self.specify)

    def words(self, entries: Sequence[Entry], check: Callable[[str], T]) -> list[T]:
        """Split values into words, quotes removed before specifiers are expanded, each through `check`."""

        def split(text: str) -> list[T]:
            return [check(self.specify(word)) for word in split_words(text)]

        return [word for entry in entries for word in self.parse(entry, split)]


# Readers: from a directive's entries, of which there is at least one, to the value of a field of Service.

Reader = Callable[[Section, Sequence[Entry]], Any]


def _last(parser: Callable[[str], Any]) -> Reader:
    return lambda section, entries: section.parse(entries[-1], parser)


def _text(section: Section, entries: Sequence[Entry]) -> str:
    return section.parse(entries[-1], section.specify)


def _words(section: Section, entries: Sequence[Entry]) -> tuple[str, ...]:
    return tuple(section.words(entries, str))


def _assignments(section: Section, entries: Sequence[Entry]) -> dict[str, str]:
    return dict(section.words(entries, parse_assignment))


def _commands(section: Section, entries: Sequence[Entry]) -> tuple[CommandLine, ...]:
    relative = section.section == PROCESS_SECTION
    name = entries[0].name

    def parser(text: str) -> list[CommandLine]:
        return parse_command_lines(name, text, section.specify, relative=relative)

    return tuple(command for entry in entries for command in section.parse(entry, parser))


def _statuses(section: Section, entries: Sequence[Entry]) -> Statuses:
    total = Statuses()
    for entry in entries:
        total |= section.parse(entry, lambda text: Statuses.parse(text.split()))
    return total


def _environment_files(section: Section, entries: Sequence[Entry]) -> tuple[EnvironmentFile, ...]:
    return tuple(EnvironmentFile(*read_path(section, entry)) for entry in entries)


def read_path(section: Section, entry: Entry) -> tuple[str, bool]:
    """Read a path, and whether a leading "-" allows it to be missing.

    A relative one, below the runtime's folder, is for [X-Kirsch-Process] only: systemd would refuse it.
    """

    def parser(text: str) -> tuple[str, bool]:
        path = section.specify(text.removeprefix("-"))
        if not path.startswith(("/", "~")) and section.section != PROCESS_SECTION:
            raise ValueError(f"not an absolute path: {path}")
        return path, text.startswith("-")

    return section.parse(entry, parser)


def parse_mode(text: str) -> int:
    """Parse an octal mode."""
    if not re.fullmatch(r"[0-7]{1,5}", text):
        raise ValueError(f"not an octal mode: {text}")
    return int(text, 8)


def limit_parser(parse: Callable[[str], int]) -> Callable[[str], tuple[int, int]]:
    """Make a parser of a resource limit's soft and hard value; -1 is infinity."""

    def pair(text: str) -> tuple[int, int]:
        soft, _, hard = text.partition(":")
        values = [-1 if word == "infinity" else parse(word) for word in (soft, hard or soft)]
        return values[0], values[1]

    return pair


def choice(*choices: str) -> Callable[[str], str]:
    """Make a parser that accepts these words only."""

    def check(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}")
        return text

    return check


def _integer(minimum: int, maximum: int) -> Reader:
    def check(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,10}", text) or not minimum <= int(text) <= maximum:
            raise ValueError(f"{text!r} is not a number from {minimum} to {maximum}")
        return int(text)

    return _last(check)


def _preserve(text: str) -> str:
    if text == "restart":
        return text
    return "yes" if parse_boolean(text) else "no"


def _private_tmp(text: str) -> bool:
    return text == "disconnected" or parse_boolean(text)


def _protect_system(text: str) -> str:
    if text in ("full", "strict"):
        return text
    return "yes" if parse_boolean(text) else "no"


def _paths(section: Section, entries: Sequence[Entry]) -> tuple[str, ...]:
    def check(word: str) -> str:
        path = word.lstrip("-+")
        if not path.startswith("/"):
            raise ValueError(f"not an absolute path: {path}")
        return path

    return tuple(section.words(entries, check))


def _resource_limit(parse: Callable[[str], int]) -> Callable[[str], str]:
    """Make a parser of a limit that systemd is given as it stands: a number, a percentage, or infinity."""

    def check(text: str) -> str:
        if text != "infinity" and not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,2})?%", text):
            parse(text)
        return text

    return check


_memory_limit, _tasks_limit = _resource_limit(parse_size), _resource_limit(int)


class InProcess(enum.Enum):
    """Treatment of a directive by the process runtime."""

    HONOURED = enum.auto()
    MOOT = enum.auto()  # it makes no difference to a plain process
    WARNED = enum.auto()  # the unit runs without it
    REFUSED = enum.auto()  # the program would run as somebody else, see other files, or miss what it needs


class Beside(enum.Flag):
    """Use of a directive by the systemd runtime for a command beside a unit; the unit itself is systemd's."""

    NONE = 0
    # A transient unit gets the property too, as systemd has it of the running service.
    TRANSIENT = enum.auto()
    # `kirsch run` reads it from the file of a unit that need not run.
    CONTEXT = enum.auto()
    BOTH = TRANSIENT | CONTEXT


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive of systemd's."""

    name: str
    process: InProcess = InProcess.HONOURED
    # Field of Service that it sets, and how; empty where several directives make one value (see service.py).
    field: str = ""
    read: Reader | None = None
    beside: Beside = Beside.NONE
    property: str = ""  # its name on D-Bus, where that is another


def _sets(name: str, field: str, read: Reader, beside: Beside = Beside.NONE, property: str = "") -> Directive:
    return Directive(name, InProcess.HONOURED, field, read, beside, property)


def _all(names: str, process: InProcess, beside: Beside = Beside.NONE) -> tuple[Directive, ...]:
    return tuple(Directive(name, process, beside=beside) for name in names.split())


_RESTARTS = ("no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog")
# Resource limits (setrlimit(2)) that are sizes, and those that are numbers.
_SIZES = ("FSIZE", "DATA", "STACK", "CORE", "RSS", "AS", "MEMLOCK", "MSGQUEUE")
_COUNTS = ("NOFILE", "NPROC", "SIGPENDING", "RTPRIO")
LIMITS = dict.fromkeys(_SIZES, limit_parser(parse_size)) | dict.fromkeys(_COUNTS, limit_parser(int))
LIMITS["CPU"] = limit_parser(lambda text: math.ceil(parse_timespan(text)))

_SERVICE = (
    # systemd.service(5)
    *_all("Type TimeoutSec TimeoutStartSec TimeoutStopSec TimeoutAbortSec", InProcess.HONOURED),
    *_all("WatchdogSec NotifyAccess", InProcess.HONOURED),
    _sets("ExecCondition", "condition", _commands),
    _sets("ExecStartPre", "start_pre", _commands),
    _sets("ExecStart", "start", _commands),
    _sets("ExecStartPost", "start_post", _commands),
    _sets("ExecReload", "reload", _commands),
    _sets("ExecStop", "stop", _commands),
    _sets("ExecStopPost", "stop_post", _commands),
    _sets("RemainAfterExit", "remain_after_exit", _last(parse_boolean)),
    _sets("Restart", "restart", _last(choice(*_RESTARTS))),
    _sets("RestartSec", "restart_delay", _last(parse_timespan)),
    _sets("RestartPreventExitStatus", "restart_prevent", _statuses),
    _sets("RestartForceExitStatus", "restart_force", _statuses),
    _sets("SuccessExitStatus", "success", _statuses),
    *_all("BusName ExitType PIDFile Sockets", InProcess.REFUSED),
    # systemd.kill(5)
    Directive("KillMode"),
    _sets("KillSignal", "kill_signal", _last(parse_signal)),
    _sets("FinalKillSignal", "final_kill_signal", _last(parse_signal)),
    _sets("WatchdogSignal", "watchdog_signal", _last(parse_signal)),
    _sets("SendSIGKILL", "send_sigkill", _last(parse_boolean)),
    _sets("SendSIGHUP", "send_sighup", _last(parse_boolean)),
    # systemd.exec(5): environment, user, folders, limits, output
    _sets("Environment", "environment", _assignments, Beside.BOTH),
    _sets("EnvironmentFile", "environment_files", _environment_files, Beside.BOTH, "EnvironmentFiles"),
    _sets("PassEnvironment", "pass_environment", _words, Beside.TRANSIENT),
    _sets("UnsetEnvironment", "unset_environment", _words, Beside.BOTH),
    Directive("WorkingDirectory", beside=Beside.BOTH),
    _sets("User", "user", _text, Beside.BOTH),
    _sets("Group", "group", _text, Beside.BOTH),
    _sets("UMask", "umask", _last(parse_mode), Beside.BOTH),
    _sets("Nice", "nice", _integer(-20, 19), Beside.BOTH),
    *_all("LimitFSIZE LimitDATA LimitSTACK LimitCORE LimitAS", InProcess.HONOURED, Beside.BOTH),
    *_all("LimitMEMLOCK LimitNOFILE LimitNPROC", InProcess.HONOURED, Beside.BOTH),
    *_all("LimitRSS LimitMSGQUEUE LimitSIGPENDING LimitRTPRIO LimitCPU", InProcess.HONOURED, Beside.CONTEXT),
    _sets("OOMScoreAdjust", "oom_score", _integer(-1000, 1000)),
    *_all("RuntimeDirectory StateDirectory CacheDirectory LogsDirectory", InProcess.HONOURED),
    *_all("RuntimeDirectoryMode StateDirectoryMode CacheDirectoryMode", InProcess.HONOURED),
    Directive("LogsDirectoryMode"),
    _sets("RuntimeDirectoryPreserve", "runtime_directory_preserve", _last(_preserve)),
    *_all("StandardInput StandardOutput StandardError", InProcess.HONOURED),
    Directive("SyslogIdentifier", InProcess.MOOT),
    # systemd.exec(5), "Sandboxing" and "Credentials"
    *_all("BindPaths BindReadOnlyPaths RootDirectory RootImage", InProcess.REFUSED, Beside.TRANSIENT),
    Directive("TemporaryFileSystem", InProcess.REFUSED, beside=Beside.TRANSIENT),
    *_all("DynamicUser ExtensionDirectories ExtensionImages ImportCredential", InProcess.REFUSED),
    *_all("LoadCredential LoadCredentialEncrypted MountImages", InProcess.REFUSED),
    *_all("NetworkNamespacePath RootHash SetCredential SetCredentialEncrypted", InProcess.REFUSED),
    _sets("NoNewPrivileges", "no_new_privileges", _last(parse_boolean), Beside.TRANSIENT),
    # An empty one takes all capabilities away; others are warned of (see service.py).
    Directive("CapabilityBoundingSet", beside=Beside.TRANSIENT),
    # Where the kernel lets us have mounts of our own; else the runtime warns of them.
    _sets("PrivateTmp", "private_tmp", _last(_private_tmp), Beside.TRANSIENT),
    _sets("ProtectSystem", "protect_system", _last(_protect_system), Beside.TRANSIENT),
    _sets("ReadOnlyPaths", "read_only_paths", _paths, Beside.TRANSIENT),
    _sets("ReadWritePaths", "read_write_paths", _paths, Beside.TRANSIENT),
    *_all("AmbientCapabilities", InProcess.WARNED, Beside.TRANSIENT),
    *_all("LockPersonality MemoryDenyWriteExecute", InProcess.WARNED, Beside.TRANSIENT),
    *_all("SystemCallArchitectures SystemCallFilter", InProcess.WARNED, Beside.TRANSIENT),
    *_all("RestrictAddressFamilies RestrictNamespaces", InProcess.WARNED, Beside.TRANSIENT),
    *_all("RestrictRealtime RestrictSUIDSGID", InProcess.WARNED, Beside.TRANSIENT),
    *_all("PrivateDevices PrivateMounts PrivateNetwork", InProcess.WARNED, Beside.TRANSIENT),
    *_all("PrivateUsers ProcSubset ProtectClock", InProcess.WARNED, Beside.TRANSIENT),
    *_all("ProtectControlGroups ProtectHome ProtectHostname", InProcess.WARNED, Beside.TRANSIENT),
    *_all("ProtectKernelLogs ProtectKernelModules ProtectKernelTunables", InProcess.WARNED, Beside.TRANSIENT),
    *_all("ProtectProc", InProcess.WARNED, Beside.TRANSIENT),
    *_all("ExecPaths NoExecPaths InaccessiblePaths", InProcess.WARNED, Beside.TRANSIENT),
    *_all("Slice SupplementaryGroups", InProcess.WARNED, Beside.TRANSIENT),
    # systemd.resource-control(5): where systemd can make a control group for us.
    _sets("MemoryMax", "memory_max", _last(_memory_limit)),
    _sets("TasksMax", "tasks_max", _last(_tasks_limit)),
)
_UNIT = (
    # systemd.unit(5). Targets are the machine's and reached before we run; other units are what Link= is for.
    _sets("Description", "description", _text),
    _sets("StartLimitBurst", "start_limit_burst", _integer(0, 1_000_000)),
    _sets("StartLimitIntervalSec", "start_limit_interval", _last(parse_timespan)),
    *_all("Documentation SourcePath DefaultDependencies", InProcess.MOOT),
)
# Keys of [Container] that change what a program is given; a process gets that from its own section only.
CONTAINER_ONLY = ("EnvironmentFile", "EnvironmentHost", "Secret")

SERVICE: Mapping[str, Directive] = {each.name: each for each in _SERVICE}
UNIT: Mapping[str, Directive] = {each.name: each for each in _UNIT}
# D-Bus properties of a service that a transient unit is given too (org.freedesktop.systemd1(5)). Folders of
# RuntimeDirectory= are not among them: they would be removed with the transient unit.
TRANSIENT = frozenset(each.property or each.name for each in _SERVICE if Beside.TRANSIENT in each.beside)
CONTEXT = frozenset(each.name for each in _SERVICE if Beside.CONTEXT in each.beside)


def read_fields(section: Section, table: Mapping[str, Directive]) -> dict[str, Any]:
    """Read the fields of Service that one directive each sets; fields of directives not set are left out."""
    return {
        each.field: each.read(section, entries)
        for each in table.values()
        if each.read and (entries := section.entries(each.name))
    }


# Values of a refused directive that ask for what a plain process has anyway.
_NOT_WANTED = ("0", "no", "n", "false", "f", "off", "main")


def check_service_section(section: Section) -> None:
    """Warn of directives that are not honoured. Raises UnitError where running without one would be wrong."""
    for entry in section.file.entries(section.section):
        directive = SERVICE.get(entry.name, Directive(entry.name, InProcess.WARNED))
        if words := mistake(entry):
            section.warn_of_name(entry, words)
        elif not entry.value:
            continue
        elif directive.process is InProcess.WARNED:
            section.warn(entry, f"{entry.name}= is not honoured by the process runtime")
        elif directive.process is InProcess.REFUSED and entry.value.lower() not in _NOT_WANTED:
            message = f"{entry.name}= cannot be given to a plain process, and the unit needs it"
            raise section.file.error(message, entry)


def check_other_sections(section: Section) -> None:
    """Warn of what is not honoured in [Unit] and elsewhere. Raises UnitError for conditions, as none is
    checked."""
    file = section.file
    for entry in file.entries("Unit"):
        if words := mistake(entry):
            section.warn_of_name(entry, words)
        elif entry.value and entry.name not in UNIT:
            _check_unit_directive(section, entry)
    for name in CONTAINER_ONLY:
        for entry in file.values("Container", name):
            message = f"{name}= holds for the container only; the process has [{section.section}]"
            section.warn(entry, message)
    known = {"Unit", "Install", section.section}
    if section.name.type == "container":
        known |= {"Container", "Service", "Quadlet"}
    for each in file.sections:
        if each not in known and (not each.startswith("X-") or each == PROCESS_SECTION):
            first = next(iter(file.entries(each)), None)
            section.warn(first, f"the section [{each}] is not honoured by the process runtime")


def _check_unit_directive(section: Section, entry: Entry) -> None:
    if entry.name.startswith(("Condition", "Assert")):
        raise section.file.error(f"{entry.name}= cannot be checked by the process runtime", entry)
    if entry.name not in ("After", "Before", "Wants"):
        section.warn(entry, f"{entry.name}= is not honoured by the process runtime")
    elif units := [word for word in entry.value.split() if not _is_reached(word, section.file)]:
        message = f"{entry.name}={' '.join(units)} is not honoured by the process runtime; see Link="
        section.warn(entry, message)


def _is_reached(unit: str, file: UnitFile) -> bool:
    """True for what is there anyway: a target, or a unit that this one is linked to."""
    links = (word for entry in file.values("X-Kirsch", "Link") for word in entry.value.split())
    linked = {link.partition(":")[0] for link in links}
    return unit.endswith(".target") or not linked.isdisjoint((unit, unit.partition(".")[0]))
