"""From what systemd says of a unit, in properties, to a RuntimeState and words for a person. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kirsch.bus.process.child import Exit
from kirsch.cluster.runtime.base import RuntimeState
from kirsch.cluster.runtime.status import explain
from kirsch.unit import UnitName

# Which properties are asked for where no signal has told of them: by interface.
UNIT_PROPERTIES = (
    *("ActiveState", "SubState", "Job", "InvocationID"),
    *("ActiveEnterTimestamp", "ActiveExitTimestamp", "InactiveEnterTimestamp", "InactiveExitTimestamp"),
)
SERVICE_PROPERTIES = (
    *("MainPID", "NRestarts", "Result", "StatusText"),
    *("ExecMainCode", "ExecMainStatus", "ExecMainStartTimestamp"),
)
# Types whose interface has a Result; targets, slices and devices have none.
INTERFACES = {
    "automount": "Automount",
    "mount": "Mount",
    "path": "Path",
    "scope": "Scope",
    "service": "Service",
    "socket": "Socket",
    "swap": "Swap",
    "timer": "Timer",
}
AT_REST = frozenset({"inactive", "failed"})
STARTED = frozenset({"active", "activating", "reloading"})
WAITING = frozenset({"auto-restart", "auto-restart-queued"})
LAST_CHARACTERS = 500  # of output, in the message of a unit that failed

PODMAN_ITSELF = 125
_OF_PODMAN = frozenset({PODMAN_ITSELF, 126, 127})
_ACTIVE = {"maintenance": "failed", "refreshing": "reloading"}
_SINCE = {
    "active": "ActiveEnterTimestamp",
    "reloading": "ActiveEnterTimestamp",
    "deactivating": "ActiveExitTimestamp",
    "activating": "InactiveExitTimestamp",
}
# systemd.exec(5), "Process exit codes": those that systemd itself gives before the program runs.
_NOT_RUN = {
    200: "WorkingDirectory= cannot be entered (200/CHDIR)",
    203: "the command cannot be executed (203/EXEC)",
    205: "a limit cannot be set (205/LIMITS)",
    208: "standard input cannot be had (208/STDIN)",
    209: "standard output cannot be had (209/STDOUT)",
    216: "Group= cannot be had (216/GROUP)",
    217: "User= cannot be had (217/USER)",
    219: "the cgroup cannot be had (219/CGROUP)",
    226: "its namespaces cannot be made (226/NAMESPACE)",
    233: "RuntimeDirectory= cannot be had (233/RUNTIME_DIRECTORY)",
    238: "StateDirectory= cannot be had (238/STATE_DIRECTORY)",
    239: "CacheDirectory= cannot be had (239/CACHE_DIRECTORY)",
    240: "LogsDirectory= cannot be had (240/LOGS_DIRECTORY)",
    243: "a credential cannot be had (243/CREDENTIALS)",
}
_RESULTS = {
    "timeout": "took too long",
    "watchdog": "did not send its watchdog message in time",
    "start-limit-hit": "was started too often in too short a time",
    "protocol": "ended before it said that it is ready",
    "resources": "lacked resources it needs",
    "exec-condition": "ExecCondition= was not met",
    "oom-kill": "was killed for want of memory",
    "mount-start-limit-hit": "was mounted too often in too short a time",
    "unit-start-limit-hit": "its unit was started too often in too short a time",
    "trigger-limit-hit": "was triggered too often in too short a time",
    "service-start-limit-hit": "its service was started too often in too short a time",
}
# job_result of systemd's JobRemoved, where the unit's own state does not say it.
_JOBS = {
    "canceled": "the start was given up",
    "timeout": "its job took longer than JobTimeoutSec=",
    "skipped": "systemd skipped the start",
    "invalid": "systemd does not do that with this unit",
    "assert": "an Assert…= of it was not met",
    "unsupported": "units of this type are not supported on this machine",
    "collected": "systemd forgot the unit while it was started",
    "once": "it starts once only, and has been started",
    "frozen": "it is frozen",
}


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of one unit. `service` is its name in systemd; `properties` those that systemd told
    of last, by their D-Bus names; `load` and `problem` what came of loading it; `reason` why it does not
    run, and `lines` the last it printed, once they were asked for; `before` why it did not when it was tried
    last, where systemd tries it again; `reloading` why its last reload failed;
    `remark` what else is to be said of it, `ignored` what systemd passed over in its file; `limited` whether
    systemd gave up restarting it, `refused` whether it would not start it at all."""

    name: UnitName
    service: str
    hash: str
    mark: str = ""
    load: str = "loaded"
    problem: str = ""
    reason: str = ""
    lines: tuple[str, ...] = ()
    before: str = ""
    reloading: str = ""
    remark: str = ""
    ignored: tuple[str, ...] = ()
    limited: bool = False
    refused: bool = False


