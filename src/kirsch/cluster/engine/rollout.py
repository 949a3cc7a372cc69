"""Releases carried out: `step(view) -> Step`. Pure.

Each step is decided from the release and the cluster alone, so that any leader can go on with it. Times are
measured by the leader (`Sight`) and begin anew with the next one.

Forwards, services are replaced one after another, those that others use first, sticky units last; of one
service `at_a_time` instances together (of sticky ones each alone), those first that do not serve, and last
the one that leads (HealthRole=).
Backwards, what does not serve goes back at once, and what serves as soon as enough others do: never do fewer
serve because of a release.

Commands of a release (migrations) are units of their own, which run before anything that runs is touched.
Only what they are linked to and did not run before is started first.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from kirsch.cluster.engine.placement import Refusal
from kirsch.cluster.engine.reconcile import Wait, reconcile
from kirsch.cluster.model import Cluster, Release, Unit, UnitRecord, UnitState, finished, settled
from kirsch.cluster.model.links import targets, used_first
from kirsch.cluster.model.release import Failure, ReleaseState, instance_key, policy_of
from kirsch.unit import Options, Policy, UnitName

# Restarts in one try from which a unit does not come up any more.
LOOP = 3
# Records written in one step: a transaction holds 128 operations, and a unit that goes takes two.
LIMIT = 50

Kind = Literal["over", "nowhere", "stopping", "starting", "failed", "ready"]


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """A unit or, of a Global one, the unit on one machine."""

    unit: UnitName
    machine: str = ""

    @property
    def key(self) -> str:
        """Text by which a release names the instance."""
        return instance_key(self.unit.text, self.machine)

    @classmethod
    def parse(cls, key: str) -> "Instance":
        """Return the instance that a key names."""
        unit, _, machine = key.partition(" ")
        return cls(UnitName.parse(unit), machine)


@dataclass(frozen=True, slots=True)
class Look:
    """An instance as the cluster has it. `over`: nobody wants it to run any more, or it has done its work;
    `try_`: tells one try to start it from the next."""

    kind: Kind
    machine: str = ""
    reason: str = ""
    restarts: int = 0
    try_: tuple[str, int, str] = ("", 0, "")


@dataclass(frozen=True, slots=True)
class Sight:
    """A leader's observation of one try: since when the instance is on its way up (None while its old process
    stops, or it is ready) and since when it is ready without a restart; `wall` is when the try began, or the
    old process was last seen to stop, in seconds since the epoch."""

    try_: tuple[str, int, str]
    since: float | None
    ready: float | None
    restarts: int
    wall: float


Sights = Mapping[Instance, Sight]


@dataclass(frozen=True, slots=True)
class View:
    """All that a step is decided from. `now` is the leader's clock, `wall` seconds since the epoch."""

    release: Release
    cluster: Cluster
    sights: Sights
    now: float
    wall: float

    @property
    def advanced(self) -> list[Instance]:
        """Instances that run the new text, or are to."""
        return [Instance.parse(key) for key in self.release.advanced]

    @property
    def restored(self) -> list[Instance]:
        """Instances that were sent back and served before."""
        keys = (key for key in self.release.restored if key in self.release.served)
        return [Instance.parse(key) for key in keys]

    def unit(self, name: UnitName) -> Unit | None:
        """A unit of the release with its new text, or of one that it took the place of, as it is; None for
        one that is gone."""
        return self.release.targets.get(name) or self.cluster.units.get(name)

    def policy(self, unit: UnitName) -> Policy:
        """The policy for a unit of the release."""
        found = self.unit(unit)
        return policy_of(self.release, found) if found else self.release.policy

    def at_a_time(self, instance: Instance) -> int:
        """Number of instances of a service that may be away together: one where they are sticky."""
        sticky, _ = self.service(instance)
        return 1 if sticky else self.policy(instance.unit).at_a_time

    def service(self, instance: Instance) -> tuple[bool, str]:
        """The service of an instance, as services are sorted: sticky ones last."""
        unit = self.unit(instance.unit)
        return _service(unit) if unit else (False, instance.unit.service)

    def end(self, state: ReleaseState, failure: Failure | None = None) -> "Step":
        """The release is over."""
        failure = failure or self.release.failure
        return Step(replace(self.release, state=state, failure=failure, ended=self.wall), {})


