"""What people want of units, written down: submit, set a state, destroy, all or nothing.

Deciding what to write is pure (`Draft`); `Units` reads, checks and writes, and tries again when
somebody else was faster.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from kirsch.cluster.engine.placement import matches
from kirsch.cluster.model import Cluster, DesiredState, Unit, UnitRecord, keys, links
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
from kirsch.unit import Options, UnitFile, UnitName

MAX_TEXT = 1 << 20
# What goes into one transaction, which holds 128 operations and 1.5 MB: a unit takes three at most, its
# state one, and one that is destroyed some more.
PART = 40
STATES = 120
DESTROYED = 25
MAX_TEXTS = MAX_TEXT + (1 << 18)
TRIES = 20

Check = Callable[[UnitName, UnitFile], list[str]]


class Refused(Exception):
    """A request that cannot be granted: `status` in HTTP's words (400, 404, 409), one line to say why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody wants of one unit. `text` is its file, None to keep what is there (an instance takes its
    template's); `desired` None keeps the state; `file` is how errors name it; `again` starts it also where
    it is wanted launched already: a failed one is tried again, with `restart` a running one is restarted."""

    name: UnitName
    text: str | None = None
    desired: DesiredState | None = None
    file: str = ""
    again: bool = False


@dataclass(slots=True)
class Outcome:
    """What a request did: `created` the units that are new, and the runtime's warnings."""

    created: list[UnitName] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


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
        """How many units use each text; counted where somebody asks, for most drafts drop none."""
        if self._counted is None:
            self._counted = Counter(unit.record.hash for unit in self.units.values())
        return self._counted

    def _guard(self, key: str) -> None:
        entry = self.mirror.entries.get(key)
        self.conditions.append(Unchanged(key, entry.modified if entry else 0))

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

    def __init__(self, registry: Registry, mirror: Mirror, snapshots: Snapshots, check: Check) -> None:
        self.registry = registry
        self.mirror = mirror
        self.snapshots = snapshots
        self.check = check

    def draft(self, requests: Sequence[Request], destroy: Iterable[UnitName] = ()) -> Outcome:
        """What `change` would do, as far as can be said; nothing is done. Raises Refused, UnitError."""
        return self._draft(requests, tuple(destroy))[1]

    async def change(self, requests: Sequence[Request], destroy: Iterable[UnitName] = ()) -> Outcome:
        """Do all of it or nothing. Raises Refused, UnitError, RegistryError.

        More than one transaction holds is checked as a whole, then written in parts: texts before states.
        """
        gone = tuple(destroy)
        draft, outcome = self._draft(requests, gone)
        if len(draft.operations) <= MAX_OPERATIONS and draft.size <= MAX_TEXTS:
            await self._write(requests, gone)
        else:
            for some in parts(requests):
                await self._write(some, ())
            for start in range(0, len(gone), DESTROYED):
                await self._write((), gone[start : start + DESTROYED])
        return outcome

    async def _write(self, requests: Sequence[Request], destroy: Sequence[UnitName]) -> None:
        for _ in range(TRIES):
            draft, _outcome = self._draft(requests, destroy)
            if not draft.operations:
                return
            known = self.mirror.revision
            revision = await self.registry.transact(draft.operations, draft.conditions)
            if revision is not None:
                await self.mirror.reached(revision)
                return
            await self.mirror.reached(known + 1)
        raise Refused(409, "others change the same units at the same time; try again")

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
            raise Refused(409, f"{request.name}: unit does not exist and options field empty")
        if len(text.encode(errors="surrogateescape")) > MAX_TEXT:
            raise Refused(413, f"{request.name}: a unit file has at most 1 MiB")
        return text

    def _read(self, request: Request, text: str, outcome: Outcome) -> tuple[UnitFile, Options]:
        file = UnitFile.parse(text, request.file or request.name.text)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise file.error("is not UTF-8") from None
        # An instance of a template is checked when the template is: better now than at its start.
        name = request.name.with_instance("1") if request.name.is_template else request.name
        options = Options.parse(file, name)
        links.exposed_environment(file, options)
        outcome.warnings += [w for w in self.check(name, file) if w not in outcome.warnings]
        return file, options

    def _tried(self, name: UnitName) -> bool:
        """Whether the unit was started as last ordered and is down: then a start is an order to try again.

        One that is only loaded, or on its way, is not: it starts anyway, and must not be stopped for it.
        """
        cluster = self.snapshots.now()
        unit, states = cluster.units.get(name), cluster.states.get(name, {})
        return unit is not None and any(
            state.active in ("failed", "inactive") and state.order == unit.record.order
            for state in states.values()
        )

    def _check_together(self, draft: Draft, fresh: Mapping[UnitName, tuple[UnitFile, Options]]) -> None:
        """No circle of links or of Replaces, among all units that can run."""
        if not any(options.links or options.replaces for _, options in fresh.values()):
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
        for name, (_, option) in fresh.items():
            for other, others in options.items() if option.replaces else ():
                if matches(option.replaces, other) and matches(others.replaces, name):
                    raise Refused(400, f"circular replaces: {name} and {other} replace each other")
