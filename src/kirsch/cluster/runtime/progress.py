"""The values of the state machine: where a unit stands, what can happen to it, and what is to be done."""

import math
from dataclasses import dataclass

from kirsch.bus.process.child import Exit
from kirsch.cluster.runtime.command_line import CommandLine

# systemd's sub states of a service, and the active state each belongs to.
ACTIVE = {
    "dead": "inactive",
    "condition": "activating",
    "start-pre": "activating",
    "start": "activating",
    "start-post": "activating",
    "running": "active",
    "exited": "active",
    "reload": "reloading",
    "stop": "deactivating",
    "stop-watchdog": "deactivating",
    "stop-sigterm": "deactivating",
    "stop-sigkill": "deactivating",
    "stop-post": "deactivating",
    "final-sigterm": "deactivating",
    "final-sigkill": "deactivating",
    "failed": "failed",
    "auto-restart": "activating",
}
AT_REST = ("dead", "failed")
STARTING = ("condition", "start-pre", "start", "start-post")
TERMINATING = ("stop-watchdog", "stop-sigterm", "stop-sigkill")
ENDING = ("final-sigterm", "final-sigkill")
WATCHED = ("start-post", "running", "reload")


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a unit. Times are of the caller's clock, in seconds; math.inf is never."""

    sub: str = "dead"
    result: str = "success"
    reason: str = ""  # of a failure, for a person
    status: str = ""  # the unit's own (sd_notify(3))
    start_job: str = ""  # or "queued" (until a stop or a restart delay is over), "running"
    stop_job: bool = False
    reload_job: bool = False
    command: int = 0  # index among the state's commands
    # Process ids; 0 for none.
    main: int = 0
    control: int = 0
    occupied: bool = False  # True while any process of the unit is left
    main_exit: Exit | None = None
    restarts: int = 0
    starts: tuple[float, ...] = ()  # recent enough to count for the start limit
    deadline: float = math.inf
    watchdog_at: float = math.inf

    @property
    def active(self) -> str:
        return ACTIVE[self.sub]

    @property
    def wakeup(self) -> float:
        """Time at which an Elapsed is due, unless something happens before."""
        return min(self.deadline, self.watchdog_at)


@dataclass(frozen=True, slots=True)
class Start:
    """A start is asked for, or a queued one is due."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop is asked for."""


@dataclass(frozen=True, slots=True)
class Reload:
    """ExecReload is asked for."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """The command of the last Spawn runs."""

    pid: int


@dataclass(frozen=True, slots=True)
class NotSpawned:
    """The command of the last Spawn cannot be executed."""

    message: str


@dataclass(frozen=True, slots=True)
class MainExited:
    exit: Exit


@dataclass(frozen=True, slots=True)
class ControlExited:
    exit: Exit


@dataclass(frozen=True, slots=True)
class Emptied:
    """The last of the unit's processes has ended."""


@dataclass(frozen=True, slots=True)
class Notified:
    """A message of sd_notify(3). Times are seconds."""

    ready: bool = False
    reloading: bool = False
    stopping: bool = False
    status: str | None = None
    watchdog: bool = False
    watchdog_trigger: bool = False
    extend_timeout: float = 0.0


@dataclass(frozen=True, slots=True)
class Elapsed:
    """The clock has reached `Progress.wakeup`."""


Event = (
    Start | Stop | Reload | Spawned | NotSpawned | MainExited | ControlExited | Emptied | Notified | Elapsed
)


@dataclass(frozen=True, slots=True)
class Prepare:
    """A start begins: make folders, forget the output of the last run."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Run a command as the unit's main process, or beside it; answered by Spawned or NotSpawned."""

    command: CommandLine
    main: bool = False


@dataclass(frozen=True, slots=True)
class Signal:
    """Signal what `target` says: "control", the command beside the main process; "main", these two; "all"."""

    number: int
    target: str


@dataclass(frozen=True, slots=True)
class Release:
    """A run is over: remove what lives only as long as it. `restarting`: another follows by itself."""

    restarting: bool


@dataclass(frozen=True, slots=True)
class Log:
    """A line for the unit's journal."""

    text: str


Action = Prepare | Spawn | Signal | Release | Log