@dataclass(frozen=True, slots=True)
class Step:
    """The release after a step, the records to write for it (None destroys the unit), and when to look again
    though nothing has changed."""

    release: Release
    records: Mapping[UnitName, UnitRecord | None]
    wake: float | None = None


def observe(
    release: Release, cluster: Cluster, sights: Sights, now: float, wall: float
) -> dict[Instance, Sight]:
    """Return what is known of a release's instances, after another look at the cluster."""
    seen = {}
    forwards = map(Instance.parse, (*release.advanced, *_commands_under_way(release)))
    instances = _to_come(release, cluster) if release.backwards else forwards
    for instance in instances:
        look, before = _look(instance, cluster), sights.get(instance)
        if before is None or before.try_ != look.try_:
            before = Sight(look.try_, None, None, look.restarts, wall)
        ready = since = None
        if look.kind == "ready":
            same = before.ready is not None and before.restarts == look.restarts
            ready = before.ready if same else now
        elif look.kind == "stopping":
            # Its try begins once what ran before has ended: its last lines are not of this one.
            before = replace(before, wall=wall)
        else:
            since = before.since if before.since is not None else now
        seen[instance] = replace(before, since=since, ready=ready, restarts=look.restarts)
    return seen


def step(view: View) -> Step:
    """Return what is to be done next for a release."""
    done = _step(view)
    if not (done.release.over or done.release.backwards):
        return done
    # A command that did not end well, may still run, or was to be tried again is not needed any more.
    names = (UnitName.parse(name) for name in done.release.commands)
    left = {name: None for name in names if name in view.cluster.units}
    return replace(done, records={**done.records, **left})


def _step(view: View) -> Step:
    release = view.release
    if release.state == "waiting":
        if release.aborted and not release.inherited:
            return view.end("aborted")
        if any(_goes_first(other, release) for other in view.cluster.active):
            return Step(release, {})
        release = _begun(release, view.cluster)
        view = replace(view, release=release)
    if release.aborted and not release.backwards:
        return _back(view, None)
    if release.state in ("running", "canary"):
        return _forward(view)
    return _backward(view) if release.backwards else Step(release, {})


def _goes_first(other: Release, release: Release) -> bool:
    """True if a release is to wait for another: they change the same units, and that one came before."""
    same = (other.application, other.number) == (release.application, release.number)
    apart = other.application != release.application and not other.units.keys() & release.units.keys()
    if same or apart:
        return False
    earlier = (other.created, other.application, other.number)
    return other.state != "waiting" or earlier < (release.created, release.application, release.number)


def _begun(release: Release, cluster: Cluster) -> Release:
    """Return the release with what everything was like when it began."""
    release = _with_kept_texts(release, cluster)
    texts = dict.fromkeys((*release.units, *release.gone, *release.inherited))
    names = [UnitName.parse(text) for text in texts]
    began = {name.text: cluster.units[name].record if name in cluster.units else None for name in names}
    # What the release before it has replaced by the same text is under watch from the beginning.
    advanced = [
        text
        for text in release.inherited
        if (target := release.targets.get(UnitName.parse(text))) is not None
        and text in release.start
        and (record := began.get(text)) is not None
        and record.hash == release.units[text]
        and not target.options.is_global
    ]
    return replace(release, state="running", began=began, advanced=tuple(advanced))


def _with_kept_texts(release: Release, cluster: Cluster) -> Release:
    """Return the release with the present texts of units whose text it does not change: a release that it
    waited for may have changed them."""
    units, targets = dict(release.units), dict(release.targets)
    for text in release.kept:
        name = UnitName.parse(text)
        template = name.template
        found = cluster.units.get(name) or (cluster.units.get(template) if template else None)
        if found is not None:
            options = found.options if found.name == name else Options.parse(found.file, name)
            units[text] = found.record.hash
            targets[name] = Unit(name, found.file, options, UnitRecord(found.record.hash))
        elif text not in release.start:
            # A release that was to bring it did not.
            units.pop(text, None)
            targets.pop(name, None)
    return replace(release, units=units, targets=targets)


