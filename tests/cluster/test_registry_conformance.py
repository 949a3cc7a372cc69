"""What every registry does, in the words of etcd 3.4; a new implementation is one more of `opener`."""

import asyncio
import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from tests.cluster.etcd_server import etcd, needs_etcd

from kirsch.cluster.registry import (
    MAX_OPERATIONS,
    MAX_REQUEST_BYTES,
    Change,
    Compacted,
    Created,
    Delete,
    Entry,
    LeaseLost,
    LimitExceeded,
    MemoryRegistry,
    Put,
    Registry,
    RegistryError,
    SQLiteRegistry,
    Unavailable,
    Unchanged,
)
from kirsch.cluster.registry.etcd import EtcdRegistry


@pytest.fixture(scope="module")
def etcd_server(tmp_path_factory):
    with etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", pytest.param("etcd", marks=[pytest.mark.services, needs_etcd])])
def opener(request, tmp_path):
    """What opens a new, empty registry; with it what makes etcd forget, which the others do by themselves."""
    match request.param:
        case "memory":
            return open_memory, None
        case "sqlite":
            return lambda: SQLiteRegistry.open(tmp_path / "registry.db"), None
    server = request.getfixturevalue("etcd_server")
    server.etcdctl("del", "--prefix", "")
    return lambda: EtcdRegistry.open(server.endpoints), server.compact


async def open_memory() -> Registry:
    return MemoryRegistry()


def story(test: Callable[..., Any]) -> Callable[..., None]:
    """Make a test of an async function: it is given a new registry of each kind, and `forget` if it asks."""
    asks = "forget" in inspect.signature(test).parameters

    async def play(opener):
        open_registry, compact = opener

        async def forget(revision):
            if compact is not None:
                await asyncio.to_thread(compact, revision)

        registry = await open_registry()
        try:
            async with asyncio.timeout(30):
                await (test(registry, forget) if asks else test(registry))
        finally:
            await registry.close()

    def run(opener):
        asyncio.run(play(opener))

    run.__doc__ = test.__doc__
    return run


async def take(watch, count: int) -> list[tuple[Change, ...]]:
    return [await anext(watch) for _ in range(count)]


@story
async def test_a_key_remembers_when_it_was_created_and_modified(registry):
    assert await registry.get("a") is None
    first = await registry.put("a", "1")
    second = await registry.put("b", "2")
    third = await registry.put("a", "3")
    assert (second, third) == (first + 1, first + 2)
    assert await registry.get("a") == Entry("a", "3", created=first, modified=third)
    await registry.delete("a")
    again = await registry.put("a", "4")
    assert await registry.get("a") == Entry("a", "4", created=again, modified=again)


@story
async def test_a_value_written_again_is_a_revision_all_the_same(registry):
    first = await registry.put("a", "same")
    assert await registry.put("a", "same") == first + 1


@story
async def test_a_list_is_sorted_and_has_the_prefix_only(registry):
    for key in ("/m/b", "/m/a", "/n", "/m", "/m/ä", "/m/a/1", "/m/B", "/m/\U0001f600", "/m/\ufffd"):
        await registry.put(key, key)
    listing = await registry.list("/m/")
    # By code point, which is the order of the UTF-8 bytes.
    expected = ["/m/B", "/m/a", "/m/a/1", "/m/b", "/m/ä", "/m/\ufffd", "/m/\U0001f600"]
    assert [entry.key for entry in listing.entries] == expected
    assert listing.revision == max(entry.modified for entry in (await registry.list("")).entries)
    assert (await registry.list("/x")).entries == ()


@story
async def test_put_only_if_unchanged(registry):
    first = await registry.put("a", "1", unchanged=0)
    assert first is not None
    assert await registry.put("a", "2", unchanged=0) is None
    second = await registry.put("a", "2", unchanged=first)
    assert await registry.put("a", "3", unchanged=first) is None
    assert await registry.get("a") == Entry("a", "2", first, second)


