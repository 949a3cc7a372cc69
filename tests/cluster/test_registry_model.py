"""Any sequence of calls does what a plain model says, on every registry, watches included."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kirsch.cluster.registry import (
    Change,
    Created,
    Delete,
    Entry,
    LeaseLost,
    MemoryRegistry,
    Put,
    SQLiteRegistry,
    Unchanged,
)

KEYS = st.sampled_from(["a", "a/1", "a/2", "b", "b/ä"])
PREFIXES = st.sampled_from(["", "a", "a/", "b", "c"])
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)


class RegistryMachine(RuleBasedStateMachine):
    """The model: entries, leases (id to ttl and expiry), and every change there ever was."""

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = 0.0
        self.entries: dict[str, Entry] = {}
        self.leases: dict[int, tuple[float, float]] = {}
        self.changes: list[Change] = []
        self.known_leases: list[int] = [0]
        self.registry = self.run(self.open())
        self.revision = self.first = self.run(self.registry.list("")).revision

    def run(self, coroutine):
        return self.runner.run(coroutine)

    def clock(self):
        return self.now

    def teardown(self):
        self.run(self.registry.close())
        self.runner.close()

    # What the model does.

    def model_write(self, operations):
        revision = self.revision + 1
        changes = []
        for operation in operations:
            before = self.entries.pop(operation.key, None)
            if isinstance(operation, Put):
                created = before.created if before else revision
                entry = Entry(operation.key, operation.value, created, revision, operation.lease)
                self.entries[operation.key] = entry
                changes.append(Change(operation.key, entry, revision))
            elif before:
                changes.append(Change(operation.key, None, revision))
        if changes:
            self.revision = revision
            self.changes += changes

    def model_end(self, lease):
        if self.leases.pop(lease, None):
            self.model_write(
                [Delete(key) for key in sorted(self.entries) if self.entries[key].lease == lease]
            )

    def model_transact(self, operations, conditions):
        for condition in conditions:
            entry = self.entries.get(condition.key)
            field = "created" if isinstance(condition, Created) else "modified"
            if condition.revision != (getattr(entry, field) if entry else 0):
                return None
        for operation in operations:
            if isinstance(operation, Put) and operation.lease and operation.lease not in self.leases:
                return LeaseLost
        self.model_write(operations)
        return self.revision

    def lease(self, data):
        """Most often one in force, now and then none or one that is gone."""
        return data.draw(st.sampled_from([*self.leases, *self.leases, *self.leases, *self.known_leases]))

    def revision_of(self, key, data):
        """Most often a true one, or the condition would seldom hold."""
        entry = self.entries.get(key)
        true = [entry.created, entry.modified] if entry else [0]
        return data.draw(st.sampled_from([*true, *true, *true, self.revision, 0, 1]))

    # What a client may do.

    @rule(data=st.data(), keys=st.lists(KEYS, unique=True), tested=st.lists(KEYS, max_size=2))
    def transact(self, data, keys, tested):
        operations = [
            Delete(key) if data.draw(st.booleans()) else Put(key, data.draw(VALUES), self.lease(data))
            for key in keys
        ]
        conditions = [
            data.draw(st.sampled_from([Created, Unchanged]))(key, self.revision_of(key, data))
            for key in tested
        ]
        expected = self.model_transact(operations, conditions)
        try:
            assert self.run(self.registry.transact(operations, conditions)) == expected
        except LeaseLost:
            assert expected is LeaseLost

    @rule(data=st.data(), key=KEYS, value=VALUES)
    def put(self, data, key, value):
        unchanged = self.revision_of(key, data) if data.draw(st.booleans()) else None
        lease = self.lease(data)
        conditions = [] if unchanged is None else [Unchanged(key, unchanged)]
        expected = self.model_transact([Put(key, value, lease)], conditions)
        try:
            assert self.run(self.registry.put(key, value, lease=lease, unchanged=unchanged)) == expected
        except LeaseLost:
            assert expected is LeaseLost

    @rule(data=st.data(), key=KEYS)
    def delete(self, data, key):
        unchanged = self.revision_of(key, data) if data.draw(st.booleans()) else None
        entry = self.entries.get(key)
        expected = entry is not None and unchanged in (None, entry.modified)
        if expected:
            self.model_write([Delete(key)])
        assert self.run(self.registry.delete(key, unchanged=unchanged)) is expected

    @rule(data=st.data(), keys=st.lists(KEYS, max_size=5))
    def together(self, data, keys):
        """Calls made together are done in the order in which they were made."""
        calls, expected = [], []
        for key in keys:
            lease = data.draw(st.sampled_from([0, *self.leases]))
            calls.append(self.registry.put(key, "x", lease=lease))
            expected.append(self.model_transact([Put(key, "x", lease)], []))
            if lease and data.draw(st.booleans()):
                calls.append(self.registry.revoke(lease))
                expected.append(self.model_end(lease))

        async def gather():
            return await asyncio.gather(*calls)

        assert self.run(gather()) == expected

    @rule(ttl=st.integers(1, 3))
    def grant(self, ttl):
        lease = self.run(self.registry.grant(ttl))
        assert lease not in self.known_leases
        self.known_leases.append(lease)
        self.leases[lease] = (ttl, self.now + ttl)

    @rule(data=st.data())
    def revoke(self, data):
        lease = self.lease(data)
        self.model_end(lease)
        self.run(self.registry.revoke(lease))

    @rule(data=st.data())
    def keep_alive(self, data):
        lease = self.lease(data)
        try:
            assert self.run(self.registry.keep_alive(lease)) == self.leases[lease][0]
            self.leases[lease] = (self.leases[lease][0], self.now + self.leases[lease][0])
        except LeaseLost:
            assert lease not in self.leases

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds):
        self.now += seconds
        for lease in sorted(self.leases, key=lambda lease: self.leases[lease][1]):
            if self.leases[lease][1] <= self.now:
                self.model_end(lease)
        # Leases end by a timer or by the next call, whichever comes first.
        self.run(self.registry.list(""))

    @rule(data=st.data(), prefix=PREFIXES)
    def watch(self, data, prefix):
        start = data.draw(st.integers(self.first + 1, self.revision + 1))
        expected = [c for c in self.changes if c.revision >= start and c.key.startswith(prefix)]

        async def read():
            seen = []
            watch = self.registry.watch(prefix, start)
            while len(seen) < len(expected):
                changes = await anext(watch)
                assert len({change.revision for change in changes}) == 1
                seen += changes
            return seen

        assert self.run(read()) == expected

    @invariant()
    def holds_what_the_model_holds(self):
        for prefix in ("", "a/"):
            listing = self.run(self.registry.list(prefix))
            expected = tuple(self.entries[key] for key in sorted(self.entries) if key.startswith(prefix))
            assert (listing.entries, listing.revision) == (expected, self.revision)
        assert self.run(self.registry.get("a")) == self.entries.get("a")


class MemoryMachine(RegistryMachine):
    async def open(self):
        return MemoryRegistry(clock=self.clock)


class SQLiteMachine(RegistryMachine):
    async def open(self):
        self.folder = getattr(self, "folder", None) or tempfile.TemporaryDirectory()
        return await SQLiteRegistry.open(Path(self.folder.name) / "registry.db", clock=self.clock)

    def teardown(self):
        super().teardown()
        self.folder.cleanup()

    @rule()
    def open_again(self):
        """Everything is as it was, but for leases and what hung on them; revisions go on, later."""
        self.run(self.registry.close())
        self.registry = self.run(self.open())
        self.entries = {key: entry for key, entry in self.entries.items() if not entry.lease}
        self.leases, self.known_leases = {}, [0]
        before, self.revision = self.revision, self.run(self.registry.list("")).revision
        assert self.revision >= before
        self.first = self.revision


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestSQLite = SQLiteMachine.TestCase
TestSQLite.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
