"""Changes of units by people: submit, set a state, destroy, all or nothing.

Deciding what to write is pure (`Draft`); `Units` reads, checks and writes, and tries again when
somebody else was faster.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from kirsch.cluster.model import Cluster, DesiredState, Release, Unit, UnitRecord, keys, links
from kirsch.cluster.model.release import scaled
from kirsch.cluster.node import releases
from kirsch.cluster.registry.base import (
    MAX_OPERATIONS,
    Condition,
    Delete,
    Operation,
    Put,
    Registry,
    Unchanged,
)
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.registry.snapshot import Snapshots
from kirsch.unit import Options, Policy, UnitFile, UnitName

MAX_TEXT = 1 << 20
# What goes into one transaction, which holds 128 operations and 1.5 MB: a unit takes three at most, its
# state one, and one that is destroyed some more.
PART = 40
STATES = 120
DESTROYED = 25
MAX_TEXTS = MAX_TEXT + (1 << 18)
TRIES = 20
BUSY = "others change the same units at the same time; try again"

Check = Callable[[UnitName, UnitFile], list[str]]


class Refused(Exception):
    """A request that cannot be granted: `status` in HTTP's words (400, 404, 409), one line to say why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Request:
    """Request for one unit. `text` is its file, None to keep what is there (an instance takes its
    template's); `desired` None keeps the state; `file` is how errors name it; `again` starts it also where
    it is wanted launched already: a failed one is tried again, with `restart` a running one is restarted."""

    name: UnitName
    text: str | None = None
    desired: DesiredState | None = None
    file: str = ""
    again: bool = False


@dataclass(slots=True)
class Outcome:
    """Outcome of a request: `created` the units that are new, the runtime's warnings, and the releases that
    replace units which run."""

    created: list[UnitName] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Note:
    """Note of a person about a change: who they are, why, how it is to be carried out; `at_once` has it
    take the place of a release that is under way."""

    who: str = ""
    message: str = ""
    policy: Policy = field(default_factory=Policy)
    at_once: bool = False


class Draft:
    """The cluster's units with requests taken in: what to write, and on which condition."""

    def __init__(self, mirror: Mirror, cluster: Cluster) -> None:
        self.mirror = mirror
        self.cluster = cluster
        self.units = dict(cluster.units)
        self._counted: Counter[str] | None = None
        self.operations: list[Operation] = []
        self.conditions: list[Condition] = []

    @property
    def size(self) -> int:
        """The bytes that are to be written, about."""
        return sum(len(op.value.encode()) for op in self.operations if isinstance(op, Put))

    def text(self, name: UnitName) -> str | None:
        """A unit's text as it was before the draft."""
        unit = self.cluster.units.get(name) if name in self.units else None
        return unit.file.text if unit else None

    def take(self, request: Request, file: UnitFile, options: Options, tried: bool) -> None:
        """Take in a request whose file was checked; `tried`: the unit was started and is not up."""
        name, digest = request.name, file.hash
        before = self.units.get(name)
        record = replace(before.record, hash=digest) if before else UnitRecord(digest)
        if request.desired:
            order = record.order + (request.desired == "launched" and (request.again or tried))
            record = replace(record, desired=request.desired, order=order)
        if before and record == before.record:
            return
        new_text = not before or before.record.hash != digest
        self._guard(keys.unit(name.text))
        if before and new_text:
            self._drop_text(before.record.hash)
        if self._counted is not None:
            self._counted[digest] += new_text
        self.units[name] = Unit(name, file, options, record)
        self.operations += [Put(keys.unit(name.text), record.to_json())]
        if new_text:
            self._once(Put(keys.text(digest), file.text))

    def destroy(self, name: UnitName) -> None:
        """Take a unit out, with all that was kept for it; its address it has until it has stopped
        (`reconcile`)."""
        self._guard(keys.unit(name.text))
        self._count()
        unit = self.units.pop(name)
        self.operations += [Delete(keys.unit(name.text))]
        if name in self.cluster.homes:
            self.operations += [Delete(keys.home(name.text))]
        self._drop_text(unit.record.hash)

    def _count(self) -> "Counter[str]":
        """Count the uses of each text; counted where somebody asks, for most drafts drop none."""
        if self._counted is None:
            self._counted = Counter(unit.record.hash for unit in self.units.values())
            for release in self.cluster.releases.values():
                self._counted.update(release.hashes)
        return self._counted

    def _guard(self, key: str) -> None:
        entry = self.mirror.entries.get(key)
        self.conditions.append(Unchanged(key, entry.modified if entry else 0))

    def forget(self, release: Release) -> None:
        """Take an old release out, with the texts that only it still names."""
        key = keys.release(release.application, release.number)
        self._guard(key)
        self.operations.append(Delete(key))
        for digest in sorted(release.hashes):
            self._drop_text(digest)

    def _drop_text(self, digest: str) -> None:
        """One unit less uses a text: what nobody uses goes, unless somebody submits it again meanwhile."""
        uses = self._count()
        uses[digest] -= 1
        if uses[digest]:
            return
        key = keys.text(digest)
        self._guard(key)
        self._once(Delete(key))

    def _once(self, operation: Operation) -> None:
        """A transaction names a key once: the last word counts."""
        self.operations = [other for other in self.operations if other.key != operation.key]
        self.operations.append(operation)