@story
async def test_delete_says_whether_the_key_was_there(registry):
    assert await registry.delete("a") is False
    before = (await registry.list("")).revision
    assert await registry.delete("a", unchanged=0) is False
    assert (await registry.list("")).revision == before, "deleting nothing is no revision"
    revision = await registry.put("a", "1")
    assert await registry.delete("a", unchanged=revision + 1) is False
    assert await registry.delete("a", unchanged=revision) is True
    assert await registry.get("a") is None
    assert (await registry.list("")).revision == revision + 1


@story
async def test_a_transaction_is_one_revision_or_nothing(registry):
    old = await registry.put("old", "1")
    revision = await registry.transact(
        [Put("a", "1"), Delete("old"), Put("b", "2"), Delete("absent")],
        [Unchanged("old", old), Created("old", old), Unchanged("a", 0), Created("absent", 0)],
    )
    assert revision == old + 1
    listing = await registry.list("")
    assert listing.entries == (Entry("a", "1", revision, revision), Entry("b", "2", revision, revision))
    assert await registry.transact([Put("a", "x"), Delete("b")], [Unchanged("a", revision + 1)]) is None
    assert await registry.list("") == listing


@story
async def test_created_holds_through_writes_and_not_through_a_new_life(registry):
    created = await registry.put("leader", "me")
    await registry.put("leader", "still me")
    assert await registry.transact([Put("a", "1")], [Created("leader", created)])
    await registry.delete("leader")
    assert await registry.transact([Put("a", "2")], [Created("leader", created)]) is None
    await registry.put("leader", "you")
    assert await registry.transact([Put("a", "2")], [Created("leader", created)]) is None


@story
async def test_a_transaction_that_writes_nothing_returns_the_revision(registry):
    revision = await registry.put("a", "1")
    assert await registry.transact([]) == revision
    assert await registry.transact([Delete("absent")]) == revision
    assert await registry.transact([], [Unchanged("a", revision)]) == revision
    assert await registry.transact([], [Unchanged("a", 0)]) is None


