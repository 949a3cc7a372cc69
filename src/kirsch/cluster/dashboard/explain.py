"""Unit files explained: what each line means, and where it is honoured. Pure.

The runtimes' own tables say what they honour; the manual page says the rest.
"""

from collections.abc import Mapping
from typing import Any

from kirsch.cluster.runtime.directives import (
    CONTAINER_ONLY,
    PROCESS_SECTION,
    SERVICE,
    UNIT,
    Directive,
    InProcess,
)
from kirsch.cluster.runtime.known import mistake
from kirsch.unit import Entry, UnitError, UnitFile, UnitName
from kirsch.unit.given import SECTIONS
from kirsch.unit.syntax import LINE_END

KIRSCH: Mapping[str, str] = {
    "AtATime": "a release replaces so many instances at once",
    "CPU": "reserves so many processors of a machine",
    "Canary": "a release replaces so many instances first, then waits",
    "Conflicts": "never on a machine with units of these names",
    "Deadline": "a release gives up when an instance is not ready after this time",
    "Endpoints": "the unit may read which instances are ready, and where",
    "Expose": "the port that others may use, and its name",
    "ExposeEnv": "variables of this unit that units linked to it see",
    "Global": "one instance on every machine",
    "Health": "the check that says whether the unit is ready",
    "HealthRole": "the check that says which role the instance has",
    "HealthyFor": "a release goes on once an instance was ready for this time",
    "Link": "starts once this one is ready, and is told its address",
    "LinkUpdate": "what happens when the address of a link changes",
    "MachineID": "on this machine only",
    "MachineMetadata": "only on machines with this metadata",
    "MachineOf": "on the machine of those units",
    "Memory": "reserves so much memory of a machine",
    "Metrics": "where the unit exports metrics of its own, which are plotted",
    "OnFailure": "what a release does when an instance fails",
    "OnPartition": "what happens on a machine that is cut off from the others",
    "Promote": "who says that a release goes on after its canaries",
    "ReleaseCommand": "runs once before a release, such as a migration",
    "Replaces": "takes the place of units of these names",
    "Secret": "a secret, given as a variable or a credential",
    "Spread": "instances prefer machines with different values of this metadata",
    "Sticky": "stays on its machine until a person moves it",
}
SYSTEMD: Mapping[str, str] = {
    "After": "starts after these units",
    "Before": "starts before these units",
    "CapabilityBoundingSet": "the capabilities that the program may have",
    "Description": "what people read in lists",
    "Environment": "environment variables",
    "EnvironmentFile": "a file with environment variables",
    "ExecReload": "the command that has it read its configuration again",
    "ExecStart": "the program that runs",
    "ExecStartPost": "runs once the program has started",
    "ExecStartPre": "runs before the program starts",
    "ExecStop": "the command that stops it",
    "ExecStopPost": "runs after it has stopped",
    "Group": "the group that it runs as",
    "KillMode": "which processes are sent the signal to stop",
    "KillSignal": "the signal that stops it",
    "LimitNOFILE": "how many files it may have open",
    "Nice": "its priority",
    "MemoryMax": "the most memory that it may use",
    "NoNewPrivileges": "it cannot gain privileges",
    "NotifyAccess": "which processes may say that it is ready",
    "OOMScoreAdjust": "how soon it is killed when memory runs out",
    "OnCalendar": "when the timer elapses",
    "PrivateTmp": "a /tmp of its own",
    "ProtectSystem": "it cannot change the system's files",
    "ReadOnlyPaths": "paths that it cannot change",
    "ReadWritePaths": "paths that it may change all the same",
    "RemainAfterExit": "counts as active after it has ended",
    "Restart": "when it is started again",
    "RestartSec": "how long to wait before it is started again",
    "RuntimeDirectory": "a folder for the time it runs",
    "RuntimeMaxSec": "how long it may run",
    "StandardError": "where its errors are written",
    "StandardOutput": "where its output is written",
    "StartLimitBurst": "how many starts are allowed in the interval",
    "StartLimitIntervalSec": "the interval in which starts are counted",
    "StateDirectory": "a folder for what it keeps",
    "CacheDirectory": "a folder for what it can make again",
    "LogsDirectory": "a folder for its logs",
    "SuccessExitStatus": "exit statuses that are a success",
    "TasksMax": "how many processes and threads it may have",
    "TimeoutSec": "how long it may take to start and to stop",
    "TimeoutStartSec": "how long it may take to start",
    "TimeoutStopSec": "how long it may take to stop",
    "Type": "how it is known that it has started",
    "UMask": "the mode of files that it makes",
    "Unit": "the unit that is started",
    "UnsetEnvironment": "environment variables that it does not get",
    "User": "the user that it runs as",
    "WantedBy": "the target that starts it",
    "Wants": "starts these units too",
    "WatchdogSec": "how often it has to say that it is alive",
    "WorkingDirectory": "the folder that it runs in",
}
QUADLET: Mapping[str, str] = {
    "AddCapability": "a capability that the container has",
    "DropCapability": "capabilities that the container has not",
    "Environment": "environment variables",
    "EnvironmentFile": "a file with environment variables",
    "Exec": "the command that runs in the container",
    "HealthCmd": "the command that says whether it is ready",
    "Image": "the image of the container",
    "Network": "the network that it is in",
    "NoNewPrivileges": "it cannot gain privileges",
    "Notify": "the program itself says when it is ready",
    "Pod": "the pod that it is in",
    "PublishPort": "a port of the machine that leads to one of the container",
    "ReadOnly": "the image's files cannot be changed",
    "StopSignal": "the signal that stops it",
    "StopTimeout": "how many seconds it may take to stop",
    "Tmpfs": "a folder in memory",
    "User": "the user that it runs as",
    "Volume": "a folder that outlives the container",
}
BOTH = "as a process, and under systemd"
IN_PROCESS: Mapping[InProcess, str] = {
    InProcess.HONOURED: BOTH,
    InProcess.MOOT: "under systemd; it makes no difference to a process",
    InProcess.WARNED: "under systemd only",
    InProcess.REFUSED: "under systemd only; it is refused as a process",
}


