"""From a unit file to a Service. Pure.

The directives are read from [Service] in a .service, from [X-Kirsch-Process] in a Quadlet .container.
"""

import math
import re
import signal
from collections.abc import Mapping
from typing import Any

from kirsch.cluster.runtime.process.command_line import CommandLine, parse_command_lines
from kirsch.cluster.runtime.process.directives import PROCESS_SECTION, Directives, check_other_sections
from kirsch.cluster.runtime.process.environment import parse_assignment
from kirsch.cluster.runtime.process.service import Directory, EnvironmentFile, Service
from kirsch.cluster.runtime.status import Statuses, parse_signal
from kirsch.unit import UnitFile, UnitName, parse_boolean, parse_size, parse_timespan, split_words

TYPES = ("simple", "exec", "oneshot", "notify")
RESTARTS = ("no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog")
KILL_MODES = ("control-group", "mixed", "process", "none")
SIZE_LIMITS = ("FSIZE", "DATA", "STACK", "CORE", "RSS", "AS", "MEMLOCK", "MSGQUEUE")
COUNT_LIMITS = ("NOFILE", "NPROC", "SIGPENDING", "RTPRIO")

_NOT_HERE = {
    "forking": "a daemon that forks away cannot be told from one that ended; let it run in the foreground",
    "dbus": "there is no D-Bus to wait for",
}


def read_service(
    name: UnitName, file: UnitFile, specifiers: Mapping[str, str] | None = None
) -> tuple[Service, list[str]]:
    """The service of a unit file, and a warning for each directive that is not honoured.

    `specifiers` are the letters that do not come from the name (%t, %S, %h, …). Raises UnitError for what
    cannot be run as a plain process, or would be wrong to.
    """
    directives = Directives(name, file, _section(name, file), specifiers or {})
    unit = Directives(name, file, "Unit", specifiers or {})
    kind = _type(directives)
    settings = {
        "description": unit.text("Description") or "",
        "type": kind,
        "remain_after_exit": directives.boolean("RemainAfterExit"),
        **_commands(directives),
        **_environment(directives),
        **_circumstances(directives),
        **_restarts(directives, unit),
        **_timeouts(directives, kind),
        **_killing(directives),
        **_notification(directives, kind),
    }
    service = Service(name=name, **settings)
    _check(service, directives)
    directives.close()
    check_other_sections(directives)
    return service, directives.warnings


def _section(name: UnitName, file: UnitFile) -> str:
    if name.type not in ("service", "container"):
        raise file.error(f"{name} cannot run as a plain process: only .service and .container units can")
    section = "Service" if name.type == "service" else PROCESS_SECTION
    if not file.has(section):
        raise file.error(f"cannot run as a plain process: it has no [{section}] section")
    return section


def _type(directives: Directives) -> str:
    kind = directives.text("Type") or ("simple" if directives.entries("ExecStart") else "oneshot")
    if kind in TYPES:
        return kind
    entry = directives.file.get(directives.section, "Type")
    if kind == "idle":
        directives.warn(entry, "Type=idle is run as Type=simple by the process runtime")
        return "simple"
    reason = _NOT_HERE.get(kind, f"it is none of {', '.join(TYPES)}")
    raise directives.file.error(f"Type={kind} cannot be run by the process runtime: {reason}", entry)


def _commands(directives: Directives) -> dict[str, Any]:
    relative = directives.section == PROCESS_SECTION

    def read(directive: str) -> tuple[CommandLine, ...]:
        def parser(text: str) -> list[CommandLine]:
            return parse_command_lines(directive, text, directives.specify, relative=relative)

        return tuple(c for entry in directives.entries(directive) for c in directives.parse(entry, parser))

    return {
        "condition": read("ExecCondition"),
        "start_pre": read("ExecStartPre"),
        "start": read("ExecStart"),
        "start_post": read("ExecStartPost"),
        "reload": read("ExecReload"),
        "stop": read("ExecStop"),
        "stop_post": read("ExecStopPost"),
    }


