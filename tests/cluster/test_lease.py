"""One lease a machine: what hangs on it comes back when the lease was lost."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kirsch.cluster.model import keys as names
from kirsch.cluster.registry import Delete, MemoryRegistry, Put, Unavailable, Unchanged
from kirsch.cluster.registry.lease import Heard, LeasedKeys, MachineLease
from kirsch.cluster.registry.mirror import Mirror


def run(scenario: Coroutine) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await scenario

    asyncio.run(bounded())


async def until(mirror: Mirror, values: dict[str, str]) -> None:
    """Wait until the registry holds just that, as a watch tells it."""
    while {key: entry.value for key, entry in mirror.entries.items()} != values:
        await mirror.reached(mirror.revision + 1)


def test_keys_are_what_is_wanted_and_come_back_after_a_lost_lease():
    async def scenario() -> None:
        registry = MemoryRegistry()
        mirror, lease = Mirror(registry, "/"), MachineLease(registry)
        lease.RENEW = 0.05
        keys = LeasedKeys(registry, mirror, lease)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part.run()) for part in (mirror, lease, keys)]
            keys.want({"/a": "1", "/b": "2"})
            await keys.settled()
            await until(mirror, {"/a": "1", "/b": "2"})
            keys.want({"/b": "3"})
            await until(mirror, {"/b": "3"})

            lost = await lease.id()
            await registry.revoke(lost)
            await until(mirror, {})
            await until(mirror, {"/b": "3"})
            assert await lease.id() != lost
            for task in tasks:
                task.cancel()
        await lease.revoke()
        assert (await registry.list("/")).entries == ()

    run(scenario())


def test_what_vanishes_with_its_machine_is_held_until_it_is_back_or_lost():
    async def scenario() -> None:
        registry = MemoryRegistry()
        mirror, given_up = Mirror(registry, names.ROOT), asyncio.Event()
        task = asyncio.create_task(mirror.run())
        machine, state, other = names.machine("m1"), names.state("a.service", "m1"), names.unit("a.service")
        lease = await registry.grant(10)
        puts = [Put(machine, "1", lease), Put(state, "1", lease), Put(other, "1")]
        await mirror.reached(await registry.transact(puts))
        revision = mirror.revision

        await registry.revoke(lease)
        await mirror.reached(revision + 1)
        assert mirror.entries.keys() == {other}
        assert [mirror.held(key).value for key in (machine, state)] == ["1", "1"]
        assert [entry.key for entry in mirror.held_below(names.ROOT)] == sorted([machine, state, other])

        lease = await registry.grant(10)
        await mirror.reached(await registry.put(machine, "2", lease=lease))
        assert mirror.held(machine).value == "2"
        mirror.listen(lambda changed: given_up.set() if changed == {state} else None)
        await given_up.wait()  # the state was not put back
        assert mirror.held(state) is None
        # A key that its machine deletes while it is there is gone at once.
        await mirror.reached(await registry.put(state, "3", lease=lease))
        await registry.delete(state)
        await mirror.reached(mirror.revision + 1)
        assert mirror.held(state) is None
        assert mirror.held(machine).value == "2"
        task.cancel()

    run(scenario())


def test_a_lease_that_vanished_is_told_in_one_line(caplog):
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with leased(registry) as (mirror, lease, keys):
            keys.want({"/a": "1", "/b": "2"})
            await keys.settled()
            await registry.revoke(await lease.id())
            await until(mirror, {})
            await until(mirror, {"/a": "1", "/b": "2"})

    run(scenario())
    (line,) = [r.getMessage() for r in caplog.records if "ended lease" in r.getMessage()]
    assert "0.0 s after its last renewal: 2 keys were written again under lease" in line


def test_a_mirror_lists_anew_what_the_store_has_forgotten():
    async def scenario() -> None:
        registry = MemoryRegistry()
        mirror = Mirror(registry, "/x/")
        heard: list[frozenset[str]] = []
        mirror.listen(heard.append)
        await registry.put("/x/a", "1")
        await registry.put("/y/other", "1")
        await mirror.load()
        # More than the store remembers happens before the watch begins.
        for number in range(12_000):
            await registry.put("/x/n", str(number))
        await registry.delete("/x/a")
        task = asyncio.create_task(mirror.run())
        await until(mirror, {"/x/n": "11999"})
        assert heard[-1] == {"/x/a", "/x/n"}
        task.cancel()

    run(scenario())


class Held(MemoryRegistry):
    """A store whose clients can lose an answer, or have a write come late. The rest is the real one."""

    lose = 0
    late: list[Sequence[Put | Delete]]

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.late = []

    async def transact(self, operations, conditions=()):
        if self.lose:
            self.lose -= 1
            self.late.append(list(operations))
            raise Unavailable("does not answer")
        return await super().transact(operations, conditions)

    async def arrive(self) -> None:
        """What was held back comes now, after all that was written since."""
        for operations in self.late:
            await super().transact(operations)
        self.late.clear()


@asynccontextmanager
async def leased(registry: MemoryRegistry) -> AsyncIterator[tuple[Mirror, MachineLease, LeasedKeys]]:
    mirror, lease = Mirror(registry, "/"), MachineLease(registry)
    keys = LeasedKeys(registry, mirror, lease)
    keys.RETRY = 0.01
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part.run()) for part in (mirror, lease, keys)]
        yield mirror, lease, keys
        for task in tasks:
            task.cancel()


def test_a_write_that_comes_late_is_made_good():
    async def scenario() -> None:
        registry = Held()
        async with leased(registry) as (mirror, lease, keys):
            registry.lose = 1
            keys.want({"/a": "old", "/b": "1"})
            await keys.settled()
            keys.want({"/a": "new"})
            await until(mirror, {"/a": "new"})
            await registry.arrive()
            await until(mirror, {"/a": "old", "/b": "1"})
            await until(mirror, {"/a": "new"})
            # Another's key under the same lease is not ours to judge.
            await registry.put("/other", "1", lease=await lease.id())
            keys.want({"/a": "newer"})
            await until(mirror, {"/a": "newer", "/other": "1"})

    run(scenario())


def test_keys_that_come_and_go_are_not_remembered_for_ever():
    async def scenario() -> None:
        now = 0.0
        registry = MemoryRegistry()
        mirror, lease = Mirror(registry, "/"), MachineLease(registry, lambda: now)
        keys = LeasedKeys(registry, mirror, lease)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part.run()) for part in (mirror, lease, keys)]
            for number in range(200):
                now += 1.0
                wanted = {"/always": "1", f"/unit{number}": "1"}
                keys.want(wanted)
                await until(mirror, wanted)
            # A minute's, for a write that comes late, and some that the mirror was yet to see.
            assert len(keys._own) <= keys.LATE + 10
            # What is back is watched again.
            back = {"/always": "1", "/unit0": "1"}
            keys.want(back)
            await until(mirror, back)
            await registry.delete("/unit0")
            await until(mirror, {"/always": "1"})
            await until(mirror, back)
            for task in tasks:
                task.cancel()

    run(scenario())


def test_a_key_that_was_lost_before_the_mirror_saw_it_is_written_again():
    async def scenario() -> None:
        registry = MemoryRegistry()
        mirror, lease = Mirror(registry, "/"), MachineLease(registry)
        keys = LeasedKeys(registry, mirror, lease)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part.run()) for part in (lease, keys)]
            keys.want({"/a": "1"})
            await keys.settled()
            await registry.delete("/a")
            tasks.append(group.create_task(mirror.run()))
            await until(mirror, {"/a": "1"})
            for task in tasks:
                task.cancel()

    run(scenario())


def test_a_claim_is_written_where_its_condition_holds_and_nowhere_else():
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with leased(registry) as (mirror, _lease, keys):
            revision = await registry.put("/schedule", "m1")
            keys.want({"/state": "starts"})
            assert await keys.claim("/state", "starts", Unchanged("/schedule", revision))
            await until(mirror, {"/schedule": "m1", "/state": "starts"})
            keys.want({"/state": "runs"})
            await until(mirror, {"/schedule": "m1", "/state": "runs"})
            await registry.put("/schedule", "m2")
            assert not await keys.claim("/state", "starts", Unchanged("/schedule", revision))
            assert mirror.value("/state") == "runs"

    run(scenario())


def test_a_claim_stays_until_it_is_left_out_of_what_is_wanted():
    """A machine that had claimed a unit took that back at once, by what it had wanted before; so the next one
    started the unit too (simulator, seed 2552)."""

    async def scenario() -> None:
        async with leased(MemoryRegistry()) as (mirror, _, keys):
            keys.want({"/a": "1"})
            await keys.settled()
            assert await keys.claim("/state", "starts", Unchanged("/none", 0))
            assert await keys.claim("/b", "starts", Unchanged("/none", 0))
            # The write that granted the second has written all else that differs.
            await until(mirror, {"/a": "1", "/state": "starts", "/b": "starts"})
            keys.want({"/a": "2", "/b": "runs"})
            await until(mirror, {"/a": "2", "/b": "runs"})

    run(scenario())


def test_of_claims_that_go_together_only_those_are_refused_whose_own_condition_does_not_hold():
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with leased(registry) as (_mirror, lease, keys):
            await lease.id()
            good, bad = Unchanged("/none", 0), Unchanged("/none", 7)
            claims = (keys.claim("/a", "1", good), keys.claim("/b", "1", bad), keys.claim("/c", "1", good))
            assert await asyncio.gather(*claims) == [True, False, True]

    run(scenario())


def test_a_claim_that_the_store_does_not_answer_says_so():
    async def scenario() -> None:
        registry = Held()
        async with leased(registry) as (mirror, _lease, keys):
            registry.lose = 1
            with pytest.raises(Unavailable):
                await keys.claim("/a", "1", Unchanged("/none", 0))
            # Whether it was written is not known: what is wanted is written.
            await registry.arrive()
            keys.want({"/b": "2"})
            await until(mirror, {"/b": "2"})

    run(scenario())


def test_a_lease_is_counted_from_the_sending_of_what_was_acknowledged():
    async def scenario() -> None:
        clock = [100.0]
        registry = Held()
        lease = MachineLease(registry, lambda: clock[0])
        assert (lease.silence, lease.holds) == (0.0, False)
        task = asyncio.create_task(lease.run())
        await lease.id()
        lease.holding()
        clock[0] += 9.9
        assert lease.silence == pytest.approx(9.9)
        assert lease.holds
        clock[0] += 0.2
        assert not lease.holds
        task.cancel()
        await registry.close()
        # One that never was acknowledged is as old as can be.
        other = MachineLease(registry, lambda: clock[0])
        heard = asyncio.Event()
        other.listen(heard.set)
        task = asyncio.create_task(other.run())
        await heard.wait()
        assert other.silence == float("inf")
        task.cancel()

    run(scenario())


def test_a_store_that_was_away_is_told_so_for_a_while_after_it_is_back():
    async def scenario() -> None:
        clock, heard = [100.0], asyncio.Event()
        lease = MachineLease(MemoryRegistry(), lambda: clock[0])
        lease.RENEW = 0.01
        lease.listen(heard.set)

        async def later(seconds: float) -> bool:
            """What is so after the next renewal."""
            clock[0] += seconds
            heard.clear()
            await heard.wait()
            heard.clear()
            await heard.wait()
            return lease.store_was_away

        assert not lease.store_was_away  # nothing is known yet
        task = asyncio.create_task(lease.run())
        await lease.id()
        assert not await later(1.0)
        assert await later(lease.RENEW + lease.PATIENCE)
        assert [await later(1.0) for _ in range(5)] == [True, True, True, True, False]
        task.cancel()

    run(scenario())


def test_the_next_kirschd_of_a_boot_counts_on_from_where_the_last_one_heard_the_store(tmp_path: Path):
    async def scenario() -> None:
        clock = [100.0]
        registry = MemoryRegistry()
        lease = MachineLease(registry, lambda: clock[0], Heard(tmp_path / "heard"))
        assert lease.silence == 0.0
        task = asyncio.create_task(lease.run())
        await lease.id()
        lease.holding()
        task.cancel()
        clock[0] += 7
        again = MachineLease(registry, lambda: clock[0], Heard(tmp_path / "heard"))
        assert again.silence == pytest.approx(7)
        # It has no lease itself yet.
        assert not again.holds
        # And once it has, the machine still hangs on the last one's, until it says what is under its own.
        task = asyncio.create_task(again.run())
        await again.id()
        assert again.holds
        assert again.silence == pytest.approx(7)
        again.holding()
        assert again.silence == 0.0
        task.cancel()

    run(scenario())


def test_what_was_heard_is_unknown_where_the_file_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "torn").write_text("")
    assert Heard(tmp_path / "torn").read() is None
    assert Heard(tmp_path / "none").read() is None
    assert Heard().read() is None
    Heard(tmp_path / "none" / "heard").write(1.0)
    assert "cannot be written: No such file or directory" in caplog.text
