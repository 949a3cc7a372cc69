"""Invariants of a cluster at every moment, whatever happens: handover, store, loss and return (see DESIGN).

They are checked at each commit of the store, each order to a host and each change of a process.
"""

import json
from collections.abc import Callable, Mapping, Sequence

from tests.simulation.machine import SimulatedMachine
from tests.simulation.truth import Truth

from kirsch.cluster.agent.plan import alive
from kirsch.cluster.engine.placement import matches
from kirsch.cluster.model import Assignment, Cluster, Endpoint, Release, Unit, UnitRecord, UnitState, keys
from kirsch.cluster.registry.base import Change, Entry
from kirsch.cluster.registry.lease import MachineLease
from kirsch.cluster.registry.mirror import RETURN
from kirsch.cluster.runtime.base import RuntimeState
from kirsch.unit import Options, UnitName

TTL = MachineLease.TTL
# What should have stopped where no kirschd was may take so long to stop when one is there again.
NEGLECTED = 12.0
# Seconds after which the engine has seen that an instance does not serve.
UNSEEN = 2.0

Process = tuple[str, UnitName]


class Invariants:
    """For one simulation; `options` has those of each unit, `now` is the clock, `lost` is told of a machine
    whose lease has run out."""

    def __init__(
        self,
        truth: Truth,
        machines: Mapping[str, SimulatedMachine],
        options: Mapping[UnitName, Options],
        now: Callable[[], float],
        broken: Callable[[str], None],
        lost: Callable[[str], None],
    ) -> None:
        self.truth = truth
        self.machines = machines
        self.options = options
        self.now = now
        self.broken = broken
        self.lost = lost
        # What each process was started for; which of them the store has had otherwise since; which was taken
        # away while its machine was lost; which has stopped because it was cut off, or was misled.
        self._started: dict[Process, Assignment] = {}
        self._unwanted: set[Process] = set()
        self._abandoned: set[Process] = set()
        self._stopped_alone: set[Process] = set()
        # The addresses that a process's links gave it; at which each unit's slot was ready, ever.
        self._linked: dict[Process, Mapping[str, str]] = {}
        self._served: dict[str, set[str]] = {}
        # Units that serve; those that served, and since when they do not.
        self._serving: set[str] = set()
        self._away: dict[str, float] = {}
        # Units that serve and are about to be replaced, with the records before; the texts that releases gave
        # each of their units.
        self._leaving: dict[str, str] = {}
        self._texts: dict[str, set[str]] = {}
        # What a machine that came back has to stop before it starts anything.
        self._foreign: dict[str, set[UnitName]] = {}
        # When a machine's keys vanished last, with its lease.
        self._vanished: dict[str, float] = {}

    def committed(self, changes: Sequence[tuple[Change, ...]]) -> None:
        """The store has changed."""
        for revision in changes:
            addresses = {entry.key: entry.value for entry in self.truth.below(keys.ADDRESSES)}
            records = {change.key: self.truth.value(change.key) for change in revision}
            self.truth.feed(revision)
            rescheduled = False
            for change in revision:
                if change.key.startswith(keys.SCHEDULE):
                    machine, unit = keys.pair(change.key)
                    self._scheduled((machine, UnitName.parse(unit)))
                    rescheduled = True
                elif change.key.startswith(keys.ENDPOINTS):
                    self._endpoint(keys.pair(change.key).first, change.entry)
                elif change.key.startswith(keys.UNITS):
                    after = change.entry.value if change.entry else None
                    self._released(UnitName.parse(keys.last(change.key)), after, records.get(change.key))
                    if after is not None:
                        self._replaced(keys.last(change.key), after, records.get(change.key))
                elif change.key.startswith(keys.HOMES) and change.entry is not None:
                    self._settles(UnitName.parse(keys.last(change.key)), change.entry)
                elif change.key.startswith(keys.ADDRESSES):
                    self._given(change, addresses.get(change.key, ""))
                elif change.key.startswith(keys.MESH) and change.entry is not None:
                    self._meshed(self.machines[keys.last(change.key)])
                elif change.key.startswith(keys.MACHINES):
                    machine = keys.last(change.key)
                    if change.entry is None:
                        self._vanished[machine] = self.now()
                        self._abandoned |= {(machine, name) for name in self._not_its_own(machine)}
                        self.lost(machine)
                    elif change.entry.created == change.entry.modified:
                        self._foreign[machine] = self._not_its_own(machine)
            if rescheduled:
                self._check_schedule()

    def process(
        self,
        machine: SimulatedMachine,
        name: UnitName,
        before: RuntimeState | None,
        after: RuntimeState | None,
    ) -> None:
        """A unit on a host has changed."""
        process = (machine.id, name)
        if after is not None and alive(after) and not alive(before):
            self._starts(machine, name, after)
        if not alive(after):
            self._abandoned.discard(process)
            self._foreign.get(machine.id, set()).discard(name)
        if after is None and not machine.powered:
            for known in (self._unwanted, self._stopped_alone):
                known.discard(process)
            self._started.pop(process, None)
            self._linked.pop(process, None)
            self._foreign.pop(machine.id, None)
            # It has stopped, though its endpoint may be there until it serves again.
            self._leaving.pop(name.text, None)

    def ordered(self, machine: SimulatedMachine, verb: str, name: UnitName) -> None:
        """A kirschd is about to start, stop or kill a unit."""
        if verb == "start" or not machine.host.alive(name):
            return
        if verb == "stop" and machine.host.stopping(name):
            return  # an earlier kirschd has stopped it, and this one waits for that
        process = (machine.id, name)
        if process in self._unwanted or process not in self._started:
            return
        if self.options[name].on_partition == "stop" and self._silence(machine) >= TTL / 2 - 0.001:
            self._stopped_alone.add(process)
            return
        if self._misled(process):
            self._stopped_alone.add(process)
            return
        self.broken(f"{name} on {machine.id} is to {verb}, and nobody wants that")

    def _endpoint(self, unit: str, entry: Entry | None) -> None:
        endpoint = Endpoint.parse(entry.value) if entry else None
        if endpoint is None or not endpoint.ready:
            if keys.unit(unit) in self.truth.entries:
                self._away.setdefault(unit, self.now())
            self._serving.discard(unit)
            self._leaving.pop(unit, None)
            return
        self._away.pop(unit, None)
        self._serving.add(unit)
        self._served.setdefault(f"{endpoint.unit}/{endpoint.slot}", set()).add(endpoint.address)

    def _released(self, name: UnitName, text: str | None, before: str | None) -> None:
        """A unit of the service that has releases gets a text only from one that is under way: the new one,
        or on the way back the one before. Until a release is promoted only its canaries have its text."""
        if name.service != "w":
            return
        if text is None:
            self._away.pop(name.text, None)
            self._leaving.pop(name.text, None)
        else:
            self._texts.setdefault(name.text, set()).add(UnitRecord.parse(text).hash)
        hashes = [UnitRecord.parse(each).hash if each else None for each in (text, before)]
        if hashes[0] == hashes[1]:
            return
        active = [r for r in self.truth.cluster().active if r.application == "w"]
        if not any(self._wants(release, name.text, hashes[0]) for release in active):
            states = [f"{release.number} {release.state}" for release in active]
            self.broken(f"{name} gets a text from no release: {', '.join(states)}")
        for release in active:
            if release.state not in ("running", "canary") or release.promoted:
                continue
            began = {unit: record for unit, record in release.began.items() if record}
            tried = [
                key
                for key in release.advanced
                if key in began and began[key].desired == "launched" and began[key].hash != release.units[key]
            ]
            if 0 < release.policy.canary < len(tried):
                self.broken(f"release {release.number} has replaced {', '.join(tried)}")

    @staticmethod
    def _wants(release: Release, unit: str, digest: str | None) -> bool:
        """Tell whether a release gives a unit a text now, or, for None, destroys it."""
        if release.backwards:
            before = release.before(unit)
            return digest == (before.hash if before else None)
        if release.state not in ("running", "canary"):
            return False
        return unit in release.gone if digest is None else release.units.get(unit) == digest

    def _replaced(self, unit: str, text: str, before: str | None) -> None:
        """Check that no more instances are away than a release replaces at a time, as one that serves gets
        another text.

        Instances that the engine cannot have seen yet, that the release removes or, on the way back, that
        will not serve do not count. A new text comes only once the release's command has ended well."""
        name, record = UnitName.parse(unit), UnitRecord.parse(text)
        if self._leaving.get(unit) == text:
            # It has its record of before, and was not even stopped.
            del self._leaving[unit]
            return
        if before is None or name.service != "w" or unit not in self._serving:
            return
        if not any(machine.host.serves(name) for machine in self.machines.values()):
            return  # its machine has just booted, and its endpoint in the store is of before
        old = UnitRecord.parse(before)
        if old.hash == record.hash or old.desired != "launched":
            return
        self._check_commands(unit, record)
        away = {other for other, since in self._away.items() if self.now() - since > UNSEEN}
        away = {other for other in away if other != unit and other.startswith("w@")}
        cluster = self.truth.cluster()
        releases = [r for r in cluster.active if r.application == "w" and r.state != "waiting"]
        if any(release.backwards for release in releases):
            # A release that waited for what is on no machine, or has failed, would never end.
            away = {other for other in away if self._may_come(UnitName.parse(other), cluster)}
        away |= self._leaving.keys() - {unit}
        # What it removes, as fewer were asked for, is not needed until then either.
        away -= {other for release in releases if not release.backwards for other in release.gone}
        if len(away) >= max((release.policy.at_a_time for release in releases), default=1):
            self.broken(f"{unit} is replaced while {', '.join(sorted(away))} does not serve")
        self._leaving.setdefault(unit, before)

    def _check_commands(self, unit: str, record: UnitRecord) -> None:
        for release in self.truth.cluster().active:
            if release.state != "running" or unit not in release.advanced:
                continue
            ended = all(release.commanded.get(name) for name in release.commands)
            if record.hash == release.units.get(unit) and not ended:
                self.broken(f"{unit} is replaced before the command of release {release.number} has ended")

    @staticmethod
    def _may_come(name: UnitName, cluster: Cluster) -> bool:
        """True for a unit that does not serve, is on a machine and did not fail there."""
        states = cluster.states.get(name, {})
        on = cluster.schedule.get(name, {})
        return any(machine not in states or states[machine].active != "failed" for machine in on)

    def _misled(self, process: Process) -> bool:
        """True where a unit that a process uses was ever at another address than the process was told, so
        that it may start anew."""
        ignores = self.options[process[1]].link_update == "ignore"
        told = self._linked.get(process, {})
        return not ignores and any(self._served.get(which, set()) - {at} for which, at in told.items())

    def _scheduled(self, process: Process) -> None:
        machine, name = process
        wanted = self.truth.assignment(machine, name)
        if process in self._started and wanted != self._started[process]:
            self._unwanted.add(process)
        if wanted is not None:
            self._foreign.get(machine, set()).discard(name)
        elif not self.truth.there(machine) and self.machines[machine].host.alive(name):
            self._abandoned.add(process)

    def _settles(self, name: UnitName, home: Entry) -> None:
        if home.created != home.modified and keys.move(name.text) not in self.truth.entries:
            self.broken(f"{name} has got another home, {home.value}, though nobody moved it")

    def _given(self, change: Change, before: str) -> None:
        """A unit was given an address, or has given it back."""
        name = UnitName.parse(keys.pair(change.key).first)
        if change.entry is not None:
            for other in self.truth.below(keys.ADDRESSES):
                if other.value == change.entry.value and other.key != change.key:
                    self.broken(f"{other.value} is given to {change.key} and to {other.key}")
            return
        for machine in self.machines.values():
            if machine.host.address(name) == before and self.truth.there(machine.id):
                self.broken(f"{before} of {name} is anybody's, and in use on {machine.id}")

    def _meshed(self, machine: SimulatedMachine) -> None:
        """A machine is in the flat network, with what it runs."""
        for name in machine.host.units:
            if address := machine.host.address(name):
                self._check_address(machine, name, address)

    def _check_address(self, machine: SimulatedMachine, name: UnitName, address: str) -> None:
        """No other machine of the flat network has it."""
        for other in self.machines.values():
            if other is machine or keys.mesh(other.id) not in self.truth.entries:
                continue
            for theirs in other.host.units:
                if other.host.address(theirs) == address:
                    self.broken(f"{address} is {name}'s on {machine.id} and {theirs}'s on {other.id}")

    def _not_its_own(self, id: str) -> set[UnitName]:
        """Return the units that run on a machine though the schedule does not have them there."""
        host = self.machines[id].host
        return {name for name in host.units if host.alive(name) and not self.truth.assignment(id, name)}

    def _starts(self, machine: SimulatedMachine, name: UnitName, state: RuntimeState) -> None:
        process, options = (machine.id, name), self.options[name]
        mark = json.loads(state.mark)
        assignment = Assignment(**mark["assignment"])
        if name.service == "w" and state.hash not in self._texts.get(name.text, ()):
            self.broken(f"{name} starts on {machine.id} with a text that no release gave it")
        if not options.is_global:
            self._check_alone(machine, name, options)
        known = machine.kirschd is not None and machine.kirschd.node.mirror.revision > 0
        if address := machine.host.address(name):
            if keys.mesh(machine.id) in self.truth.entries:
                self._check_address(machine, name, address)
            elif known and self.truth.there(machine.id) and not self._returns(machine.id):
                self.broken(f"{name} starts on {machine.id}, which is not in the flat network")
        if options.sticky and known:
            self._check_home(machine, name)
        if foreign := self._foreign.get(machine.id):
            others = ", ".join(sorted(other.text for other in foreign))
            self.broken(f"{name} starts on {machine.id}, which came back and still has {others}")
        again = self._started.get(process) == assignment
        if again and process not in self._unwanted | self._stopped_alone:
            self.broken(f"{name} starts again on {machine.id} though nobody ordered it")
        self._started[process], self._linked[process] = assignment, mark["linked"]
        self._unwanted.discard(process)
        self._stopped_alone.discard(process)
        if self.truth.assignment(machine.id, name) != assignment:
            self._unwanted.add(process)
            if not known:
                # From its cache: somebody moved it away while the machine could not be told.
                self._abandoned.add(process)

    def _returns(self, machine: str) -> bool:
        """A machine's lease vanished a moment ago: others have it in the flat network for so long."""
        return self.now() - self._vanished.get(machine, float("-inf")) < RETURN

    def _check_home(self, machine: SimulatedMachine, name: UnitName) -> None:
        """A sticky unit starts at home. Somebody may just have moved it: its new home waits for a machine
        that has said in the store that it starts the unit, and cannot have seen yet that it is not to."""
        key = keys.home(name.text)
        home = self.truth.value(key)
        said = self.truth.value(keys.state(name.text, machine.id))
        if said is not None and UnitState.parse(said).active == "activating" and machine.kirschd:
            seen = machine.kirschd.node.mirror.value(key)
            home = home if seen == home else machine.id
        if home not in (machine.id, None):
            self.broken(f"{name} starts on {machine.id}, its home is {home}")

    def _check_alone(self, machine: SimulatedMachine, name: UnitName, options: Options) -> None:
        for other in self.machines.values():
            if other is machine or not other.host.alive(name):
                continue
            if options.on_partition == "stop":
                if not self._nobody_stops(other):
                    self.broken(f"{name} starts on {machine.id} and has not stopped on {other.id}")
            elif options.sticky and not self.truth.there(machine.id):
                # Cut off, it booted, and has its data: whoever moved the unit away did not wait for it.
                continue
            elif (other.id, name) not in self._abandoned:
                self.broken(f"{name} starts on {machine.id}, it runs on {other.id}")

    def _nobody_stops(self, machine: SimulatedMachine) -> bool:
        """True if there was no kirschd at the end of the machine's lease to stop what stops by itself."""
        return machine.kirschd is None or self.now() - machine.neglected < NEGLECTED

    def _silence(self, machine: SimulatedMachine) -> float:
        heard = machine.host.heard
        return float("inf") if heard is None else self.now() - heard

    def _check_schedule(self) -> None:
        cluster = self.truth.cluster()
        on: dict[str, list[Unit]] = {id: [] for id in cluster.machines}
        for name, places in sorted(cluster.schedule.items()):
            unit = cluster.units.get(name)
            if unit is None:
                continue
            for id in places:
                if id in on:
                    on[id].append(unit)
        for id, units in on.items():
            machine = cluster.machines[id]
            if sum(u.options.cpu for u in units) > machine.cpu + 1e-9:
                self.broken(f"{id} has more than its {machine.cpu:g} cores reserved")
            if sum(u.options.memory for u in units) > machine.memory:
                self.broken(f"{id} has more than its memory reserved")
            for unit in units:
                for other in units if unit.options.conflicts else ():
                    if other is not unit and matches(unit.options.conflicts, other.name):
                        self.broken(f"{unit.name} and {other.name} are on {id} and conflict")