def _environment(directives: Directives) -> dict[str, Any]:
    return {
        "environment": _container_environment(directives) | _assignments(directives),
        "environment_files": tuple(
            EnvironmentFile(path, optional) for path, optional in _paths(directives, "EnvironmentFile")
        ),
        "pass_environment": directives.words("PassEnvironment"),
        "unset_environment": directives.words("UnsetEnvironment"),
    }


def _assignments(directives: Directives) -> dict[str, str]:
    def parser(text: str) -> list[tuple[str, str]]:
        return [parse_assignment(directives.specify(word)) for word in split_words(text)]

    return dict(
        pair for entry in directives.entries("Environment") for pair in directives.parse(entry, parser)
    )


def _container_environment(directives: Directives) -> dict[str, str]:
    """Environment= of [Container] holds for both ways to run."""
    if directives.name.type != "container":
        return {}
    return _assignments(directives.of("Container"))


def _paths(directives: Directives, name: str) -> list[tuple[str, bool]]:
    """Paths, and whether a "-" says that each may be missing. Relative ones, below the folder that the
    runtime was given, are for [X-Kirsch-Process] only: systemd would refuse them."""

    def parser(text: str) -> tuple[str, bool]:
        path = directives.specify(text.removeprefix("-"))
        if not path.startswith(("/", "~")) and directives.section != PROCESS_SECTION:
            raise ValueError(f"not an absolute path: {path}")
        return path, text.startswith("-")

    return [directives.parse(entry, parser) for entry in directives.entries(name)]


def _circumstances(directives: Directives) -> dict[str, Any]:
    paths = _paths(directives, "WorkingDirectory")
    path, optional = paths[-1] if paths else (None, False)
    output, error = _outputs(directives)
    return {
        "working_directory": path,
        "working_directory_optional": optional,
        "user": directives.text("User"),
        "group": directives.text("Group"),
        "umask": directives.last("UMask", _mode, 0o022),
        "nice": directives.integer("Nice", 0, -20, 19),
        "limits": _limits(directives),
        "directories": _directories(directives),
        "runtime_directory_preserve": directives.last("RuntimeDirectoryPreserve", _preserve, "no"),
        "standard_output": output,
        "standard_error": error,
    }


def _outputs(directives: Directives) -> tuple[str, str]:
    """Where output goes: journal or null. What is not known goes to the journal, with a warning."""
    directives.ignore("SyslogIdentifier")
    if directives.text("StandardInput", "null") != "null":
        directives.warn_last("StandardInput", "StandardInput= is always null in the process runtime")
    output = error = "journal"
    match directives.text("StandardOutput", "inherit"):
        case "null":
            output = "null"
        case "journal" | "inherit":
            pass
        case other:
            directives.warn_last("StandardOutput", f"StandardOutput={other} goes to the journal instead")
    match directives.text("StandardError", "inherit"):
        case "null":
            error = "null"
        case "inherit":
            error = output
        case "journal":
            pass
        case other:
            directives.warn_last("StandardError", f"StandardError={other} goes to the journal instead")
    return output, error


def _limits(directives: Directives) -> dict[str, tuple[int, int]]:
    limits = {}
    for name in (*SIZE_LIMITS, *COUNT_LIMITS):
        parse = parse_size if name in SIZE_LIMITS else int

        def pair(text: str, parse: Any = parse) -> tuple[int, int]:
            soft, _, hard = text.partition(":")
            values = [-1 if word == "infinity" else parse(word) for word in (soft, hard or soft)]
            return values[0], values[1]

        if limit := directives.last(f"Limit{name}", pair, None):
            limits[name] = limit
    return limits


def _directories(directives: Directives) -> tuple[Directory, ...]:
    found = []
    for kind in ("runtime", "state", "cache", "logs"):
        directive = f"{kind.capitalize()}Directory"
        mode = directives.last(f"{directive}Mode", _mode, 0o755)
        for path in directives.words(directive, _below):
            found.append(Directory(kind, path, mode))
    return tuple(found)