@story
async def test_limits(registry):
    keys = [f"k{n}" for n in range(MAX_OPERATIONS + 1)]
    assert await registry.transact([Put(key, "") for key in keys[:-1]])
    before = await registry.list("")
    with pytest.raises(LimitExceeded, match="129 operations"):
        await registry.transact([Put(key, "1") for key in keys])
    with pytest.raises(LimitExceeded, match="129"):
        await registry.transact([], [Unchanged(key, 0) for key in keys])
    with pytest.raises(LimitExceeded, match="k1 is written twice"):
        await registry.transact([Put("k1", "1"), Delete("k1")])
    with pytest.raises(LimitExceeded, match="bytes"):
        await registry.put("k1", "x" * MAX_REQUEST_BYTES)
    with pytest.raises(LimitExceeded, match="bytes"):
        await registry.put("k1", "€" * (MAX_REQUEST_BYTES // 3))
    with pytest.raises(RegistryError, match="empty"):
        await registry.put("", "1")
    with pytest.raises(RegistryError, match="not valid text"):
        await registry.put("k1", "\ud800")
    assert await registry.list("") == before
    assert await registry.put("k1", "x" * (MAX_REQUEST_BYTES - 2))


@story
async def test_text_comes_back_as_it_went_in(registry):
    for text in ("", "\0", "a\0b", "\n\r\t", "é€😀", '"\\', "x" * 100_000):
        await registry.put("key " + text[:10], text)
        entry = await registry.get("key " + text[:10])
        assert entry is not None
        assert entry.value == text


@story
async def test_no_update_is_lost(registry):
    async def count(times):
        for _ in range(times):
            while True:
                entry = await registry.get("count")
                value, revision = (int(entry.value), entry.modified) if entry else (0, 0)
                # Both counters move together or not at all.
                operations = [Put("count", str(value + 1)), Put("twin", str(value + 1))]
                if await registry.transact(operations, [Unchanged("count", revision)]):
                    break

    await asyncio.gather(*(count(20) for _ in range(10)))
    assert [entry.value for entry in (await registry.list("")).entries] == ["200", "200"]


@story
async def test_a_watch_tells_what_happens_from_a_revision_on(registry):
    await registry.put("/a/0", "before")
    start = (await registry.list("")).revision + 1
    first = await registry.put("/a/1", "1")
    await registry.put("/b/1", "not below /a/")
    second = await registry.transact([Put("/a/2", "2"), Put("/b/2", "no"), Delete("/a/0"), Delete("/a/x")])
    watch = registry.watch("/a/", start)
    assert await take(watch, 2) == [
        (Change("/a/1", Entry("/a/1", "1", first, first), first),),
        (
            Change("/a/2", Entry("/a/2", "2", second, second), second),
            Change("/a/0", None, second),
        ),
    ]
    waiting = asyncio.ensure_future(anext(watch))
    await registry.put("/b/3", "no")
    third = await registry.put("/a/1", "3")
    assert await waiting == (Change("/a/1", Entry("/a/1", "3", first, third), third),)
    assert await take(registry.watch("", third), 1) == [
        (Change("/a/1", Entry("/a/1", "3", first, third), third),)
    ]


@story
async def test_a_watch_from_0_is_from_now_on_and_one_from_later_waits(registry):
    await registry.put("a", "old")
    now = registry.watch("a", 0)
    later = registry.watch("a", (await registry.list("")).revision + 2)
    await registry.put("a", "1")
    second = await registry.put("a", "2")
    assert [changes[0].entry.value for changes in await take(now, 2)] == ["1", "2"]
    assert (await take(later, 1))[0][0].revision == second


@story
async def test_many_watchers_see_every_revision_in_order(registry):
    start = (await registry.list("")).revision + 1
    watches = [registry.watch("", start) for _ in range(5)]
    readers = [asyncio.ensure_future(take(watch, 200)) for watch in watches]
    await asyncio.gather(*(registry.put(f"k{n}", "") for n in range(200)))
    for seen in await asyncio.gather(*readers):
        assert [changes[0].revision for changes in seen] == list(range(start, start + 200))


@pytest.mark.slow
@story
async def test_a_forgotten_revision_is_compacted(registry, forget):
    revision = await registry.put("a", "1")
    slow = registry.watch("", revision)
    await anext(slow)
    for count in range(100):
        await asyncio.gather(*(registry.put(f"k{n}", str(count)) for n in range(128)))
    last = (await registry.list("")).revision
    await forget(last - 10)
    with pytest.raises(Compacted):
        await anext(registry.watch("", revision))
    # What was on its way already may still come, but then without a gap.
    seen = revision
    with contextlib.suppress(Compacted):
        while seen < last:
            (change,) = await anext(slow)
            assert change.revision == seen + 1
            seen = change.revision
    assert len(await take(registry.watch("", last), 1)) == 1


@story
async def test_keys_go_when_their_lease_is_revoked(registry):
    lease = await registry.grant(60)
    assert lease != 0
    await registry.put("/m/2", "b", lease=lease)
    await registry.put("/m/1", "a", lease=lease)
    await registry.put("/m/3", "stays")
    before = (await registry.list("")).revision
    entry = await registry.get("/m/1")
    assert entry is not None
    assert entry.lease == lease
    watch = registry.watch("", before + 1)
    await registry.revoke(lease)
    assert await anext(watch) == (Change("/m/1", None, before + 1), Change("/m/2", None, before + 1))
    assert [entry.key for entry in (await registry.list("")).entries] == ["/m/3"]
    await registry.revoke(lease)
    await registry.revoke(12345)
    assert (await registry.list("")).revision == before + 1


@story
async def test_a_lease_that_is_gone_is_lost(registry):
    lease = await registry.grant(60)
    await registry.revoke(lease)
    with pytest.raises(LeaseLost):
        await registry.keep_alive(lease)
    with pytest.raises(LeaseLost):
        await registry.put("a", "1", lease=lease)
    with pytest.raises(LeaseLost):
        await registry.transact([Put("b", "1"), Put("a", "1", 12345)])
    assert (await registry.list("")).entries == ()
    # A condition that does not hold comes first.
    assert await registry.put("a", "1", lease=lease, unchanged=99) is None


@story
async def test_a_key_follows_the_last_lease_it_was_written_with(registry):
    first, second = await registry.grant(60), await registry.grant(60)
    for key in ("moved", "freed", "kept", "deleted"):
        await registry.put(key, "1", lease=first)
    await registry.put("moved", "2", lease=second)
    await registry.put("freed", "2")
    await registry.delete("deleted")
    await registry.put("deleted", "3")
    await registry.revoke(first)
    assert [entry.key for entry in (await registry.list("")).entries] == ["deleted", "freed", "moved"]
    await registry.revoke(second)
    assert [entry.key for entry in (await registry.list("")).entries] == ["deleted", "freed"]


@pytest.mark.slow
@story
async def test_a_lease_runs_out_by_itself(registry):
    short, long = await registry.grant(1), await registry.grant(600)
    await registry.put("short", "1", lease=short)
    revision = await registry.put("long", "1", lease=long)
    assert await anext(registry.watch("", revision + 1)) == (Change("short", None, revision + 1),)
    assert [entry.key for entry in (await registry.list("")).entries] == ["long"]
    with pytest.raises(LeaseLost):
        await registry.keep_alive(short)


@pytest.mark.slow
@story
async def test_a_lease_kept_alive_lives_on(registry):
    kept, dropped = await registry.grant(1.5), await registry.grant(1.5)
    await registry.put("kept", "1", lease=kept)
    revision = await registry.put("dropped", "1", lease=dropped)
    gone = asyncio.ensure_future(anext(registry.watch("", revision + 1)))
    while not gone.done():
        assert await registry.keep_alive(kept) == pytest.approx(1.5, abs=0.6)
        await asyncio.wait([gone], timeout=0.3)
    assert [change.key for change in gone.result()] == ["dropped"]
    assert await registry.get("kept") is not None


@story
async def test_a_lease_must_last(registry):
    with pytest.raises(RegistryError, match="longer than"):
        await registry.grant(0)


@story
async def test_close_ends_watches_and_refuses_the_rest(registry):
    revision = await registry.put("a", "1")

    seen: asyncio.Queue[tuple[Change, ...]] = asyncio.Queue()

    async def watch_all():
        async for changes in registry.watch("", revision):
            seen.put_nowait(changes)

    watching = asyncio.ensure_future(watch_all())
    await seen.get()
    await registry.close()
    await watching
    assert seen.empty()
    for call in (registry.get("a"), registry.list(""), registry.put("a", "1"), registry.grant(1)):
        with pytest.raises(Unavailable, match="closed"):
            await call
    await registry.close()


@story
async def test_a_caller_that_gives_up_leaves_the_others_be(registry):
    calls = [asyncio.ensure_future(registry.put(f"k{n}", "1")) for n in range(10)]
    await asyncio.sleep(0)
    calls[3].cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(revision, int) for n, revision in enumerate(done) if n != 3)
    assert await registry.put("after", "1")


def test_memory_registries_that_share_a_store_see_one_another():
    async def play():
        from kirsch.cluster.registry.store import Store

        store = Store()
        one, other = MemoryRegistry(store), MemoryRegistry(store)
        watch = other.watch("", 0)
        lease = await one.grant(0.05)
        await one.put("a", "1", lease=lease)
        await one.close()
        assert (await anext(watch))[0].entry.value == "1"
        assert await anext(watch) == (Change("a", None, store.revision),), "the lease ends without its client"
        await other.close()

    asyncio.run(play())