def _forward(view: View) -> Step:
    for name in (*view.release.units, *view.release.commands):
        if UnitName.parse(name) not in view.release.targets:
            return _failed(view, Failure(name, "", "its text is not in the registry any more"))
    view = replace(view, release=_joined(view))
    for instance in view.advanced:
        if failure := _trouble(instance, view):
            return _failed(view, failure)
    pending = list(_pending(view))
    if any(not view.release.commanded.get(name) for name in view.release.commands):
        if first := [i for i in _used_by_commands(view) if i in pending][:LIMIT]:
            return _advance(first, view)
        return _command(view)
    if texts := _texts(view):
        return Step(view.release, dict(texts[:LIMIT]))
    chosen = [instance for instance in pending if _is_new(instance, view.release)][:LIMIT]
    if chosen:
        return _advance(chosen, view)
    unhealthy = [instance for instance in view.advanced if not _healthy(instance, view)]
    if not pending and not unhealthy:
        return _finished(view)
    left = {view.service(instance) for instance in (*pending, *unhealthy)}
    service = next(service for service in _services(view.release) if service in left)
    return _replace([instance for instance in pending if view.service(instance) == service], service, view)


def _commands_under_way(release: Release) -> list[str]:
    return [name for name, ended in release.commanded.items() if not ended]


def _used_by_commands(view: View) -> list[Instance]:
    """Return the new instances that commands are linked to, also through others."""
    release = view.release
    units = {name: unit for name, unit in release.targets.items() if name.text in release.start}
    found: dict[UnitName, None] = {}
    asking = [release.targets[UnitName.parse(name)] for name in release.commands]
    while asking:
        used = {n for n in units if any(targets(link, n) for u in asking for link in u.options.links)}
        asking = [units[name] for name in sorted(used - found.keys())]
        found |= dict.fromkeys(unit.name for unit in asking)
    return [Instance(name) for name in found if _is_new(Instance(name), release)]


def _command(view: View) -> Step:
    """Run the next command, once."""
    release, cluster = view.release, view.cluster
    text = next(name for name in release.commands if not release.commanded.get(name))
    name = UnitName.parse(text)
    instance, unit = Instance(name), cluster.units.get(name)
    if text not in release.commanded:
        record = UnitRecord(release.commands[text], "launched", unit.record.order + 1 if unit else 1)
        if not cluster.machines:
            return Step(release, {})
        if refused := _refused({name: replace(release.targets[name], record=record)}, cluster):
            return _failed(view, Failure(text, "", _unplaced(refused[1]), view.wall))
        return Step(replace(release, commanded={**release.commanded, text: False}), {name: record})
    if unit is None or unit.desired != "launched":
        return _failed(view, Failure(text, "", "was stopped before it had ended", view.wall))
    look = _look(instance, cluster)
    if look.kind == "over":
        return Step(replace(release, commanded={**release.commanded, text: True}), {name: None})
    state = cluster.states.get(name, {}).get(look.machine)
    # While it runs it may take the time it needs; a person can call the release off.
    runs = state is not None and settled(unit, state) and state.active == "activating"
    if not runs and (failure := _trouble(instance, view)):
        return _failed(view, failure)
    wakes = [] if runs else [wake for wake in _wakes(view) if wake > view.now]
    return Step(release, {}, min(wakes, default=None))


def _replace(pending: list[Instance], service: tuple[bool, str], view: View) -> Step:
    """Replace as many instances of a service as may be away at once; canaries first, if there are any."""
    wakes = list(_wakes(view))
    wait = Step(view.release, {}, min((wake for wake in wakes if wake > view.now), default=None))
    if not pending:
        return wait
    release, policy = view.release, view.policy(pending[0].unit)
    replaced = [i for i in view.advanced if not _is_new(i, release) and view.service(i) == service]
    unhealthy = [instance for instance in replaced if not _healthy(instance, view)]
    room = view.at_a_time(pending[0]) - len(unhealthy)
    # A text that runs already is not tried on some first.
    if policy.canary and not release.promoted and not all(_keeps_text(i, release) for i in pending):
        room = min(room, policy.canary - len(replaced))
        if len(replaced) >= policy.canary and not unhealthy and policy.promote:
            ready = [sight.ready or 0.0 for i in replaced if (sight := view.sights.get(i)) is not None]
            due = max(ready, default=0.0) + policy.promote
            if due <= view.now:
                return Step(replace(release, promoted=True), {}, view.now)
            wait = replace(wait, wake=min(due, wait.wake or due))
        if len(replaced) >= policy.canary and not unhealthy:
            return replace(wait, release=replace(release, state="canary"))
    if room <= 0:
        return wait
    first = sorted(pending, key=lambda instance: (_turn(instance, view.cluster), instance))
    return _advance(first[:room], replace(view, release=replace(release, state="running")))