def _below(text: str) -> str:
    """A relative path without "..": below the folder of its kind, and nowhere else."""
    parts = text.split("/")
    if ":" in text:
        raise ValueError(f"a symbolic link to a folder is not made by the process runtime: {text}")
    if text.startswith("/") or ".." in parts or not any(part not in ("", ".") for part in parts):
        raise ValueError(f"not a relative path without '..': {text}")
    return text


def _restarts(directives: Directives, unit: Directives) -> dict[str, Any]:
    return {
        "restart": directives.choice("Restart", RESTARTS, "no"),
        "restart_delay": directives.span("RestartSec", 0.1),
        "restart_prevent": _statuses(directives, "RestartPreventExitStatus"),
        "restart_force": _statuses(directives, "RestartForceExitStatus"),
        "success": _statuses(directives, "SuccessExitStatus"),
        "start_limit_burst": unit.integer("StartLimitBurst", 5, 0, 1_000_000),
        "start_limit_interval": unit.span("StartLimitIntervalSec", 10.0),
    }


def _statuses(directives: Directives, name: str) -> Statuses:
    total = Statuses()
    for entry in directives.entries(name):
        total |= directives.parse(entry, lambda text: Statuses.parse(text.split()))
    return total


def _timeouts(directives: Directives, kind: str) -> dict[str, Any]:
    # systemd.service(5): TimeoutStartSec= is off by default for oneshot.
    start, stop = math.inf if kind == "oneshot" else 90.0, 90.0
    for entry in directives.entries("TimeoutSec", "TimeoutStartSec", "TimeoutStopSec"):
        seconds = directives.parse(entry, parse_timespan) or math.inf
        start = seconds if entry.name != "TimeoutStopSec" else start
        stop = seconds if entry.name != "TimeoutStartSec" else stop
    return {
        "timeout_start": start,
        "timeout_stop": stop,
        "timeout_abort": directives.span("TimeoutAbortSec", stop),
    }


def _killing(directives: Directives) -> dict[str, Any]:
    mode = directives.choice("KillMode", KILL_MODES, "control-group")
    if mode in ("process", "none"):
        directives.warn_last(
            "KillMode", f"KillMode={mode}: nothing outlives its unit here; what is left at the end is killed"
        )
    return {
        "kill_mode": mode,
        "kill_signal": directives.last("KillSignal", parse_signal, signal.SIGTERM.value),
        "final_kill_signal": directives.last("FinalKillSignal", parse_signal, signal.SIGKILL.value),
        "watchdog_signal": directives.last("WatchdogSignal", parse_signal, signal.SIGABRT.value),
        "send_sigkill": directives.boolean("SendSIGKILL", True),
        "send_sighup": directives.boolean("SendSIGHUP"),
    }


def _notification(directives: Directives, kind: str) -> dict[str, Any]:
    watchdog = directives.span("WatchdogSec", 0.0) or math.inf
    access = directives.choice("NotifyAccess", ("none", "main", "exec", "all"), "none")
    if access == "none" and (kind == "notify" or watchdog < math.inf):
        access = "main"
    return {"watchdog": watchdog, "notify_access": access}


def _check(service: Service, directives: Directives) -> None:
    """What makes sense one by one but not together (systemd.service(5))."""
    file = directives.file
    if not service.start and not (service.stop and service.remain_after_exit):
        raise file.error("it has no ExecStart=; without one it needs RemainAfterExit=yes and an ExecStop=")
    if not service.start and service.type != "oneshot":
        raise file.error(f"it has no ExecStart=, which Type={service.type} needs")
    if len(service.start) > 1 and service.type != "oneshot":
        message = f"more than one ExecStart= command is for Type=oneshot, not for Type={service.type}"
        raise file.error(message, directives.entries("ExecStart")[-1])
    if service.type == "oneshot" and service.restart in ("always", "on-success"):
        message = f"Restart={service.restart} cannot be used with Type=oneshot"
        raise file.error(message, directives.entries("Restart")[-1])


def _mode(text: str) -> int:
    if not re.fullmatch(r"[0-7]{1,5}", text):
        raise ValueError(f"not an octal mode: {text}")
    return int(text, 8)


def _preserve(text: str) -> str:
    if text == "restart":
        return text
    return "yes" if parse_boolean(text) else "no"
