"""A service: how to run a unit as a plain process, and how that is read from its file. Pure.

Words, meaning and defaults are those of systemd.service(5), systemd.exec(5) and systemd.kill(5).
"""

import math
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kirsch.cluster.runtime.command_line import CommandLine
from kirsch.cluster.runtime.directives import (
    LIMITS,
    PROCESS_SECTION,
    SERVICE,
    UNIT,
    Section,
    check_other_sections,
    check_service_section,
    choice,
    parse_mode,
    read_fields,
    read_path,
)
from kirsch.cluster.runtime.environment import EnvironmentFile
from kirsch.cluster.runtime.known import mistake
from kirsch.cluster.runtime.status import Statuses
from kirsch.unit import Options, UnitError, UnitFile, UnitName, parse_timespan

NONE = Statuses()

Limits = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Directory:
    """A folder made before the unit starts: `path` below the runtime's folder of that `kind`."""

    kind: str  # state, runtime, cache, logs
    path: str
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Service:
    """Everything needed to run a unit. Times are seconds; math.inf is no limit."""

    name: UnitName
    description: str = ""
    type: str = "simple"
    condition: tuple[CommandLine, ...] = ()
    start_pre: tuple[CommandLine, ...] = ()
    start: tuple[CommandLine, ...] = ()
    start_post: tuple[CommandLine, ...] = ()
    reload: tuple[CommandLine, ...] = ()
    stop: tuple[CommandLine, ...] = ()
    stop_post: tuple[CommandLine, ...] = ()
    remain_after_exit: bool = False

    environment: Mapping[str, str] = field(default_factory=dict)
    environment_files: tuple[EnvironmentFile, ...] = ()
    pass_environment: tuple[str, ...] = ()
    unset_environment: tuple[str, ...] = ()
    working_directory: str | None = None
    working_directory_optional: bool = False
    user: str | None = None
    group: str | None = None
    umask: int = 0o022
    nice: int = 0
    limits: Limits = field(default_factory=dict)
    oom_score: int | None = None
    no_new_privileges: bool = False
    no_capabilities: bool = False
    private_tmp: bool = False
    protect_system: str = "no"  # yes, full, strict
    read_only_paths: tuple[str, ...] = ()
    read_write_paths: tuple[str, ...] = ()
    memory_max: str = "infinity"
    tasks_max: str = "infinity"
    directories: tuple[Directory, ...] = ()
    runtime_directory_preserve: str = "no"
    standard_output: str = "journal"
    standard_error: str = "journal"
    # Goes before a command that is to run where the unit's processes are.
    inside: tuple[str, ...] = ()

    restart: str = "no"
    restart_delay: float = 0.1
    restart_prevent: Statuses = NONE
    restart_force: Statuses = NONE
    success: Statuses = NONE
    start_limit_burst: int = 5
    start_limit_interval: float = 10.0

    timeout_start: float = 90.0
    timeout_stop: float = 90.0
    timeout_abort: float = 90.0
    kill_mode: str = "control-group"
    kill_signal: int = signal.SIGTERM
    final_kill_signal: int = signal.SIGKILL
    watchdog_signal: int = signal.SIGABRT
    send_sigkill: bool = True
    send_sighup: bool = False
    notify_access: str = "none"
    watchdog: float = math.inf

    @property
    def isolation(self) -> tuple[str, ...]:
        """Directives that are set and need mounts of the unit's own."""
        wanted = {
            "PrivateTmp": self.private_tmp,
            "ProtectSystem": self.protect_system != "no",
            "ReadOnlyPaths": self.read_only_paths,
        }
        return tuple(name for name, value in wanted.items() if value)

    @property
    def resources(self) -> tuple[str, ...]:
        """Properties of the unit's control group, as systemd.resource-control(5) has them."""
        wanted = {"MemoryMax": self.memory_max, "TasksMax": self.tasks_max}
        return tuple(f"{name}={value}" for name, value in wanted.items() if value != "infinity")

    @property
    def label(self) -> str:
        """Name and description, as systemd's log has them."""
        return f"{self.name} - {self.description}" if self.description else self.name.text


TYPES = ("simple", "exec", "oneshot", "notify")
_OTHER_TYPES = {
    "forking": "a daemon that forks away cannot be told from one that ended; let it run in the foreground",
    "dbus": "there is no D-Bus to wait for",
}
KILL_MODES = ("control-group", "mixed", "process", "none")
# Addresses on which a published port is reachable from this machine.
_LOCAL = (None, "127.0.0.1", "0.0.0.0")  # noqa: S104 the words of a unit file; nothing is bound to them


