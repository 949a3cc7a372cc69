"""A cluster read by its changes is the cluster read whole, whatever changes, and in whatever order."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from kirsch.cluster.model import Assignment, Endpoint, Machine, UnitRecord, UnitState, keys
from kirsch.cluster.registry.base import Delete, Operation, Put
from kirsch.cluster.registry.memory import MemoryRegistry
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.registry.snapshot import Snapshots
from kirsch.cluster.registry.store import Store
from kirsch.unit import UnitFile

NAMES = ("a.service", "b@1.service", "b@.service")
MACHINES = ("m1", "m2")
TEXTS = {
    UnitFile.parse(text).hash: text
    for text in ("[Service]\nExecStart=/bin/true\n", "[Service]\nExecStart=/bin/false\n")
}

names, machines, digests = st.sampled_from(NAMES), st.sampled_from(MACHINES), st.sampled_from(sorted(TEXTS))
desired = st.sampled_from(["inactive", "loaded", "launched"])
keys_and_values = st.one_of(
    st.tuples(st.builds(keys.unit, names), st.builds(UnitRecord, digests, desired).map(UnitRecord.to_json)),
    st.tuples(st.builds(keys.machine, machines), st.just(Machine("m", "10.0.0.1", {"a": "b"}).to_json())),
    st.tuples(st.builds(keys.machine_settings, machines), st.sampled_from(['{"metadata":{"a":null}}', "{}"])),
    st.tuples(
        st.builds(keys.schedule, machines, names),
        st.builds(Assignment, digests, desired).map(Assignment.to_json),
    ),
    st.tuples(
        st.builds(keys.state, names, machines),
        st.builds(
            UnitState, st.just("loaded"), st.sampled_from(["active", "failed"]), st.just("x"), digests
        ).map(UnitState.to_json),
    ),
    st.tuples(st.builds(keys.home, names), machines),
    st.tuples(
        st.builds(keys.endpoint, st.just("s"), names, machines),
        st.builds(Endpoint, st.just("s"), names, machines, machines, st.just("127.1.2.3")).map(
            Endpoint.to_json
        ),
    ),
    st.tuples(st.sampled_from([keys.LEADER, keys.application("x")]), st.just("1")),
)
operations = keys_and_values.flatmap(lambda pair: st.sampled_from([Put(*pair), Put(*pair), Delete(pair[0])]))
transactions = st.lists(
    st.lists(operations, max_size=4, unique_by=lambda operation: operation.key), max_size=8
)


@settings(max_examples=100, deadline=None)
@given(transactions)
def test_by_changes_and_whole(transactions: list[list[Operation]]) -> None:
    async def follow() -> None:
        registry = MemoryRegistry(Store())
        await registry.transact([Put(keys.text(digest), text) for digest, text in TEXTS.items()])
        mirror = Mirror(registry, keys.ROOT)
        snapshots = Snapshots(mirror)
        await mirror.load()
        task = asyncio.create_task(mirror.run())
        handed_out = []
        for transaction in transactions:
            if transaction and (revision := await registry.transact(transaction)):
                await mirror.reached(revision)
            now, whole = snapshots.now(), Snapshots(mirror).now()
            assert now == whole
            assert [e.key for e in mirror.below(keys.ROOT)] == sorted(mirror.entries)
            assert list(mirror.below(keys.STATES)) == [
                mirror.entries[key] for key in sorted(mirror.entries) if key.startswith(keys.STATES)
            ]
            handed_out.append((now, whole))
        # What was handed out before is as it was.
        assert all(now == whole for now, whole in handed_out)
        task.cancel()
        await registry.close()

    asyncio.run(follow())


def test_a_machine_keeps_its_name_whatever_was_set_once():
    said = Machine("m1", "10.0.0.1", {"hostname": "n1", "zone": "a"}).to_json()
    for value in ('"zz"', "null"):
        machine = Machine.parse(said, f'{{"metadata":{{"hostname":{value},"zone":"b"}}}}')
        assert machine.metadata == {"hostname": "n1", "zone": "b"}