def _joined(view: View) -> Release:
    """Return the release with those machines under watch that took a Global unit up as they joined."""
    release, found = view.release, []
    for name, target in release.targets.items():
        if not target.options.is_global or not _touched(name.text, release):
            continue
        new = _record(name, release)
        for machine, assignment in view.cluster.schedule.get(name, {}).items():
            key = instance_key(name.text, machine)
            if key not in release.advanced and (assignment.hash, assignment.order) == (new.hash, new.order):
                found.append(key)
    return replace(release, advanced=(*release.advanced, *found)) if found else release


def _touched(unit: str, release: Release) -> bool:
    return any(key.partition(" ")[0] == unit for key in release.advanced)


def _texts(view: View) -> list[tuple[UnitName, UnitRecord]]:
    """Return records of units that are not to run, and get another text: nothing starts anew for it."""
    found, release = [], view.release
    for name, target in release.targets.items():
        if name.text in release.start or name.text in release.commands:
            continue
        began = release.began.get(name.text)
        record = replace(began, hash=target.record.hash) if began else UnitRecord(target.record.hash)
        if record != began and _current(name, view.cluster) == began:
            found.append((name, record))
    return found


def _current(name: UnitName, cluster: Cluster) -> UnitRecord | None:
    return cluster.units[name].record if name in cluster.units else None


def _pending(view: View) -> Iterator[Instance]:
    """Instances that are to be replaced or started, and were not yet."""
    release = view.release
    for text in release.start:
        name, began, touched = UnitName.parse(text), release.began.get(text), _touched(text, release)
        target = release.targets[name]
        if not touched and _current(name, view.cluster) != began:
            continue  # somebody has changed it since: that is what they want
        same = began is not None and (began.hash, began.desired) == (target.record.hash, "launched")
        if same and text not in release.restart:
            continue
        places = view.cluster.schedule.get(name, {})
        if target.options.is_global and places:
            instances = [Instance(name, machine) for machine in sorted(places)]
        else:
            instances = [] if touched and target.options.is_global else [Instance(name)]
        yield from (instance for instance in instances if instance.key not in release.advanced)


def _is_new(instance: Instance, release: Release) -> bool:
    """True for what did not run before: there is nothing to lose."""
    began = release.began.get(instance.unit.text)
    return began is None or began.desired != "launched"


def _services(release: Release) -> list[tuple[bool, str]]:
    """Services in the order in which they are replaced."""
    units = [release.targets[UnitName.parse(name)] for name in sorted(release.start)]
    order = list(dict.fromkeys(_service(unit) for unit in used_first(units)))
    return sorted(order, key=lambda service: service[0])


def _service(unit: Unit) -> tuple[bool, str]:
    return unit.options.sticky, unit.name.service


def _advance(chosen: list[Instance], view: View) -> Step:
    """Give instances their new text, unless no machine could have them with it."""
    release, cluster = view.release, view.cluster
    records = {instance.unit: _record(instance.unit, release) for instance in chosen}
    units = {name: replace(release.targets[name], record=record) for name, record in records.items()}
    if refused := _refused(units, cluster):
        gone = _gone(view)
        if gone and not _refused(units, _without(cluster, gone)):
            return Step(release, dict.fromkeys(gone[:LIMIT]))
        if not cluster.machines:
            return Step(release, {})
        name, refusals = refused
        return _failed(view, Failure(name.text, "", _unplaced(refusals), view.wall))
    keys = [instance.key for instance in chosen]
    served = [instance.key for instance in chosen if _serves(instance, cluster)]
    after = replace(release, advanced=(*release.advanced, *keys), served=(*release.served, *served))
    return Step(after, {name: new for name, new in records.items() if _current(name, cluster) != new})