def state_of(known: Known, properties: Mapping[str, Any]) -> RuntimeState:
    """Return the runtime's state of a unit."""
    active, sub, result = _active(properties), properties.get("SubState", "dead"), properties.get("Result")
    running = active not in AT_REST
    if known.refused and active == "inactive":
        # To systemd what it refused to start never failed; to who started it it did.
        active, sub, result = "failed", "failed", "resources"
    return RuntimeState(
        load=known.load,
        active=active,
        sub=sub,
        result="start-limit-hit" if known.limited else result or "success",
        message=_message(known, properties, running),
        hash=known.hash,
        pid=properties.get("MainPID", 0) if running else 0,
        restarts=properties.get("NRestarts", 0),
        since=properties.get(_SINCE.get(active, "InactiveEnterTimestamp"), 0) / 1e6,
        mark=known.mark,
    )


def _active(properties: Mapping[str, Any]) -> str:
    active: str = properties.get("ActiveState", "inactive")
    return _ACTIVE.get(active, active)


def _message(known: Known, properties: Mapping[str, Any], running: bool) -> str:
    if known.problem:
        return known.problem
    if running and properties.get("SubState") not in WAITING:
        said = known.reloading or one_line(properties.get("StatusText", ""))
        return said or (f"is tried again: {known.before}" if known.before else _of_file(known))
    if not known.reason:
        return _of_file(known)
    lines = " | ".join(line for line in (one_line(each) for each in known.lines) if line)
    return f"{known.reason}; last lines: {lines[-LAST_CHARACTERS:]}" if lines else known.reason


def _of_file(known: Known) -> str:
    return known.remark or "; ".join(known.ignored)


def failed(properties: Mapping[str, Any]) -> bool:
    """Return True if a unit is at rest, or waits for a restart, because its last run ended badly."""
    at_rest = _active(properties) in AT_REST or properties.get("SubState") in WAITING
    bad = properties.get("Result", "success") != "success" or _active(properties) == "failed"
    return at_rest and bad


