"""What an agent has to do next: its schedule against its runtime. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kirsch.cluster import links
from kirsch.cluster.model import Assignment, Endpoint
from kirsch.cluster.runtime.base import RuntimeState
from kirsch.unit import Options, UnitFile, UnitName

ALIVE = frozenset({"active", "activating", "reloading", "deactivating"})


@dataclass(frozen=True, slots=True)
class Assigned:
    """A unit of this machine's schedule, its text read."""

    file: UnitFile
    options: Options
    assignment: Assignment


@dataclass(frozen=True, slots=True)
class View:
    """All that an agent decides upon.

    `loaded` has the options of what the runtime holds, also of units that left the schedule. `started` has
    the assignment that a unit was last started for, `busy` the units with an action under way, `starting`
    those of them that are being started, `elsewhere` for a unit another live machine that still has a state
    for it.
    """

    assigned: Mapping[UnitName, Assigned] = field(default_factory=dict)
    running: Mapping[UnitName, RuntimeState] = field(default_factory=dict)
    loaded: Mapping[UnitName, Options] = field(default_factory=dict)
    started: Mapping[UnitName, Assignment] = field(default_factory=dict)
    busy: frozenset[UnitName] = frozenset()
    starting: frozenset[UnitName] = frozenset()
    elsewhere: Mapping[UnitName, str] = field(default_factory=dict)
    endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """Make the unit known to the runtime."""

    unit: UnitName


@dataclass(frozen=True, slots=True)
class Start:
    """Load the unit with its links as they are now, and start it."""

    unit: UnitName


@dataclass(frozen=True, slots=True)
class Stop:
    """Take the unit out of service, then stop it."""

    unit: UnitName


@dataclass(frozen=True, slots=True)
class Unload:
    """Forget the stopped unit."""

    unit: UnitName


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing can be done yet, and why."""

    unit: UnitName
    reason: str


Action = Load | Start | Stop | Unload | Hold


def plan(view: View) -> list[Action]:
    """The next action for each unit that needs one, in the order of their names.

    A unit with an action under way is let be, but a start is given up when the unit is to stop.
    """
    names = sorted(view.assigned.keys() | view.running.keys())
    stopping = {name for name in names if _must_stop(name, view)}
    idle = [name for name in names if name not in view.busy or name in view.starting & stopping]
    return [action for name in idle for action in _next(name, view, stopping)]


def alive(state: RuntimeState | None) -> bool:
    """Whether processes of the unit may be there."""
    return state is not None and state.active in ALIVE


def _must_stop(name: UnitName, view: View) -> bool:
    """Whether a unit that runs should not, or not like this."""
    if not alive(view.running.get(name)):
        return False
    assigned = view.assigned.get(name)
    if assigned is None or assigned.assignment.desired != "launched":
        return True
    started = view.started.get(name)
    return started is not None and started != assigned.assignment


def _next(name: UnitName, view: View, stopping: set[UnitName]) -> Iterator[Action]:
    assigned, state = view.assigned.get(name), view.running.get(name)
    if name in stopping:
        replaced = assigned is not None and assigned.assignment.desired == "launched"
        reason = _why_not_replace(name, view, stopping) if replaced else _why_not_stop(name, view, stopping)
        yield Hold(name, reason) if reason else Stop(name)
    elif assigned is None:
        yield Unload(name)
    elif assigned.assignment.desired == "launched" and view.started.get(name) != assigned.assignment:
        action = _start(name, assigned, view)
        yield action
        if state is None and isinstance(action, Hold):
            yield Load(name)
    elif state is None or (state.hash != assigned.assignment.hash and not alive(state)):
        yield Load(name)


def _why_not_stop(name: UnitName, view: View, stopping: set[UnitName]) -> str | None:
    """Of units that stop together, those that use others go first."""
    users = sorted(user.text for user in stopping if _uses(user, name, view))
    return f"stops after {', '.join(users)}" if users else None


def _why_not_replace(name: UnitName, view: View, stopping: set[UnitName]) -> str | None:
    """The instances of a service that are to run anew do so one after another, so that one always serves.

    One that does not serve goes at once; the others wait until all that could serve do. One that failed is
    not waited for.
    """
    ready = {endpoint.unit for endpoint in view.endpoints if endpoint.ready}
    if name.text not in ready:
        return None
    for other in sorted(view.assigned):
        if other == name or other.service != name.service:
            continue
        state = view.running.get(other)
        if view.assigned[other].assignment.desired != "launched" or (state and state.active == "failed"):
            continue
        if other.text not in ready:
            return f"starts anew once {other} is ready"
        if other in stopping and other < name:
            return f"starts anew after {other}"
    return None


def _uses(user: UnitName, name: UnitName, view: View) -> bool:
    """Whether `user` is linked to `name`."""
    options = view.loaded.get(user)
    return user != name and options is not None and any(links.targets(link, name) for link in options.links)


def _start(name: UnitName, assigned: Assigned, view: View) -> Start | Hold:
    if machine := view.elsewhere.get(name):
        return Hold(name, f"waits until machine {machine} has stopped it")
    if missing := links.unready(assigned.options.links, view.endpoints):
        return Hold(name, f"waits for {', '.join(missing)} to be ready")
    return Start(name)