def _refused(units: Mapping[UnitName, Unit], cluster: Cluster) -> tuple[UnitName, tuple[Refusal, ...]] | None:
    """Return the first of the units that no machine could have, and why."""
    for decision in reconcile(replace(cluster, units={**cluster.units, **units})):
        if isinstance(decision, Wait) and decision.unit in units:
            return decision.unit, decision.refusals
    return None


def _unplaced(refusals: Iterable[Refusal]) -> str:
    told = (f"machine {r.machine}: {r.reason}" if r.machine else r.reason for r in refusals)
    return f"cannot be scheduled: {'; '.join(told)}"


def _gone(view: View) -> list[UnitName]:
    """Units that the application has no more, and that nobody has changed since."""
    began, names = view.release.began, map(UnitName.parse, view.release.gone)
    return [n for n in names if n in view.cluster.units and view.cluster.units[n].record == began.get(n.text)]


def _without(cluster: Cluster, names: Iterable[UnitName]) -> Cluster:
    left = set(names)
    return replace(cluster, units={name: unit for name, unit in cluster.units.items() if name not in left})


def _record(name: UnitName, release: Release) -> UnitRecord:
    """Return the record with which a unit runs its new text."""
    began = release.began.get(name.text)
    return UnitRecord(release.units[name.text], "launched", (began.order if began else 0) + 1)


def _finished(view: View) -> Step:
    """End well: what the application has no more goes."""
    if gone := _gone(view):
        return Step(view.release, dict.fromkeys(gone[:LIMIT]))
    return view.end("done")


def _trouble(instance: Instance, view: View) -> Failure | None:
    """Return why an instance will not come up, if that is so."""
    look, sight = _look(instance, view.cluster), view.sights.get(instance)
    if look.kind == "failed":
        reason = f"failed: {look.reason}"
    elif look.kind in ("over", "ready") or sight is None or sight.try_ != look.try_:
        return None
    elif look.restarts >= LOOP:
        reason = f"crashed {look.restarts} times: {look.reason}"
    elif sight.since is not None and view.now - sight.since >= view.policy(instance.unit).deadline:
        reason = f"was not ready within {view.policy(instance.unit).deadline:g} s: {look.reason}"
    else:
        return None
    began = sight.wall if sight else view.wall
    return Failure(instance.unit.text, look.machine, reason.removesuffix(": "), began)


def _failed(view: View, failure: Failure) -> Step:
    failure = replace(failure, ended=view.wall)
    target = view.release.targets.get(UnitName.parse(failure.unit))
    policy = policy_of(view.release, target) if target else view.release.policy
    if policy.on_failure == "pause":
        return Step(replace(view.release, state="paused", failure=failure), {})
    return _back(view, failure)


def _back(view: View, failure: Failure | None) -> Step:
    """Turn back. Where nothing ran before there is nothing to go back to: what was started stays."""
    release = view.release
    befores = [release.before(unit) for unit in (*release.units, *release.gone, *release.inherited)]
    # A person who calls a release off has stopped again what was stopped.
    first = not any(before and (release.aborted or before.desired == "launched") for before in befores)
    # What a release that it took the place of has replaced goes back with it, though it has not touched it.
    units = [unit for name in release.inherited if (unit := view.unit(UnitName.parse(name))) is not None]
    keys = (instance.key for unit in units for instance in _instances(unit, view.cluster))
    advanced = tuple(dict.fromkeys((*release.advanced, *keys)))
    failure = failure or release.failure
    better = set() if release.aborted or failure is None else _better(view)
    if advanced and (first or all(Instance.parse(key).unit.service in better for key in advanced)):
        return view.end("aborted" if release.aborted else "failed", failure)
    if better and failure is not None:
        reason = f"{failure.reason}; {', '.join(sorted(better))} did not serve before and keeps the new text"
        failure = replace(failure, reason=reason)
        release = _keeping(release, better, view.cluster)
    return Step(replace(release, state="rolling-back", advanced=advanced, failure=failure), {})