def explained(name: str, text: str) -> list[dict[str, Any]]:
    """Return a unit file line by line: {"text", "meaning", "honoured"}, the last two empty for comments and
    for lines that continue another. Of a file that cannot be read there is the text alone."""
    try:
        unit, file = UnitName.parse(name), UnitFile.parse(text, name)
    except UnitError:
        entries = {}
    else:
        entries = {
            entry.line: (_meaning(entry), _honoured(entry, unit))
            for section in file.sections
            for entry in file.entries(section)
        }
    rows = []
    for number, line in enumerate(LINE_END.split(text.rstrip("\r\n")), 1):
        meaning, honoured = entries.get(number, ("", ""))
        rows.append({"text": line, "meaning": meaning, "honoured": honoured})
    return rows


def _meaning(entry: Entry) -> str:
    if words := mistake(entry):
        return words
    if entry.section in SECTIONS:
        return KIRSCH.get(entry.name, "")
    if entry.section in ("Unit", "Install", "Service", "Timer", "Socket", "Path", PROCESS_SECTION):
        return SYSTEMD.get(entry.name, "systemd.directives(7)")
    return QUADLET.get(entry.name, "podman-systemd.unit(5)")


def _honoured(entry: Entry, unit: UnitName) -> str:
    if entry.section in SECTIONS:
        return "by kirsch, everywhere"
    if mistake(entry):
        return "nowhere"
    if entry.section == "Container":
        both = entry.name in ("Environment", "HealthCmd") and entry.name not in CONTAINER_ONLY
        return "as a process, and as a container" if both else "as a container only"
    if entry.section == PROCESS_SECTION:
        said = IN_PROCESS[SERVICE.get(entry.name, Directive(entry.name, InProcess.WARNED)).process]
        return "as a process only" if said == BOTH else "not as a process"
    if entry.section == "Unit":
        return IN_PROCESS[UNIT.get(entry.name, Directive(entry.name, InProcess.WARNED)).process]
    if entry.section == "Service" and unit.type == "service":
        return IN_PROCESS[SERVICE.get(entry.name, Directive(entry.name, InProcess.WARNED)).process]
    return "under systemd only"