def read_service(
    name: UnitName, file: UnitFile, specifiers: Mapping[str, str] | None = None
) -> tuple[Service, list[str]]:
    """Read the service of a unit file, and a warning for each directive that is not honoured.

    `specifiers` are the letters that do not come from the name (%t, %S, %h, …). Raises UnitError for a file
    that cannot be run as a plain process, or would be wrong to.
    """
    section = Section(name, file, _section(name, file), specifiers or {})
    kind = _read_type(section)
    fields = {
        "type": kind,
        **read_fields(section, SERVICE),
        **read_fields(section.sibling("Unit"), UNIT),
        **_read_working_directory(section),
        "limits": _read_limits(section),
        "no_capabilities": _read_capabilities(section),
        "directories": _read_directories(section),
        **_read_outputs(section),
        **_read_timeouts(section, kind),
        "kill_mode": _read_kill_mode(section),
        **_read_notification(section, kind),
    }
    if name.type == "container":
        # Environment= of [Container] holds for both ways to run.
        common = read_fields(section.sibling("Container"), {"Environment": SERVICE["Environment"]})
        fields["environment"] = common.get("environment", {}) | fields.get("environment", {})
    service = Service(name=name, **fields)
    _check_combinations(service, section)
    check_service_section(section)
    check_other_sections(section)
    return service, section.warnings


def read_podman_service(
    name: UnitName, file: UnitFile, specifiers: Mapping[str, str] | None = None
) -> tuple[Service, list[str]]:
    """Read what a container's file says of its service, and warnings; its commands are podman's affair.

    Raises UnitError as read_service does.
    """
    section = Section(name, file, "Service", specifiers or {})
    kind = _read_type(section) if section.text("Type") == "oneshot" else "simple"
    fields = {
        **read_fields(section, SERVICE),
        **read_fields(section.sibling("Unit"), UNIT),
        **_read_outputs(section),
        **_read_timeouts(section, kind),
    }
    if section.entries("ExecStart"):
        raise file.error(
            "a container has no ExecStart=: podman runs its image", section.entries("ExecStart")[0]
        )
    service = Service(name=name, **fields | {"type": kind, "kill_mode": "mixed"})
    check_service_section(section)
    check_other_sections(section)
    return service, section.warnings


def check_options(file: UnitFile, options: Options) -> list[str]:
    """Check a unit's options against what a plain process can have.

    Returns warnings for differences from a container. Raises UnitError for options that cannot be honoured.
    """
    for port in options.published:
        if port.host != port.container:
            raise file.error(
                f"PublishPort={port.host or ''}:{port.container}: a process has no ports but its own; "
                f"write {port.container}:{port.container}",
                port.entry,
            )
    for secret in options.secrets:
        if not secret.env:
            raise file.error(
                f"Secret={secret.name}: a process gets a secret as a variable; write {secret.name}:VARIABLE",
                file.get("X-Kirsch", "Secret"),
            )
    return [
        str(file.error(f"PublishPort={port.host_ip}:…: a process publishes on 127.0.0.1", port.entry))
        for port in options.published
        if port.host_ip not in _LOCAL
    ]


def _section(name: UnitName, file: UnitFile) -> str:
    if name.type not in ("service", "container"):
        raise file.error(f"{name} cannot run as a plain process: only .service and .container units can")
    section = "Service" if name.type == "service" else PROCESS_SECTION
    if not file.has(section):
        raise file.error(f"cannot run as a plain process: it has no [{section}] section")
    return section


def _read_type(section: Section) -> str:
    kind = section.text("Type") or ("simple" if section.entries("ExecStart") else "oneshot")
    if kind in TYPES:
        return kind
    entry = section.file.get(section.section, "Type")
    if kind == "idle":
        section.warn(entry, "Type=idle is run as Type=simple by the process runtime")
        return "simple"
    reason = _OTHER_TYPES.get(kind, f"it is none of {', '.join(TYPES)}")
    raise section.file.error(f"Type={kind} cannot be run by the process runtime: {reason}", entry)


def _read_working_directory(section: Section) -> dict[str, Any]:
    paths = [read_path(section, entry) for entry in section.entries("WorkingDirectory")]
    path, optional = paths[-1] if paths else (None, False)
    return {"working_directory": path, "working_directory_optional": optional}


def _read_limits(section: Section) -> dict[str, tuple[int, int]]:
    found = ((name, section.last(f"Limit{name}", parser)) for name, parser in LIMITS.items())
    return {name: limit for name, limit in found if limit}