def _better(view: View) -> set[str]:
    """Return services that serve with the new text, and did not with the one before: a rollback would take
    them down."""
    release, cluster = view.release, view.cluster
    still = [i for i in _to_come(release, cluster) if _serves(i, cluster)]
    before = {instance.unit.service for instance in (*map(Instance.parse, release.served), *still)}
    replaced = [instance for instance in view.advanced if not _is_new(instance, release)]
    return {i.unit.service for i in replaced if _serves(i, cluster)} - before


def _keeping(release: Release, services: Collection[str], cluster: Cluster) -> Release:
    """Return a release for which units of some services go back to what they have now."""
    kept = [name for name in map(UnitName.parse, release.units) if name.service in services]
    records = {name.text: _current(name, cluster) for name in kept}
    inherited = {unit: record for unit, record in release.inherited.items() if unit not in records}
    return replace(release, began={**release.began, **records}, inherited=inherited)


def _backward(view: View) -> Step:
    release, cluster = view.release, view.cluster
    if records := _old_texts(view):
        return Step(release, dict(records[:LIMIT]))
    for instance in view.restored:
        if reason := _stuck(instance, view):
            failure = release.failure or Failure(instance.unit.text, "", "the release was called off")
            words = f"{failure.reason}; {instance.unit} did not come back with its old text either: {reason}"
            return view.end("failed", replace(failure, reason=words))
    left = [instance for instance in view.advanced if instance.key not in release.restored]
    waited = {*view.restored}
    away = Counter(
        view.service(i)
        for i in _to_come(release, cluster)
        if i not in left and (_is_coming(i, view) or (i in waited and not is_up(i, cluster)))
    )
    chosen: list[Instance] = []
    for instance in sorted(left, key=lambda each: (_turn(each, cluster), each)):
        service = view.service(instance)
        keeps = _turn(instance, cluster) > 0 and not _is_new(instance, release)
        if not keeps or away[service] < view.at_a_time(instance):
            chosen.append(instance)
            before = release.before(instance.unit.text)
            away[service] += before is not None and before.desired == "launched"
    if chosen := chosen[:LIMIT]:
        after = replace(release, restored=(*release.restored, *(instance.key for instance in chosen)))
        return Step(after, dict(_old_records(chosen, view)))
    if not left and all(is_up(instance, cluster) for instance in view.restored):
        return view.end("aborted" if release.aborted else "rolled-back")
    return Step(release, {}, min((wake for wake in _wakes(view) if wake > view.now), default=None))


def _old_texts(view: View) -> list[tuple[UnitName, UnitRecord | None]]:
    """Return records of units that do not run and go back to their old text, and of those that are gone."""
    found: list[tuple[UnitName, UnitRecord | None]] = []
    release = view.release
    for text in release.began:
        name, before = UnitName.parse(text), release.before(text)
        now, target = _current(name, view.cluster), release.targets.get(name)
        if text in release.gone and now is None:
            # One that came with a release whose place was taken is not to be there.
            changed = before is not None
        else:
            replaced = target is not None and now is not None and now.hash == target.record.hash
            changed = replaced and text not in release.start and now != before
        if changed:
            found.append((name, before))
    return found


def _old_records(chosen: Iterable[Instance], view: View) -> Iterator[tuple[UnitName, UnitRecord | None]]:
    for name in {instance.unit for instance in chosen}:
        now = _current(name, view.cluster)
        release, text = view.release, name.text
        # What somebody has changed since is theirs.
        if now is None or now.desired != "launched":
            continue
        if now.hash == release.units.get(text) or now == release.began.get(text):
            yield name, release.before(text)


def _stuck(instance: Instance, view: View) -> str:
    """Return why an instance does not come back with its old text; empty while it may."""
    look, sight = _look(instance, view.cluster), view.sights.get(instance)
    if look.kind == "failed" or look.restarts >= LOOP:
        return look.reason or "it failed"
    if look.kind in ("over", "ready", "stopping") or sight is None or sight.since is None:
        return ""
    deadline = view.policy(instance.unit).deadline
    return f"not ready within {deadline:g} s" if view.now - sight.since >= deadline else ""


def _instances(unit: Unit, cluster: Cluster) -> list[Instance]:
    """Return the instances of a unit: of a Global one, those on the machines that have it."""
    places = cluster.schedule.get(unit.name, {}) if unit.options.is_global else {}
    return [Instance(unit.name, machine) for machine in sorted(places)] or [Instance(unit.name)]