def gave_up(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return True if systemd stopped restarting a service: it waited for a restart, and failed without
    another run. Its Result= is then still that of the last run."""
    again = now.get("ExecMainStartTimestamp", 0) != before.get("ExecMainStartTimestamp", 0)
    return before.get("SubState") in WAITING and now.get("ActiveState") == "failed" and not again


def why_failed(properties: Mapping[str, Any], limited: bool = False) -> str:
    """For a person: "exited with status 3"; with the commands' own results where those were asked for."""
    result = properties.get("Result", "success")
    ended = _ended(properties)
    if result in ("exit-code", "signal", "core-dump", "exec-condition", "timeout", "watchdog"):
        reason = ended if result in ("exit-code", "signal", "core-dump") else _RESULTS[result]
        reason = reason or f"failed with result {result}"
    else:
        reason = _RESULTS.get(result, f"failed with result {result}" if result != "success" else "failed")
    return f"was started too often in too short a time: {reason}" if limited else reason


def tried_again(properties: Mapping[str, Any]) -> bool:
    """Return True while systemd starts a unit again by itself."""
    return _active(properties) == "activating" and properties.get("NRestarts", 0) > 0


def begins_to_wait(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return True if a unit has just begun to wait for systemd's restart."""
    return now.get("SubState") in WAITING and before.get("SubState") not in WAITING


def of_podman(properties: Mapping[str, Any]) -> bool:
    """Return True if a container's service may have ended because podman could not start it (podman-run(1),
    "Exit Status")."""
    return properties.get("ExecMainCode", 0) == 1 and properties.get("ExecMainStatus", 0) in _OF_PODMAN


def podman_said(properties: Mapping[str, Any], lines: Sequence[str]) -> str:
    """podman's own words on why it could not start a container, from what its service printed last; "" if it
    was not podman that failed."""
    if not of_podman(properties):
        return ""
    own = properties["ExecMainStatus"] == PODMAN_ITSELF
    errors = [one_line(line) for line in lines if line.startswith("Error: ")]
    # 126 and 127 are programs' too.
    said = next((each for each in reversed(errors) if own or "OCI runtime" in each), "")
    return f"podman: {said.removeprefix('Error: ')[:LAST_CHARACTERS]}" if said else ""


def _ended(properties: Mapping[str, Any]) -> str:
    """Describe the end of the process that made the unit fail."""
    code, status = properties.get("ExecMainCode", 0), properties.get("ExecMainStatus", 0)
    for directive in ("ExecCondition", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost"):
        for command in properties.get(directive, ()):
            if (bad := _command_ended(command)) and not _bad(code, status):
                return f"{directive}={command[0]} {bad}"
    return _said(code, status) if _bad(code, status) else ""


def _command_ended(command: Sequence[Any]) -> str:
    """Describe the bad end of one of a service's commands: (path, argv, may fail, four times, pid, code,
    status)."""
    ignored, code, status = command[2], command[8], command[9]
    return _said(code, status) if _bad(code, status) and not ignored else ""


# waitid(2): CLD_EXITED, CLD_KILLED, CLD_DUMPED.
def _bad(code: int, status: int) -> bool:
    return code in (2, 3) or (code == 1 and status != 0)


def _said(code: int, status: int) -> str:
    if code == 1 and status in _NOT_RUN:
        return f"failed to start: {_NOT_RUN[status]}"
    return explain(Exit(code=status) if code == 1 else Exit(signal=status))


def refused(result: str, properties: Mapping[str, Any]) -> bool:
    """Return True if systemd refused a start: the job failed, the unit rests, and none of its processes has
    failed. An unmet Condition…= is not a refusal."""
    return result not in ("done", "canceled", "skipped") and _active(properties) == "inactive"


def why_not_started(result: str, properties: Mapping[str, Any]) -> str:
    """Explain a start job's result where the unit's state does not; "" if there is nothing to explain."""
    if result == "done" and properties.get("ConditionResult") is False and _active(properties) == "inactive":
        return f"was not started: {_unmet(properties.get('Conditions', ()), 'Condition…=')} is not met"
    if result == "assert":
        return f"was not started: {_unmet(properties.get('Asserts', ()), 'an Assert…=')} is not met"
    if result == "dependency":
        needs = ", ".join(properties.get("Needs", ()))
        return f"was not started: {needs or 'a unit it needs'} could not be"
    if result in ("done", "failed"):
        return ""
    return _JOBS.get(result, f"its start ended with {result}")


def _unmet(conditions: Sequence[Sequence[Any]], otherwise: str) -> str:
    """The first condition that failed: (type, trigger, negated, parameter, state)."""
    for kind, _, negated, parameter, state in conditions:
        if state < 0:
            return f"{kind}={'!' if negated else ''}{parameter}"
    return otherwise


def one_line(text: str) -> str:
    """A text without line breaks and what a terminal would take for a command."""
    return "".join(each if each.isprintable() else " " for each in text).strip()
