"""The release policy: how a change of running units is carried out ([X-Kirsch], kirsch.toml). Pure."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from kirsch.unit.error import UnitError
from kirsch.unit.file import UnitFile
from kirsch.unit.value import parse_timespan

OnFailure = Literal["rollback", "pause"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Times are in seconds. `at_a_time` instances of a service are replaced together; each must be ready for
    `healthy_for` without a restart before the next, and become ready within `deadline`. After `canary`
    instances the release waits to be promoted; `promote` does that by itself after that time (0: never).
    `command` runs once before the first instance is replaced, as a unit would (empty: nothing does).
    """

    at_a_time: int = 1
    healthy_for: float = 5.0
    deadline: float = 60.0
    canary: int = 0
    promote: float = 0.0
    on_failure: OnFailure = "rollback"
    command: str = ""

    def with_changes(self, changes: Mapping[str, Any]) -> "Policy":
        """Return the policy with some fields changed, by their names."""
        return replace(self, **changes)

    def changes(self) -> dict[str, Any]:
        """Return the fields that differ from the defaults."""
        default = Policy()
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != getattr(default, field.name)
        }


def parse_policy(name: str, text: str) -> Any:
    """Return the value of one field of a policy. Raises UnitError."""
    return _PARSE[name](text)


def read_policy(values: Mapping[str, Any]) -> Policy:
    """Return the policy of a [release] table, or of its JSON. Raises UnitError."""
    found = {}
    for name, value in values.items():
        if name not in _PARSE:
            raise UnitError(f"release: unknown key {name!r}; there are {', '.join(_PARSE)}")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UnitError(f"release: {name} is to be a number or a text")
        try:
            found[name] = parse_policy(name, value if isinstance(value, str) else f"{value:g}")
        except UnitError as error:
            raise UnitError(f"release: {name}: {error}") from None
    return Policy(**found)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 6:
        raise UnitError(f'"{text}" is not a number of instances: write 0, 1, 2 …')
    return int(text)


def _at_least_one(text: str) -> int:
    if (count := _count(text)) < 1:
        raise UnitError("at least 1 instance is replaced at a time")
    return count


def _bounded(text: str) -> float:
    seconds = parse_timespan(text)
    if math.isinf(seconds):
        raise UnitError("the time is to have an end, such as 60s")
    return seconds


def _on_failure(text: str) -> OnFailure:
    match text:
        case "rollback" | "pause":
            return text
    raise UnitError(f'"{text}" is neither rollback nor pause')


def _command(text: str) -> str:
    if "\n" in text or not text.strip():
        raise UnitError("write the command in one line, as in ExecStart=")
    return text.strip()


_PARSE: Mapping[str, Callable[[str], Any]] = {
    "at_a_time": _at_least_one,
    "healthy_for": _bounded,
    "deadline": _bounded,
    "canary": _count,
    "promote": _bounded,
    "on_failure": _on_failure,
    "command": _command,
}

# The options of [X-Kirsch], with the field each one sets.
POLICY_OPTIONS = {
    "AtATime": "at_a_time",
    "HealthyFor": "healthy_for",
    "Deadline": "deadline",
    "Canary": "canary",
    "Promote": "promote",
    "OnFailure": "on_failure",
    "ReleaseCommand": "command",
}

# A command serves nobody, has no instances, and ends: these are about units that do, have and go on.
_DROPPED: Mapping[str, frozenset[str]] = {
    "Container": frozenset(
        ("Exec", "PublishPort", "ContainerName", "HostName", "IP", "IP6", "Notify", "AutoUpdate")
    ),
    "Service": frozenset(
        (
            *("Type", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost", "Restart"),
            *(
                "RestartSec",
                "RemainAfterExit",
                "WatchdogSec",
                "NotifyAccess",
                "PIDFile",
                "BusName",
                "Sockets",
            ),
        )
    ),
}
# What a command needs of [X-Kirsch].
_KEPT = frozenset(
    ("Link", "Secret", "MachineID", "MachineMetadata", "CPU", "Memory", "Endpoints", "Deadline")
)


def command_file(file: UnitFile, name: str, command: str) -> UnitFile:
    """Return the file of a unit that runs a command once, with what another unit has: its image, links,
    secrets, folders and variables. Raises UnitError."""
    boxed = file.has("Container")
    options: list[tuple[str, str, str]] = []
    for section, key, value in file.options:
        rules = "Service" if section == "X-Kirsch-Process" else section
        if section == "Install" or key in _DROPPED.get(rules, ()):
            continue
        if section == "Container" and key.startswith("Health"):
            continue
        if section in ("X-Kirsch", "X-Fleet") and key not in _KEPT:
            continue
        options.append((section, key, value))
    once = [("Type", "oneshot"), ("Restart", "no")]
    options += [("Service", key, value) for key, value in once]
    if boxed:
        options.append(("Container", "Exec", command))
    if file.has("X-Kirsch-Process"):
        options += [("X-Kirsch-Process", key, value) for key, value in (*once, ("ExecStart", command))]
    if not boxed:
        options.append(("Service", "ExecStart", command))
    # It is not to be begun anew because something that it is linked to has moved.
    options.append(("X-Kirsch", "LinkUpdate", "ignore"))
    return UnitFile.from_options(options, name)
