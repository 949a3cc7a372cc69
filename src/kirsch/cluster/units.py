"""What people want of units, written down: submit, set a state, destroy, all or nothing.

Deciding what to write is pure (`Draft`); `Units` reads, checks and writes, and tries again when
somebody else was faster.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from kirsch.cluster import keys, links
from kirsch.cluster.mirror import Mirror
from kirsch.cluster.model import DesiredState, UnitRecord
from kirsch.cluster.placement import matches
from kirsch.cluster.registry.base import (
    MAX_OPERATIONS,
    Condition,
    Delete,
    Entry,
    Operation,
    Put,
    Registry,
    Unchanged,
)
from kirsch.cluster.snapshot import read_name, read_unit
from kirsch.unit import Options, UnitFile, UnitName

MAX_TEXT = 1 << 20
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


@dataclass(slots=True)
class Draft:
    """The registry's units with requests taken in: what to write, and on which condition."""

    entries: Mapping[str, Entry]
    records: dict[UnitName, UnitRecord] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)

    @classmethod
    def of(cls, entries: Mapping[str, Entry]) -> "Draft":
        """A draft that changes nothing yet."""
        units = (entry for key, entry in entries.items() if key.startswith(keys.UNITS))
        records = {read_name(keys.last(entry.key)): UnitRecord.parse(entry.value) for entry in units}
        return cls(entries, records)

    def text(self, name: UnitName) -> str | None:
        """A unit's text as it was before the draft."""
        record = self.records.get(name)
        entry = self.entries.get(keys.text(record.hash)) if record else None
        return entry.value if entry else None

    def take(self, request: Request, text: str, digest: str, tried: bool) -> None:
        """Take in a request whose text was checked; `tried`: the unit was started and is not up."""
        name = request.name
        before = self.records.get(name)
        record = replace(before, hash=digest) if before else UnitRecord(digest)
        if request.desired:
            order = record.order + (request.desired == "launched" and (request.again or tried))
            record = replace(record, desired=request.desired, order=order)
        if record == before:
            return
        self._guard(keys.unit(name.text))
        if before and before.hash != digest:
            self._drop_text(before.hash, but=name)
        self.records[name] = record
        self.operations += [Put(keys.unit(name.text), record.to_json())]
        if not before or before.hash != digest:
            self._once(Put(keys.text(digest), text))

    def destroy(self, name: UnitName) -> None:
        """Take a unit out, with all that was kept for it."""
        self._guard(keys.unit(name.text))
        record = self.records.pop(name)
        self.operations += [Delete(keys.unit(name.text))]
        if keys.home(name.text) in self.entries:
            self.operations += [Delete(keys.home(name.text))]
        prefix = keys.address(name.text, "")
        self.operations += [Delete(key) for key in self.entries if key.startswith(prefix)]
        self._drop_text(record.hash, but=name)

    def _guard(self, key: str) -> None:
        entry = self.entries.get(key)
        self.conditions.append(Unchanged(key, entry.modified if entry else 0))

    def _drop_text(self, digest: str, but: UnitName) -> None:
        """Drop a text that nobody uses any more, unless somebody submits it again meanwhile."""
        if any(record.hash == digest for name, record in self.records.items() if name != but):
            return
        key = keys.text(digest)
        self._guard(key)
        self._once(Delete(key))

    def _once(self, operation: Operation) -> None:
        """A transaction names a key once: the last word counts."""
        self.operations = [other for other in self.operations if other.key != operation.key]
        self.operations.append(operation)


class Units:
    """The units of a cluster, as people change them. For one event loop.

    `check` is the runtime's: what it would not honour in a file, or UnitError for what it cannot run.
    """

    def __init__(self, registry: Registry, mirror: Mirror, check: Check) -> None:
        self.registry = registry
        self.mirror = mirror
        self.check = check

    async def change(self, requests: Sequence[Request], destroy: Iterable[UnitName] = ()) -> Outcome:
        """Do all of it or nothing. Raises Refused, UnitError, RegistryError."""
        for _ in range(TRIES):
            draft, outcome = self._draft(requests, tuple(destroy))
            if not draft.operations:
                return outcome
            if len(draft.operations) > MAX_OPERATIONS:
                raise Refused(400, f"more than {MAX_OPERATIONS} changes at once: submit the units in parts")
            known = self.mirror.revision
            revision = await self.registry.transact(draft.operations, draft.conditions)
            if revision is not None:
                await self.mirror.reached(revision)
                return outcome
            await self.mirror.reached(known + 1)
        raise Refused(409, "others change the same units at the same time; try again")

    async def destroy(self, name: UnitName) -> None:
        """Destroy one unit. Raises Refused(404)."""
        await self.change([], [name])

    def _draft(self, requests: Sequence[Request], destroy: Sequence[UnitName]) -> tuple[Draft, Outcome]:
        draft, outcome = Draft.of(self.mirror.entries), Outcome()
        texts = {request.name: request.text for request in requests if request.text is not None}
        fresh: dict[UnitName, tuple[UnitFile, Options]] = {}
        for name in destroy:
            if name not in draft.records:
                raise Refused(404, "unit does not exist")
            draft.destroy(name)
        for request in requests:
            text = self._text(request, draft, texts)
            fresh[request.name] = self._read(request, text, outcome)
            if request.name not in draft.records:
                outcome.created.append(request.name)
            draft.take(request, text, fresh[request.name][0].hash, self._tried(request.name))
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
        outcome.warnings += [w for w in self.check(name, file) if w not in outcome.warnings]
        return file, options

    def _tried(self, name: UnitName) -> bool:
        """Whether a start would find the unit loaded but down: then it is an order to try again."""
        prefix = keys.state(name.text, "")
        return any(
            '"active":"failed"' in e.value or '"active":"inactive"' in e.value
            for e in self.mirror.below(prefix)
        )

    def _check_together(self, draft: Draft, fresh: Mapping[UnitName, tuple[UnitFile, Options]]) -> None:
        """No circle of links or of Replaces, among all units that can run."""
        if not any(options.links or options.replaces for _, options in fresh.values()):
            return
        options = {}
        for name in draft.records:
            if not name.is_template:
                text = draft.text(name)
                options[name] = (fresh[name] if name in fresh or text is None else read_unit(name, text))[1]
        circle = links.circle({name: option.links for name, option in options.items()})
        for name, target in pairwise(circle):
            if name in fresh:
                path = " -> ".join(name.text for name in circle)
                link = next(link for link in options[name].links if links.targets(link, target))
                message = f"links go in a circle: {path}; each would wait for the next"
                raise fresh[name][0].error(message, link.entry)
        for name, (_, option) in fresh.items():
            for other, others in options.items():
                if matches(option.replaces, other) and matches(others.replaces, name):
                    raise Refused(400, f"circular replaces: {name} and {other} replace each other")
