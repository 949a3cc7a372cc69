"""A cluster read by its changes is the cluster read whole, whatever changes, and in whatever order."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.model import (
    Assignment,
    Endpoint,
    Machine,
    Move,
    Release,
    UnitRecord,
    UnitState,
    keys,
    to_json,
)
from kirsch.cluster.model.certificates import Issued
from kirsch.cluster.model.release import Failure
from kirsch.cluster.registry.base import Delete, Operation, Put
from kirsch.cluster.registry.memory import MemoryRegistry
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.registry.snapshot import Snapshots
from kirsch.cluster.registry.store import Store
from kirsch.unit import Policy, UnitFile

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


RECORD = UnitRecord("0", "launched", 3)


@pytest.mark.parametrize(
    "value",
    [
        RECORD,
        Assignment("0", "launched", 3),
        Move("m1"),
        UnitState("loaded", "active", "running", "0"),
        Machine("m1", "10.0.0.1", {"zone": "a"}),
        Endpoint("s", "s@1.service", "-", "m1", "127.1.2.3"),
        Issued("n1", "machine", 1.0),
        Release(
            "app",
            1,
            {"a.service": "0"},
            policy=Policy(canary=1),
            began={"a.service": RECORD},
            inherited={"b.service": None},
            failure=Failure("a.service", "m1", "failed"),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_newer_kirschd_writes_besides_is_left_out(value: Any):
    """While a cluster is upgraded machine by machine, kirschds of two versions read the same entries."""
    values = json.loads(value.to_json())
    newer = values | {"later": "x"}
    for name in ("failure", "policy"):
        if name in values:
            newer[name] = values[name] | {"later": "x"}
    if "began" in values:
        newer["began"] = {unit: record | {"later": "x"} for unit, record in values["began"].items()}
    assert type(value).parse(to_json(newer)) == value