def _kept(requests: Iterable[Request]) -> tuple[str, ...]:
    """Return the units whose text requests do not change."""
    return tuple(request.name.text for request in requests if request.text is None)


def parts(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """Requests in parts that a transaction holds: first all texts, then all desired states."""
    part: list[Request] = []
    size = 0
    for request in requests:
        length = len((request.text or "").encode())
        if part and (len(part) == PART or size + length > MAX_TEXT):
            yield part
            part, size = [], 0
        part.append(replace(request, desired=None))
        size += length
    yield part
    wanted = [replace(request, text=None) for request in requests if request.desired]
    yield from (wanted[start : start + STATES] for start in range(0, len(wanted), STATES))


class Units:
    """The units of a cluster, as people change them. For one event loop.

    `check` is the runtime's: what it would not honour in a file, or UnitError for what it cannot run.
    """

    def __init__(
        self,
        registry: Registry,
        mirror: Mirror,
        snapshots: Snapshots,
        check: Check,
        secrets: Callable[[], Mapping[str, float]],
    ) -> None:
        self.registry = registry
        self.mirror = mirror
        self.snapshots = snapshots
        self.check = check
        # The names of the secrets, and when each was set.
        self.secrets = secrets
        # Seconds since the epoch, for people.
        self.wall: Callable[[], float] = time.time

    def draft(self, requests: Sequence[Request], destroy: Iterable[UnitName] = ()) -> Outcome:
        """Return the outcome that `change` would have, and change nothing. Raises Refused, UnitError."""
        return self._draft(requests, tuple(destroy))[1]

    async def change(
        self, requests: Sequence[Request], destroy: Iterable[UnitName] = (), note: Note | None = None
    ) -> Outcome:
        """Do all of it or nothing. Raises Refused, UnitError, RegistryError.

        Units that run and are to run anew, with another text or not, are replaced by a release. More than one
        transaction holds is checked as a whole, then written in parts: texts before states.
        """
        gone, note = tuple(destroy), note or Note()
        draft, outcome = self._draft(requests, gone)
        replaced = {request.name for request in requests if self._replaces(request.name, draft)}
        # What is down starts first, and the others of its service run on until it is ready.
        services = {name.service for name in replaced}
        anew = (request.name for request in requests if self._runs_anew(request.name, draft))
        replaced |= {name for name in anew if name.service in services}
        if len(draft.operations) <= MAX_OPERATIONS and draft.size <= MAX_TEXTS:
            outcome.releases = await self._write(requests, gone, replaced, note)
        else:
            for some in parts([request for request in requests if request.name not in replaced]):
                await self._write(some, ())
            for start in range(0, len(gone), DESTROYED):
                await self._write((), gone[start : start + DESTROYED])
            if replaced:
                wanted = [request for request in requests if request.name in replaced]
                outcome.releases = await self._write(wanted, (), replaced, note)
        return outcome

    async def release(
        self,
        application: str,
        requests: Sequence[Request],
        note: Note,
        scale: Mapping[str, int] | None = None,
    ) -> Outcome:
        """Have an application become as requests say, by a release; none where nothing would change. Units
        that are not requested are removed. Raises Refused, UnitError, RegistryError."""
        for _ in range(TRIES):
            outcome = await self._open(application, requests, note, scale)
            if outcome is not None:
                return outcome
        raise Refused(409, BUSY)

    async def _open(
        self,
        application: str,
        requests: Sequence[Request],
        note: Note,
        scale: Mapping[str, int] | None,
        gone: Sequence[UnitName] | None = None,
    ) -> Outcome | None:
        """Open a release, where anything would change; None if somebody else was faster. Units of `gone` are
        removed; where it is None, all of the application that are not requested."""
        names = [request.name.text for request in requests]
        cluster = self.snapshots.now()
        known = releases.lists(self.mirror).get(application, [])
        whole = gone is None
        if gone is None:
            gone = releases.others(application, names, cluster, known)
        draft, outcome = self._draft(requests, [name for name in gone if name in cluster.units])
        # What one that is under way would still change is to be as it is asked for now.
        going = bool(cluster.under_way(application))
        same = not whole or known == sorted(names)
        if not draft.operations and not going and same:
            return outcome
        release = Release(
            application,
            releases.next_number(application, cluster),
            {name: draft.units[UnitName.parse(name)].record.hash for name in names},
            tuple(r.name.text for r in requests if draft.units[r.name].desired == "launched"),
            tuple(r.name.text for r in requests if self._is_again(r.name, draft)),
            tuple(name.text for name in gone),
            _kept(requests),
            whole=whole,
            scale=scale,
            secrets=self._secrets(draft.units[UnitName.parse(name)] for name in names),
            policy=note.policy,
            who=note.who,
            message=note.message,
            created=self.wall(),
        )
        texts = [draft.units[UnitName.parse(name)].file for name in names]
        release, files = self._with_commands(release, draft)
        texts += files
        if not await self._put_release(release, texts, note):
            return None
        outcome.releases.append(release)
        return outcome

    async def scale(self, counts: Mapping[UnitName, int], note: Note) -> Outcome:
        """Have as many instances of templates, those with the lowest numbers, by a release of each
        application. Raises Refused, UnitError, RegistryError."""
        owners, cluster, outcome = releases.owners(self.mirror), self.snapshots.now(), Outcome()
        groups: dict[str, dict[UnitName, int]] = {}
        for template, count in counts.items():
            if template not in cluster.units or not template.is_template:
                raise Refused(404, f"there is no template {template}")
            groups.setdefault(owners.get(template.text, template.service), {})[template] = count
        for application, wanted in groups.items():
            done = await self._scale(application, wanted, note)
            outcome.created += done.created
            outcome.warnings += done.warnings
            outcome.releases += done.releases
        return outcome

    async def _scale(self, application: str, wanted: Mapping[UnitName, int], note: Note) -> Outcome:
        numbers = {template.text: count for template, count in wanted.items()}
        for _ in range(TRIES):
            cluster = self.snapshots.now()
            mine = releases.lists(self.mirror).get(application, [])
            whole = all(template.text in mine for template in wanted)
            present = {*cluster.units, *releases.coming(application, cluster)}
            there = [n for n in sorted(present) if n.text in mine or (not whole and n.template in wanted)]
            requests, gone = {name: Request(name) for name in there}, []
            for template, count in wanted.items():
                kept, spare = scaled(template, count, {*present, *releases.leaving(application, cluster)})
                requests |= {name: Request(name, desired="launched") for name in map(UnitName.parse, kept)}
                gone += [UnitName.parse(name) for name in spare]
            asked = [request for name, request in requests.items() if name not in gone]
            scale = {**releases.scale_of(application, cluster), **numbers}
            done = await self._open(application, asked, note, scale, None if whole else gone)
            if done is not None:
                return done
        raise Refused(409, BUSY)

    def _with_commands(self, release: Release, draft: Draft) -> tuple[Release, list[UnitFile]]:
        """Return a release with the units that run once before it, and their files. Raises UnitError."""
        found = releases.commands(release, draft.units, draft.cluster.units)
        for name, file in found.items():
            self._read(Request(name), file.text, Outcome())
        hashes = {name.text: file.hash for name, file in found.items()}
        return replace(release, commands=hashes), list(found.values())

    def _secrets(self, units: Iterable[Unit]) -> dict[str, float]:
        """Return when each secret that units ask for was set; 0 for one that is not set."""
        stored = self.secrets()
        names = {secret.name for unit in units for secret in unit.options.secrets}
        return {name: stored.get(name, 0.0) for name in sorted(names)}

    def _is_again(self, name: UnitName, draft: Draft) -> bool:
        """True for a unit that is to start again though its text is the same."""
        before, after = draft.cluster.units.get(name), draft.units[name]
        return (
            before is not None
            and after.desired == before.desired == "launched"
            and after.record.hash == before.record.hash
            and after.record.order != before.record.order
        )

    async def _put_release(self, release: Release, files: Iterable[UnitFile], note: Note) -> bool:
        """Write a release with the texts it needs; False if somebody else was faster."""
        texts = {keys.text(file.hash): file.text for file in files}
        new = [Put(key, text) for key, text in texts.items() if key not in self.mirror.entries]
        while len(new) > PART or sum(len(put.value) for put in new) > MAX_TEXT:
            count = max(1, PART if sum(len(put.value) for put in new[:PART]) <= MAX_TEXT else PART // 20)
            await self._reached(await self.registry.transact(new[:count], []))
            new = new[count:]
        cluster = self.snapshots.now()
        release, writes, conditions = releases.opened(release, note.at_once, cluster, self.mirror)
        known = self.mirror.revision
        revision = await self.registry.transact([*new, *writes], conditions)
        await self._reached(revision, known)
        if revision is not None:
            await self._forget_old(release.application)
        return revision is not None

    async def bring_back(self, application: str, number: int | None, note: Note) -> Release:
        """Open a release that brings back what an earlier one was. Raises Refused, RegistryError."""
        for _ in range(TRIES):
            cluster = self.snapshots.now()
            then = releases.earlier(application, number, cluster)
            if isinstance(then, str):
                raise Refused(404, then)
            known = releases.lists(self.mirror).get(application, []) if then.whole else []
            gone = releases.others(application, then.units, cluster, known)
            release = Release(
                application,
                releases.next_number(application, cluster),
                then.units,
                then.start,
                scale=then.scale,
                secrets={name: self.secrets().get(name, 0.0) for name in then.secrets},
                gone=tuple(name.text for name in gone),
                whole=then.whole,
                policy=then.policy,
                # What ran well before is not tried on some first.
                promoted=True,
                who=note.who,
                message=note.message or f"back to release {then.number}",
                created=self.wall(),
            )
            if await self._put_release(release, (), note):
                return release
        raise Refused(409, BUSY)

    async def steer(self, release: Release, verb: releases.Verb) -> Release:
        """Pause, resume, promote or abort a release. Raises Refused, RegistryError."""
        key = keys.release(release.application, release.number)
        for _ in range(TRIES):
            cluster = self.snapshots.now()
            after = releases.steered(cluster.releases[release.application, release.number], verb, cluster)
            if isinstance(after, str):
                raise Refused(409, after)
            known, entry = self.mirror.revision, self.mirror.entries.get(key)
            guard = Unchanged(key, entry.modified if entry else 0)
            revision = await self.registry.transact([Put(key, after.to_json())], [guard])
            await self._reached(revision, known)
            if revision is not None:
                return after
        raise Refused(409, BUSY)

    async def _reached(self, revision: int | None, known: int = 0) -> None:
        await self.mirror.reached(known + 1 if revision is None else revision)

    async def _forget_old(self, application: str) -> None:
        """Delete releases beyond those that are kept, and texts that nobody else names."""
        cluster = self.snapshots.now()
        draft = Draft(self.mirror, cluster)
        for old in releases.old(application, cluster):
            draft.forget(old)
        guards = {guard.key: guard for guard in draft.conditions if isinstance(guard, Unchanged)}
        for start in range(0, len(draft.operations), MAX_OPERATIONS):
            some = draft.operations[start : start + MAX_OPERATIONS]
            # Where somebody was faster the next release does it.
            await self._reached(await self.registry.transact(some, [guards[each.key] for each in some]), -1)

    def _runs_anew(self, name: UnitName, draft: Draft) -> bool:
        """True for a unit that was to run and is to run anew."""
        before, after = draft.cluster.units.get(name), draft.units.get(name)
        if before is None or after is None or name not in draft.cluster.schedule:
            return False
        return before.desired == after.desired == "launched" and before.record != after.record

    def _replaces(self, name: UnitName, draft: Draft) -> bool:
        """True for a unit that runs, and is to run anew."""
        if not self._runs_anew(name, draft):
            return False
        before, after = draft.cluster.units[name], draft.units[name]
        states = draft.cluster.states.get(name, {}).values()
        down = bool(states) and all(state.active in ("failed", "inactive") for state in states)
        return not down or before.record.hash != after.record.hash

    async def _write(
        self,
        requests: Sequence[Request],
        destroy: Sequence[UnitName],
        replaced: Collection[UnitName] = (),
        note: Note | None = None,
    ) -> list[Release]:
        """Write what is wanted of units, but for those to be replaced: these have a release each service."""
        for _ in range(TRIES):
            whole, _outcome = self._draft(requests, destroy)
            direct = [request for request in requests if request.name not in replaced]
            draft = self._draft(direct, destroy)[0] if replaced else whole
            opened = self._releases(whole, [r for r in requests if r.name in replaced], note or Note())
            operations, conditions = list(draft.operations), list(draft.conditions)
            for release, files in opened:
                texts = [Put(keys.text(file.hash), file.text) for file in files]
                taken = {operation.key for operation in operations}
                operations += [text for text in texts if text.key not in taken]
                _, writes, guards = releases.opened(
                    release, (note or Note()).at_once, self.snapshots.now(), self.mirror
                )
                operations, conditions = [*operations, *writes], [*conditions, *guards]
            if not operations:
                return []
            known = self.mirror.revision
            revision = await self.registry.transact(operations, conditions)
            await self._reached(revision, known)
            if revision is not None:
                for release, _ in opened:
                    await self._forget_old(release.application)
                return [release for release, _ in opened]
        raise Refused(409, BUSY)

    def _releases(
        self, draft: Draft, requests: Sequence[Request], note: Note
    ) -> list[tuple[Release, list[UnitFile]]]:
        """The releases that replace units: one for each application, or service, that they are of."""
        owners = releases.owners(self.mirror)
        groups: dict[str, list[Unit]] = {}
        for request in requests:
            unit = draft.units[request.name]
            groups.setdefault(owners.get(unit.name.text, unit.name.service), []).append(unit)
        found = []
        for application, units in sorted(groups.items()):
            names = tuple(unit.name.text for unit in units)
            release = Release(
                application,
                releases.next_number(application, draft.cluster),
                {unit.name.text: unit.record.hash for unit in units},
                names,
                tuple(unit.name.text for unit in units if self._is_again(unit.name, draft)),
                kept=_kept(request for request in requests if request.name.text in names),
                secrets=self._secrets(units),
                policy=note.policy,
                who=note.who,
                message=note.message,
                created=self.wall(),
            )
            release, files = self._with_commands(release, draft)
            files += {unit.file.hash: unit.file for unit in units}.values()
            found.append((release, files))
        return found

    async def destroy(self, name: UnitName) -> None:
        """Destroy one unit. Raises Refused(404)."""
        await self.change([], [name])

    def _draft(self, requests: Sequence[Request], destroy: Sequence[UnitName]) -> tuple[Draft, Outcome]:
        draft, outcome = Draft(self.mirror, self.snapshots.now()), Outcome()
        texts = {request.name: request.text for request in requests if request.text is not None}
        fresh: dict[UnitName, tuple[UnitFile, Options]] = {}
        for name in destroy:
            if name not in draft.units:
                raise Refused(404, f"there is no unit {name}")
            draft.destroy(name)
        for request in requests:
            text = self._text(request, draft, texts)
            file, options = fresh[request.name] = self._read(request, text, outcome)
            if request.name not in draft.units:
                outcome.created.append(request.name)
            draft.take(request, file, options, self._tried(request.name))
        self._check_together(draft, fresh)
        return draft, outcome

    def _text(self, request: Request, draft: Draft, texts: Mapping[UnitName, str]) -> str:
        if request.desired in ("launched", "loaded") and request.name.is_template:
            raise Refused(400, f'cannot activate template "{request.name}"; start an instance of it')
        text = request.text
        if text is None:
            text = draft.text(request.name)
        if text is None and (template := request.name.template):
            text = texts.get(template, draft.text(template))
        if text is None:
            # A release under way brings it, and has not come to it yet.
            coming = (unit for each in draft.cluster.active if (unit := each.targets.get(request.name)))
            text = next((unit.file.text for unit in coming), None)
        if text is None:
            raise Refused(409, f"{request.name}: unit does not exist and options field empty")
        if len(text.encode(errors="surrogateescape")) > MAX_TEXT:
            raise Refused(413, f"{request.name}: a unit file has at most 1 MiB")
        return text

    def _read(self, request: Request, text: str, outcome: Outcome) -> tuple[UnitFile, Options]:
        file = UnitFile.parse(text, request.file or request.name.text)
        file.check_encoding()
        # An instance of a template is checked when the template is: better now than at its start.
        name = request.name.with_instance("1") if request.name.is_template else request.name
        options = Options.parse(file, name)
        links.exposed_environment(file, options)
        outcome.warnings += [w for w in self.check(name, file) if w not in outcome.warnings]
        return file, options

    def _tried(self, name: UnitName) -> bool:
        """True if the unit was started as last ordered, and is down or is to stop: a start runs it anew then.

        One that is only loaded, or on its way, is not: it starts anyway, and must not be stopped for it.
        """
        cluster = self.snapshots.now()
        unit, states = cluster.units.get(name), cluster.states.get(name, {})
        return unit is not None and any(
            (state.active in ("failed", "inactive") or unit.desired != "launched")
            and state.order == unit.record.order
            for state in states.values()
        )

    def _check_together(self, draft: Draft, fresh: Mapping[UnitName, tuple[UnitFile, Options]]) -> None:
        """No circle of links, among all units that can run."""
        if not any(options.links for _, options in fresh.values()):
            return
        options = {name: unit.options for name, unit in draft.units.items() if not name.is_template}
        linked = {name: option.links for name, option in options.items()}
        circle = links.circle(linked, [name for name in fresh if linked.get(name)])
        for name, target in pairwise(circle):
            if name in fresh:
                path = " -> ".join(name.text for name in circle)
                link = next(link for link in options[name].links if links.targets(link, target))
                message = f"links go in a circle: {path}; each would wait for the next"
                raise fresh[name][0].error(message, link.entry)
