"""Contract between the agent and a runtime, which runs units on one machine."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kirsch.bus.process.command import Command
from kirsch.unit import UnitFile, UnitName

# Variable with the path of the endpoints socket, for units with Endpoints=yes.
ENDPOINTS = "KIRSCH_ENDPOINTS"
# Exit statuses of Runtime.run, as timeout(1) and sh(1) have them.
TIMED_OUT = 124
NOT_EXECUTED = 127


@dataclass(frozen=True, slots=True)
class Prepared:
    """A unit ready to be loaded: its file, and what the cluster adds to it on this machine.

    `environment` holds KIRSCH_UNIT, KIRSCH_INSTANCE, KIRSCH_ADDRESS and the variables of its links; it is
    added to what the file itself sets, and wins over it. `credentials` are its secrets that are no variables,
    by their names, and `secrets` those that are, apart from the others, so that no list shows them; `hosts`
    are names that lead to addresses, as in a hosts file, and `dns` is the address of the server that is asked
    for others ("" for the machine's own). `endpoints` is the path of the endpoints socket for a unit that
    asked for it, "" for others, `address` a container's in the flat network, "" for one that is not in it.
    `file.hash` tells two versions apart.
    """

    name: UnitName
    file: UnitFile
    environment: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)
    dns: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict)
    endpoints: str = ""
    address: str = ""

    @property
    def variables(self) -> Mapping[str, str]:
        """All variables that are added, secrets too."""
        found = {ENDPOINTS: self.endpoints} if self.endpoints else {}
        return {**self.environment, **found, **self.secrets}


@dataclass(frozen=True, slots=True)
class RuntimeState:
    """State of one unit in systemd's words (systemctl(1), `systemctl --state=help`)."""

    load: str = "loaded"  # or not-found, bad-setting, error
    active: str = "inactive"  # or active, reloading, failed, activating, deactivating
    # dead, start-pre, start, start-post, running, exited, reload, stop, stop-sigterm, stop-sigkill,
    # auto-restart, failed
    sub: str = "dead"
    # success, or the failure: exit-code, signal, timeout, start-limit-hit, exec-condition, resources,
    # protocol
    result: str = "success"
    message: str = ""  # one line for a person; empty when there is nothing to say
    hash: str = ""  # of the loaded file
    pid: int = 0
    restarts: int = 0
    since: float = 0.0  # of the last change of `active`, seconds since the epoch
    # Given to `start`, or to `stop` while it lasts; empty for a unit that no runtime of kirsch started, and
    # for one that was stopped.
    mark: str = ""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """Place of a unit's processes: the control group that systemd gave `service`, in which process `main` is,
    or all that descends from some `ancestors` of kirsch's own."""

    service: str = ""
    main: int = 0
    ancestors: tuple[int, ...] = ()


StateListener = Callable[[UnitName, RuntimeState | None], None]


class Runtime(Protocol):
    """Loads, starts and stops units on one machine. All methods are for the agent's event loop.

    The units of a `durable` one go on running when it lets go of them, and are found by the next.
    """

    durable: bool

    def check(self, name: UnitName, file: UnitFile) -> list[str]:
        """Warnings for what the runtime would not honour in this file. Raises UnitError if it cannot run."""

    def listen(self, listener: StateListener) -> None:
        """Call `listener` in the event loop each time a unit's state changes; None when it is unloaded."""

    def states(self) -> Mapping[UnitName, RuntimeState]:
        """Every unit that is loaded, as it stands now."""

    def groups(self) -> Mapping[UnitName, ProcessGroup]:
        """Return the groups of processes of units that run."""

    async def load(self, units: Sequence[Prepared]) -> None:
        """Make units known, or known anew with another file or environment (which a running one gets at its
        next start). A unit that cannot be loaded gets load=bad-setting and a message; nothing is raised."""

    async def start(self, name: UnitName, mark: str = "") -> RuntimeState:
        """Start a loaded unit; returns when its start job is done (active, or failed), as systemd's does.

        `mark` is the caller's own; a runtime whose units outlive it keeps it beside them."""

    async def stop(self, name: UnitName, mark: str = "") -> RuntimeState:
        """Stop a unit and all its processes; returns when none is left.

        `mark` takes the place of what `start` was given from before the unit is asked to stop until it has: a
        runtime whose units outlive it can end meanwhile. Afterwards there is none."""

    async def kill(self, name: UnitName) -> None:
        """End all processes of a unit at once, by SIGKILL; a stop that is under way ends with them."""

    async def unload(self, names: Iterable[UnitName]) -> None:
        """Forget stopped units; others stay."""

    async def reload(self, name: UnitName) -> RuntimeState:
        """Run ExecReload of a running unit; returns when that is done. A unit without one is left alone."""

    async def run(self, name: UnitName, argv: Sequence[str], timeout: float) -> int:
        """Run a command with the unit's user, directory and environment (its health check).

        Returns its exit status: 128+N when signal N killed it, 124 when it took more than `timeout` seconds
        and was killed, 127 when it cannot be executed."""

    async def context(self, unit: UnitName | Prepared) -> Command | None:
        """A command that does nothing, with the environment, user, folder and limits of a unit's processes:
        of those that run now, None if none does, or of those of a prepared unit, were it started.

        Raises UnitError, ChildError when such a unit cannot be run."""

    async def container_arguments(self, prepared: Prepared) -> tuple[str, ...]:
        """podman's arguments for another container like that of a prepared unit, the image last; empty for a
        unit whose processes run in none. It has the unit's volumes, not its address nor its ports.

        Raises UnitError where podman's generator cannot make one."""

    async def close(self) -> None:
        """Let go of the units; a runtime that is not durable stops them."""