def _to_come(release: Release, cluster: Cluster) -> dict[Instance, None]:
    """Return the instances that have their old text again, or have it still."""
    units = [unit for name, unit in release.targets.items() if name.text in release.start]
    still = (i for unit in units for i in _instances(unit, cluster) if i.key not in release.advanced)
    return dict.fromkeys((*map(Instance.parse, release.restored), *still))


def _is_coming(instance: Instance, view: View) -> bool:
    """True for an instance that is about to serve: until then others of its service go on to."""
    kind = _look(instance, view.cluster).kind
    return kind in ("starting", "stopping") and not _stuck(instance, view)


def is_up(instance: Instance, cluster: Cluster) -> bool:
    """True if an instance is ready, or has nothing to do any more."""
    return _look(instance, cluster).kind in ("over", "ready")


def _healthy(instance: Instance, view: View) -> bool:
    """True once an instance was ready for long enough; at once where no text was replaced by another."""
    look, sight = _look(instance, view.cluster), view.sights.get(instance)
    if look.kind == "over":
        return True
    if look.kind != "ready" or sight is None or sight.ready is None or sight.try_ != look.try_:
        return False
    at_once = _is_new(instance, view.release) or _keeps_text(instance, view.release)
    return at_once or view.now >= _due(instance, view, sight.ready)


def _keeps_text(instance: Instance, release: Release) -> bool:
    """True where the instance ran the release's text before: it is only started anew."""
    began = release.began.get(instance.unit.text)
    return began is not None and began.hash == release.units[instance.unit.text]


def _due(instance: Instance, view: View, ready: float) -> float:
    return ready + view.policy(instance.unit).healthy_for


def _wakes(view: View) -> Iterator[float]:
    """Times at which something is decided though nothing changes."""
    for instance, sight in view.sights.items():
        if sight.ready is not None:
            yield _due(instance, view, sight.ready)
        elif sight.since is not None:
            yield sight.since + view.policy(instance.unit).deadline


def _serves(instance: Instance, cluster: Cluster) -> bool:
    """True if the instance is ready, with whichever text."""
    return _rank(instance, cluster) > 0


def _turn(instance: Instance, cluster: Cluster) -> int:
    """Return the turn in which an instance is replaced: before others (0) what does not serve, and what still
    does but was told to start anew; last (2) the one that leads."""
    return _rank(instance, cluster) if is_up(instance, cluster) else 0


def _rank(instance: Instance, cluster: Cluster) -> int:
    """Return 0 for an instance that does not serve, 2 for one that leads, and 1 for others."""
    places = {instance.machine} if instance.machine else cluster.schedule.get(instance.unit, {}).keys()
    here = (e for e in cluster.endpoints if e.unit == instance.unit.text and e.machine in places)
    return max((1 + (e.has_roles and e.leads) for e in here if e.ready), default=0)


def _look(instance: Instance, cluster: Cluster) -> Look:
    unit = cluster.units.get(instance.unit)
    if unit is None or unit.desired != "launched":
        return Look("over")
    places = cluster.schedule.get(instance.unit, {})
    if instance.machine and instance.machine not in places:
        return Look("over")
    machine = instance.machine or min(places, default="")
    try_ = (unit.record.hash, unit.record.order, machine)
    if not machine:
        return Look("nowhere", reason="it is on no machine", try_=try_)
    state = cluster.states.get(instance.unit, {}).get(machine)
    if not settled(unit, state):
        stopping = state is not None and state.active in ("active", "reloading", "deactivating")
        return Look("stopping" if stopping else "starting", machine, _reason(state), 0, try_)
    assert state is not None
    if finished(unit, state):
        return Look("over", machine)
    if state.active == "failed":
        return Look("failed", machine, _reason(state), state.restarts, try_)
    # An endpoint of before the machine was booted is there until the lease of that time ends.
    up = state.active in ("active", "reloading") and _serves(Instance(instance.unit, machine), cluster)
    kind: Kind = "ready" if up else "starting"
    return Look(kind, machine, _reason(state), state.restarts, try_)


def _reason(state: UnitState | None) -> str:
    if state is None:
        return ""
    return state.message or (state.result if state.result != "success" else "")