def _read_capabilities(section: Section) -> bool:
    """Return True if the unit is to have no capabilities; other sets of them are warned of."""
    given = [e for e in section.file.entries(section.section) if e.name == "CapabilityBoundingSet"]
    if given and given[-1].value:
        section.warn(given[-1], "CapabilityBoundingSet= is honoured by the process runtime if it is empty")
    return bool(given) and not given[-1].value


def _read_directories(section: Section) -> tuple[Directory, ...]:
    found = []
    for kind in ("runtime", "state", "cache", "logs"):
        directive = f"{kind.capitalize()}Directory"
        mode = section.last(f"{directive}Mode", parse_mode)
        for path in section.words(section.entries(directive), _check_below):
            found.append(Directory(kind, path, 0o755 if mode is None else mode))
    return tuple(found)


def _check_below(text: str) -> str:
    """Check a relative path without "..", which stays below the folder of its kind."""
    parts = text.split("/")
    if ":" in text:
        raise ValueError(f"a symbolic link to a folder is not made by the process runtime: {text}")
    if text.startswith("/") or ".." in parts or not any(part not in ("", ".") for part in parts):
        raise ValueError(f"not a relative path without '..': {text}")
    return text


def _read_outputs(section: Section) -> dict[str, str]:
    """Read StandardOutput= and StandardError=; anything but null and inherit goes to the journal."""
    entry = section.file.get(section.section, "StandardInput")
    if (section.text("StandardInput") or "null") != "null":
        section.warn(entry, "StandardInput= is always null in the process runtime")
    output = _read_output(section, "StandardOutput", inherited="journal")
    return {
        "standard_output": output,
        "standard_error": _read_output(section, "StandardError", inherited=output),
    }


def _read_output(section: Section, name: str, inherited: str) -> str:
    value = section.text(name)
    if value is None or value == "inherit":
        return inherited
    if value not in ("journal", "null"):
        section.warn(section.file.get(section.section, name), f"{name}={value} goes to the journal instead")
    return "null" if value == "null" else "journal"


def _read_timeouts(section: Section, kind: str) -> dict[str, float]:
    # systemd.service(5): TimeoutStartSec= is off by default for oneshot.
    start, stop = math.inf if kind == "oneshot" else 90.0, 90.0
    for entry in section.entries("TimeoutSec", "TimeoutStartSec", "TimeoutStopSec"):
        seconds = section.parse(entry, parse_timespan) or math.inf
        start = seconds if entry.name != "TimeoutStopSec" else start
        stop = seconds if entry.name != "TimeoutStartSec" else stop
    abort = section.last("TimeoutAbortSec", parse_timespan)
    return {"timeout_start": start, "timeout_stop": stop, "timeout_abort": stop if abort is None else abort}


def _read_kill_mode(section: Section) -> str:
    mode = section.last("KillMode", choice(*KILL_MODES)) or "control-group"
    if mode in ("process", "none"):
        section.warn(
            section.file.get(section.section, "KillMode"),
            f"KillMode={mode}: nothing outlives its unit here; what is left at the end is killed",
        )
    return mode


def _read_notification(section: Section, kind: str) -> dict[str, Any]:
    watchdog = section.last("WatchdogSec", parse_timespan) or math.inf
    access = section.last("NotifyAccess", choice("none", "main", "exec", "all")) or "none"
    if access == "none" and (kind == "notify" or watchdog < math.inf):
        access = "main"
    return {"watchdog": watchdog, "notify_access": access}


def _check_combinations(service: Service, section: Section) -> None:
    """Refuse directives that make sense one by one but not together (systemd.service(5))."""
    file = section.file
    if not service.start:
        # A typo of ExecStart= is the likeliest reason for what follows.
        for entry in file.entries(section.section):
            if words := mistake(entry):
                raise UnitError(words, file.file, entry.line, entry.name_column)
    if not service.start and not (service.stop and service.remain_after_exit):
        raise file.error("it has no ExecStart=; without one it needs RemainAfterExit=yes and an ExecStop=")
    if not service.start and service.type != "oneshot":
        raise file.error(f"it has no ExecStart=, which Type={service.type} needs")
    if len(service.start) > 1 and service.type != "oneshot":
        message = f"more than one ExecStart= command is for Type=oneshot, not for Type={service.type}"
        raise file.error(message, section.entries("ExecStart")[-1])
    if service.type == "oneshot" and service.restart in ("always", "on-success"):
        message = f"Restart={service.restart} cannot be used with Type=oneshot"
        raise file.error(message, section.entries("Restart")[-1])
