"""How to run a unit as a plain process, as one value. Pure.

Words, meaning and defaults are those of systemd.service(5), systemd.exec(5) and systemd.kill(5).
"""

import math
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

from kirsch.cluster.runtime.process.command_line import CommandLine
from kirsch.cluster.runtime.status import Statuses
from kirsch.unit import UnitName

NONE = Statuses()

Limits = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class EnvironmentFile:
    """A file, or a pattern of files, of variables; `optional` when it may be missing."""

    path: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Directory:
    """A folder that is made before the unit starts: `path` below the runtime's folder of that `kind`."""

    kind: str  # state, runtime, cache, logs
    path: str
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Service:
    """How to run a unit. Times are seconds, math.inf for without end."""

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
    directories: tuple[Directory, ...] = ()
    runtime_directory_preserve: str = "no"
    standard_output: str = "journal"
    standard_error: str = "journal"

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
    def label(self) -> str:
        """For the log, as systemd puts it: name and description."""
        return f"{self.name} - {self.description}" if self.description else self.name.text
