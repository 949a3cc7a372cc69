"""Next actions of an agent: its schedule compared with its runtime. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kirsch.cluster.model import Assignment, Endpoint, links
from kirsch.cluster.runtime.base import RuntimeState
from kirsch.unit import Options, UnitFile, UnitName

# Lifetimes of the lease after which a unit with OnPartition=stop is asked to stop; at 1 it is killed.
STOPS_AT = 0.5

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
    for it, `unread` what the schedule has here and the store no text of (any more): it is let be. `linked`
    has the addresses that a unit's links gave it when it was started, `lacking` the secrets that it is to
    have and nobody has set; `outdated` are units that were loaded with other values of theirs, without their
    address, or with links that lead elsewhere by now.

    `known`: the schedule was read from the store, be it a while ago. `connected`: the store has this machine
    as it is now. `joining`: it was not, and what is no longer its own may still run. `silence` is how long
    the store was not heard, in lifetimes of the lease. `cached` are sticky units as they were assigned last,
    for a machine that boots while the store is away. `lapsed` is a machine whose lease has run out so lately
    that what stops by itself there may not have stopped yet; empty for none. `apart` says until when no unit
    can be started in the flat network here (empty if one can), `unaddressed` are those that have no address
    in it yet.
    """

    assigned: Mapping[UnitName, Assigned] = field(default_factory=dict)
    running: Mapping[UnitName, RuntimeState] = field(default_factory=dict)
    loaded: Mapping[UnitName, Options] = field(default_factory=dict)
    started: Mapping[UnitName, Assignment] = field(default_factory=dict)
    busy: frozenset[UnitName] = frozenset()
    starting: frozenset[UnitName] = frozenset()
    elsewhere: Mapping[UnitName, str] = field(default_factory=dict)
    unread: frozenset[UnitName] = frozenset()
    linked: Mapping[UnitName, Mapping[str, str]] = field(default_factory=dict)
    lacking: Mapping[UnitName, tuple[str, ...]] = field(default_factory=dict)
    outdated: frozenset[UnitName] = frozenset()
    endpoints: tuple[Endpoint, ...] = ()
    known: bool = True
    connected: bool = True
    joining: bool = False
    silence: float = 0.0
    cached: Mapping[UnitName, Assigned] = field(default_factory=dict)
    lapsed: str = ""
    apart: str = ""
    unaddressed: frozenset[UnitName] = frozenset()


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
class Kill:
    """End all processes of the unit at once."""

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


Action = Load | Start | Stop | Kill | Unload | Hold


def plan(view: View) -> list[Action]:
    """The next action for each unit that needs one, in the order of their names.

    A unit with an action under way is let be, but a start is given up when the unit is to stop.
    """
    return [*_cut_off(view), *(_follow(view) if view.known else _boot(view))]


def _follow(view: View) -> list[Action]:
    """Return actions that follow the schedule."""
    names = sorted(view.assigned.keys() | view.running.keys())
    stopping = {name for name in names if _must_stop(name, view)}
    idle = [name for name in names if name not in view.busy or name in view.starting & stopping]
    return [action for name in idle for action in _next(name, view, stopping)]


def _boot(view: View) -> list[Action]:
    """Without a schedule nothing is stopped, and what holds data alone is started: it can be nowhere else."""
    if view.silence < 1:
        return []
    down = [name for name in view.cached if not alive(view.running.get(name)) and name not in view.busy]
    return [Start(name) for name in sorted(down) if name not in view.started]


def _cut_off(view: View) -> list[Action]:
    """OnPartition=stop: asked to stop at half the lease, killed at its end."""
    units = [name for name in sorted(view.running) if _stops_alone(name, view)]
    if view.silence < 1:
        return [Stop(name) for name in units if not view.known and name not in view.busy - view.starting]
    return [Kill(name) for name in units]


def _stops_alone(name: UnitName, view: View) -> bool:
    options = view.loaded.get(name)
    stops = options is not None and options.on_partition == "stop"
    return stops and view.silence >= STOPS_AT and alive(view.running.get(name))


def alive(state: RuntimeState | None) -> bool:
    """True if processes of the unit may be there."""
    return state is not None and state.active in ALIVE


def _must_stop(name: UnitName, view: View) -> bool:
    """True if a unit that runs should not, or not like this."""
    if not alive(view.running.get(name)):
        return False
    if _stops_alone(name, view):
        return True
    if name in view.unread:
        return False
    assigned, started = view.assigned.get(name), view.started.get(name)
    if assigned is None:
        return True
    # What nobody started here runs by itself, as a timer's service does.
    if started is None:
        return False
    if started == assigned.assignment:
        return view.connected and bool(misled(name, view))
    return assigned.assignment.desired != "launched" or view.connected


def misled(name: UnitName, view: View) -> list[str]:
    """Return the targets of a running unit that it knows by an address that is another by now; nothing of a
    unit with LinkUpdate=ignore."""
    assigned, known = view.assigned.get(name), view.linked.get(name)
    if not known or assigned is None or assigned.options.link_update == "ignore":
        return []
    return links.moved(known, assigned.options.links, view.endpoints)


def _next(name: UnitName, view: View, stopping: set[UnitName]) -> Iterator[Action]:
    assigned, state = view.assigned.get(name), view.running.get(name)
    if name in stopping:
        reason = None
        again = assigned is not None and assigned.assignment.desired == "launched"
        if not again and not _stops_alone(name, view):
            reason = _why_not_stop(name, view, stopping)
        yield Hold(name, reason) if reason else Stop(name)
    elif assigned is None:
        if name not in view.unread:
            yield Unload(name)
    elif assigned.assignment.desired == "launched" and view.started.get(name) != assigned.assignment:
        action = _start(name, assigned, view)
        yield action
        if state is None and isinstance(action, Hold):
            yield Load(name)
    elif state is None or (
        (state.hash != assigned.assignment.hash or name in view.outdated) and not alive(state)
    ):
        yield Load(name)


def _why_not_stop(name: UnitName, view: View, stopping: set[UnitName]) -> str | None:
    """Of units that stop together, those that use others go first."""
    users = sorted(user.text for user in stopping if _uses(user, name, view))
    return f"stops after {', '.join(users)}" if users else None


def _uses(user: UnitName, name: UnitName, view: View) -> bool:
    """True if `user` is linked to `name`."""
    options = view.loaded.get(user)
    return user != name and options is not None and any(links.targets(link, name) for link in options.links)


def _start(name: UnitName, assigned: Assigned, view: View) -> Start | Hold:
    if not view.connected or (assigned.options.on_partition == "stop" and view.silence >= STOPS_AT):
        return Hold(name, "waits until its machine has reached the store")
    if view.joining:
        return Hold(name, "waits until its machine has stopped what is no longer its own")
    if view.apart and assigned.options.flat:
        return Hold(name, f"waits {view.apart}")
    if name in view.unaddressed:
        return Hold(name, "waits for an address in the flat network")
    if (machine := view.elsewhere.get(name)) and not assigned.options.is_global:
        return Hold(name, f"waits until machine {machine} has stopped it")
    if view.lapsed and assigned.options.on_partition == "stop":
        return Hold(name, f"waits until machine {view.lapsed}, which was just lost, has stopped it for sure")
    if secrets := view.lacking.get(name):
        what = "secrets" if len(secrets) > 1 else "secret"
        return Hold(name, f"waits for {what} {', '.join(secrets)}: kirsch secret set {secrets[0]} < FILE")
    if missing := links.unready(assigned.options.links, view.endpoints):
        return Hold(name, f"waits for {', '.join(missing)} to be ready")
    return Start(name)
