"""The units that an application is listed with: what a release brings is in the list from its beginning."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.cluster.test_engine import cluster, run

from kirsch.cluster.model import Release, UnitRecord, keys, to_json
from kirsch.cluster.node.units import Note, Units
from kirsch.cluster.registry import MemoryRegistry, Put
from kirsch.cluster.registry.base import Condition, Operation
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.registry.snapshot import Snapshots
from kirsch.unit import UnitFile, UnitName

FILES = {name: UnitFile.parse(f"[Service]\nExecStart=true {name}\n", f"{name}.service") for name in "ab"}
HASHES = {f"{name}.service": file.hash for name, file in FILES.items()}
TEMPLATE = UnitName.parse("w@.service")
BOTH, ONE = ("a.service", "b.service"), ("a.service",)
LIST = keys.application("app")


def release(number: int, units: Sequence[str], **more: object) -> Release:
    return Release("app", number, {unit: HASHES[unit] for unit in units}, whole=True, **more)


def put(release: Release) -> Put:
    return Put(keys.release("app", release.number), release.to_json())


@asynccontextmanager
async def application(
    registry: MemoryRegistry, *releases: Release, units: Sequence[str] = ONE
) -> AsyncIterator[Units]:
    """Its texts and releases in a store, and what people change it by."""
    await registry.transact([Put(keys.text(file.hash), file.text) for file in FILES.values()])
    await registry.transact([*map(put, releases), Put(LIST, to_json(units))])
    mirror = Mirror(registry, keys.ROOT)
    watching = asyncio.create_task(mirror.run())
    entry = await registry.get(LIST)
    await mirror.reached(entry.modified)
    yield Units(registry, mirror, Snapshots(mirror), lambda name, file: [], dict)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def listed(registry: MemoryRegistry) -> list[str]:
    return json.loads((await registry.get(LIST)).value)


def test_what_a_rollback_brings_is_listed_before_it_is_done():
    async def scenario() -> None:
        registry = MemoryRegistry()
        before = (release(1, BOTH, state="done"), release(2, ONE, state="done"))
        async with application(registry, *before) as units:
            await units.bring_back("app", 1, Note())
            assert await listed(registry) == [*BOTH]

    run(scenario())


class Overtaken(MemoryRegistry):
    """A registry in which somebody lists b just before another list of the application is written."""

    written = False

    async def transact(self, operations: Sequence[Operation], conditions: Sequence[Condition] = ()):
        if conditions and not self.written and any(each.key == LIST for each in operations):
            self.written = True
            await super().transact([Put(LIST, to_json(BOTH))])
        return await super().transact(operations, conditions)


def test_a_list_that_changes_while_a_rollback_is_opened_is_read_again():
    async def scenario() -> None:
        registry = Overtaken()
        async with application(registry, release(1, ONE, state="done")) as units:
            opened = await units.bring_back("app", 1, Note())
            assert await listed(registry) == [*BOTH]
            assert opened.gone == ()

    run(scenario())


def test_what_is_opened_as_a_release_ends_stays_listed():
    async def scenario() -> None:
        async with cluster("m1", registry=Opens) as (one,):
            while not list(one.mirror.below(keys.MACHINES)):
                await one.mirror.reached(one.mirror.revision + 1)
            record = UnitRecord(FILES["a"].hash, "loaded")
            texts = [Put(keys.text(file.hash), file.text) for file in FILES.values()]
            unit = Put(keys.unit("a.service"), record.to_json())
            await one.registry.transact([*texts, unit, put(release(1, ONE)), Put(LIST, to_json(ONE))])
            while True:
                texts = [one.mirror.value(keys.release("app", number)) for number in (1, 2)]
                if all(text and Release.parse(text).over for text in texts):
                    break
                await one.mirror.reached(one.mirror.revision + 1)
            assert one.registry.opened
            assert await listed(one.registry) == [*BOTH]

    run(scenario())


class Brings(MemoryRegistry):
    """A registry in which a person opens release 1, which brings b, just before theirs is written."""

    async def transact(self, operations: Sequence[Operation], conditions: Sequence[Condition] = ()):
        theirs = keys.release("app", 1)
        if any(each.key == theirs for each in operations) and await self.get(theirs) is None:
            first = release(1, BOTH, state="paused")
            await super().transact([put(first), Put(LIST, to_json([*BOTH, TEMPLATE.text]))])
        return await super().transact(operations, conditions)


def test_a_scale_keeps_what_another_release_brings_meanwhile():
    async def scenario() -> None:
        registry = Brings()
        file = UnitFile.parse("[Service]\nExecStart=true %i\n", TEMPLATE.text)
        record = UnitRecord(file.hash)
        unit = Put(keys.unit(TEMPLATE.text), record.to_json())
        await registry.transact([Put(keys.text(file.hash), file.text), unit])
        async with application(registry, units=[*ONE, TEMPLATE.text]) as units:
            (opened,) = (await units.scale({TEMPLATE: 1}, Note())).releases
            assert (opened.number, opened.gone) == (2, ())
            assert "b.service" in opened.units

    run(scenario())


class Opens(MemoryRegistry):
    """A registry in which a person opens release 2, which brings b, just before release 1 is done, and calls
    it off as soon as it is."""

    opened = False

    async def transact(self, operations: Sequence[Operation], conditions: Sequence[Condition] = ()):
        ends = conditions and any(each.key == LIST for each in operations)
        if ends and not self.opened:
            self.opened = True
            later = release(2, BOTH, aborted=True)
            await super().transact([put(later), Put(LIST, to_json(BOTH))])
        return await super().transact(operations, conditions)
