"""What only etcd has: members that die, hang and come back, certificates, compaction, leases on its clock."""

import asyncio
import contextlib
import math
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cluster.etcd_server import Authority, etcd, needs_etcd

from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.registry import (
    Change,
    Compacted,
    Created,
    Delete,
    Entry,
    LeaseLost,
    LimitExceeded,
    Put,
    RegistryError,
    Unavailable,
)
from kirsch.cluster.registry.etcd import EtcdRegistry
from kirsch.cluster.registry.etcd.endpoint import Endpoint, parse_endpoint
from kirsch.cluster.registry.etcd.failure import Failure, Outcome
from kirsch.cluster.registry.etcd.members import CALL_SECONDS, attempt_seconds
from kirsch.cluster.registry.etcd.message import Changes, entry, prefix_range
from kirsch.cluster.registry.etcd.registry import renewal_seconds
from kirsch.cluster.registry.etcd.rpc import Connection, RpcError, StatusCode, messages
from kirsch.cluster.registry.mirror import Mirror

pytestmark = pytest.mark.slow
# What a call may take beyond its deadline on a machine that is busy.
LATE = 10.0


@pytest.fixture
def one(tmp_path):
    with etcd(tmp_path / "etcd") as server:
        yield server


@pytest.fixture
def three(tmp_path):
    with etcd(tmp_path / "etcd", members=3) as server:
        yield server


@contextlib.asynccontextmanager
async def opened(server, certificates=None):
    registry = await EtcdRegistry.open(server.endpoints, certificates or server.certificates)
    try:
        async with asyncio.timeout(90):
            yield registry
    finally:
        await registry.close()


async def until_true(condition):
    """Wait until a condition holds that other tasks bring about."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


class Watcher:
    """Follows a prefix as the Mirror does, and keeps what came and what went wrong."""

    def __init__(self, registry, prefix="", revision=0):
        self.seen = []
        self.errors = []
        self._task = asyncio.ensure_future(self._run(registry, prefix, revision))

    async def _run(self, registry, prefix, revision):
        while True:
            try:
                async for changes in registry.watch(prefix, revision):
                    self.seen.append(changes)
                    revision = changes[-1].revision + 1
                return
            except Unavailable as error:
                self.errors.append(error)
                await asyncio.sleep(0.1)

    async def until(self, revision):
        await until_true(lambda: self.seen and self.seen[-1][-1].revision >= revision)

    def revisions(self):
        return [changes[0].revision for changes in self.seen]

    async def end(self):
        self._task.cancel()
        await asyncio.wait([self._task])


class Writer:
    """Counts a key up, one write after another."""

    def __init__(self, registry):
        self.revisions = []
        self.longest = 0.0
        self._registry = registry
        self._stop = False
        self._task = asyncio.ensure_future(self._run())

    async def _run(self):
        while not self._stop:
            begun = time.monotonic()
            self.revisions.append(await self._registry.put("count", str(len(self.revisions))))
            self.longest = max(self.longest, time.monotonic() - begun)

    async def more(self, count=20):
        """Return once that many more are written. Raises what a write raised."""
        wanted = len(self.revisions) + count
        await until_true(lambda: len(self.revisions) >= wanted or self._task.done())
        if self._task.done():
            await self._task

    async def end(self):
        self._stop = True
        await self._task


# Values, without a server.


def test_endpoints():
    assert parse_endpoint("https://10.0.0.1:2379", secure=True) == Endpoint(
        "https://10.0.0.1:2379", "ipv4:10.0.0.1:2379"
    )
    assert parse_endpoint("http://[::1]:1/", secure=False).target == "ipv6:[::1]:1"
    assert parse_endpoint("https://n1.example", secure=True).target == "dns:///n1.example:2379"


@pytest.mark.parametrize(
    ("url", "secure", "words"),
    [
        ("10.0.0.1:2379", True, "is no etcd endpoint: write it as https://10.0.0.1:2379"),
        ("https://10.0.0.1:x", True, "is no etcd endpoint"),
        ("https://10.0.0.1:99999", True, "is no etcd endpoint"),
        ("https://10.0.0.1/v3", True, "is no etcd endpoint"),
        ("https://me@10.0.0.1", True, "is no etcd endpoint"),
        ("https://[::1", True, "is no etcd endpoint"),
        ("unix:///run/etcd", True, "is no etcd endpoint"),
        ("", True, "is no etcd endpoint"),
        ("http://10.0.0.1:2379", True, "http:// would not use them"),
        ("https://10.0.0.1:2379", False, "needs certificates"),
    ],
)
def test_endpoints_that_are_none(url, secure, words):
    with pytest.raises(RegistryError, match=words):
        parse_endpoint(url, secure=secure)


def test_no_endpoint_and_no_certificates(tmp_path):
    with pytest.raises(RegistryError, match="no etcd endpoint is named"):
        asyncio.run(EtcdRegistry.open([]))
    missing = Certificates(tmp_path / "ca", tmp_path / "crt", tmp_path / "key")
    with pytest.raises(RegistryError, match=r"crt.*No such file") as raised:
        asyncio.run(EtcdRegistry.open(["https://127.0.0.1:1"], missing))
    assert "\n" not in str(raised.value)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_a_prefix_range_holds_the_keys_with_that_prefix_only(prefix, rest):
    first, end = prefix_range(prefix)
    key = (prefix + rest).encode()
    assert not key or (first <= key and (end == b"\0" or key < end))
    other = rest.encode()
    if other and first <= other and (end == b"\0" or other < end):
        assert rest.startswith(prefix)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_revisions_come_whole_however_they_are_split(sizes, random):
    """etcd splits an answer anywhere when it is large; a stream may break anywhere, and another goes on."""
    expected = [
        tuple(Change(f"k{n}", Entry(f"k{n}", "v", 1, revision), revision) for n in range(size))
        for revision, size in enumerate(sizes, start=5)
    ]
    changes, found = Changes(5), []
    for breaks in (True, False):
        changes.begin(messages.WatchResponse(created=True, header={"revision": 100}))
        events = [
            change for revision in expected for change in revision if change.revision >= changes.revision
        ]
        last = random.randrange(len(events) + 1) if breaks else len(events)
        start = 0
        while start < last:
            end = random.randint(start + 1, last)
            whole = end == len(events) or events[end].revision != events[end - 1].revision
            answer = messages.WatchResponse(
                fragment=not whole or (end != len(events) and random.random() < 0.5),
                events=[event(change) for change in events[start:end]],
            )
            found += changes.add(answer)
            start = end
    assert found == expected


def event(change):
    pair = {"key": change.key.encode(), "value": b"v", "create_revision": 1, "mod_revision": change.revision}
    return messages.Event(kv=pair)


def test_a_sign_of_life_moves_a_watch_on():
    changes = Changes(0)
    changes.begin(messages.WatchResponse(created=True, header={"revision": 7}))
    assert changes.revision == 8
    assert changes.add(messages.WatchResponse(header={"revision": 20})) == []
    assert changes.revision == 21


def test_what_others_wrote_in_no_utf_8_is_shown():
    pair = SimpleNamespace(key=b"a\xff", value=b"\xfe", create_revision=1, mod_revision=2, lease=0)
    assert entry(pair) == Entry(r"a\xff", r"\xfe", 1, 2)


def test_the_time_of_an_attempt():
    assert attempt_seconds(5, 1) == 5
    assert attempt_seconds(5, 3) == 2.5
    assert attempt_seconds(1, 3) == 0.5
    assert attempt_seconds(-1, 3) == 0.1


def test_a_renewal_leaves_time_for_another():
    assert renewal_seconds(math.inf) == CALL_SECONDS
    assert renewal_seconds(10) == 5
    assert renewal_seconds(2) == 1
    assert renewal_seconds(0.1) == 0.2
    assert renewal_seconds(-1) == CALL_SECONDS, "etcd may know it still"


@pytest.mark.parametrize(
    ("code", "details", "outcome", "kind"),
    [
        (StatusCode.NOT_FOUND, "etcdserver: requested lease not found", Outcome.REFUSED, LeaseLost),
        (StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large", Outcome.REFUSED, LimitExceeded),
        (
            StatusCode.INVALID_ARGUMENT,
            "etcdserver: too many operations in txn request",
            Outcome.REFUSED,
            LimitExceeded,
        ),
        (
            StatusCode.RESOURCE_EXHAUSTED,
            "etcdserver: mvcc: database space exceeded",
            Outcome.REFUSED,
            Unavailable,
        ),
        (StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token", Outcome.REFUSED, RegistryError),
        (StatusCode.UNAVAILABLE, "etcdserver: no leader", Outcome.POSTPONED, Unavailable),
        (StatusCode.UNKNOWN, "raft proposal dropped", Outcome.POSTPONED, Unavailable),
        (StatusCode.UNAVAILABLE, "etcdserver: leader changed", Outcome.UNCERTAIN, Unavailable),
        (StatusCode.UNAVAILABLE, "etcdserver: request timed out", Outcome.UNCERTAIN, Unavailable),
        (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", Outcome.UNCERTAIN, Unavailable),
        (StatusCode.UNAVAILABLE, "Socket closed", Outcome.UNCERTAIN, Unavailable),
    ],
)
def test_what_an_error_means(code, details, outcome, kind):
    failure = Failure.of(RpcError(code, None, None, details))
    assert (failure.outcome, type(failure.error)) == (outcome, kind)


def test_what_is_used_of_aetcd_and_grpc_is_there():
    """Fails when a new version of either brings other names or words than we know."""
    fields = {
        "RangeRequest": {"key", "range_end", "limit"},
        "PutRequest": {"key", "value", "lease"},
        "TxnRequest": {"compare", "success", "failure"},
        "TxnResponse": {"header", "succeeded", "responses"},
        "Compare": {"result", "target", "key", "mod_revision", "create_revision"},
        "WatchCreateRequest": {"key", "range_end", "start_revision", "progress_notify", "fragment"},
        "WatchResponse": {
            "header", "created", "canceled", "compact_revision", "cancel_reason", "fragment", "events",
        },
        "KeyValue": {"key", "value", "create_revision", "mod_revision", "lease"},
    }  # fmt: skip
    for name, wanted in fields.items():
        assert wanted <= set(getattr(messages, name).DESCRIPTOR.fields_by_name.keys())

    async def unreached():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        connection = Connection(Endpoint("", f"ipv4:127.0.0.1:{port}"), None)
        try:
            with pytest.raises(RpcError) as raised:
                await connection.call(messages.RangeRequest(key=b"a"), LATE)
            return Failure.of(raised.value)
        finally:
            await connection.close()

    failure = asyncio.run(unreached())
    assert failure.outcome is Outcome.UNREACHED
    assert str(failure.error) == "Failed to connect to remote host: Connection refused"


# Limits, which need no server either.


def test_what_is_too_much_is_refused_before_it_is_sent():
    async def story():
        registry = await EtcdRegistry.open(["http://127.0.0.1:1"])
        with pytest.raises(LimitExceeded, match="129 operations"):
            await registry.transact([Put(f"k{n}", "") for n in range(129)])
        with pytest.raises(LimitExceeded, match="bytes"):
            await registry.put("k", "x" * 1_500_000)
        with pytest.raises(RegistryError, match="not valid text"):
            await registry.list("\ud800")
        with pytest.raises(Unavailable, match=r"reached: http://127\.0\.0\.1:1: .*Connection refused$"):
            await registry.put("k", "x")
        await registry.close()

    asyncio.run(story())


def test_a_port_that_says_nothing_is_given_up():
    async def story():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            registry = await EtcdRegistry.open([url])
            begun = time.monotonic()
            with pytest.raises(Unavailable, match="does not answer"):
                await registry.get("a")
            with pytest.raises(Unavailable, match="does not answer"):
                await anext(registry.watch("", 1))
            assert time.monotonic() - begun < 2 * CALL_SECONDS + LATE
            await registry.close()

    asyncio.run(story())


def test_close_ends_calls_that_wait():
    async def story():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            registry = await EtcdRegistry.open([f"http://127.0.0.1:{listener.getsockname()[1]}"])
            waiting = [
                asyncio.ensure_future(registry.get("a")),
                asyncio.ensure_future(registry.keep_alive(1)),
            ]
            watching = asyncio.ensure_future(anext(registry.watch("", 1), "ended"))
            await asyncio.to_thread(listener.accept)
            await registry.close()
            for call in waiting:
                with pytest.raises(Unavailable, match="closed"):
                    await call
            assert await watching == "ended"

    asyncio.run(story())


# One member.


@pytest.mark.services
@needs_etcd
def test_etcd_killed_and_started_again(one):
    async def story():
        async with opened(one) as registry:
            first = await registry.put("before", "1")
            watch, mirror = Watcher(registry, "", first), Mirror(registry, "")
            mirroring = asyncio.ensure_future(mirror.run())
            await watch.until(first)
            one.members[0].kill()
            begun = time.monotonic()
            for call in (registry.get("a"), registry.put("a", "1"), registry.grant(5), registry.list("")):
                with pytest.raises(Unavailable, match=one.endpoints[0]):
                    await call
            await until_true(lambda: watch.errors)
            assert time.monotonic() - begun < LATE
            assert one.endpoints[0] in str(watch.errors[0])
            await asyncio.to_thread(one.start, one.members[0])
            begun = time.monotonic()
            one.etcdctl("put", "after", "2")
            await mirror.reached(first + 1)
            await watch.until(first + 1)
            caught_up = time.monotonic() - begun
            assert caught_up < 5, caught_up
            assert mirror.value("after") == "2"
            assert await registry.put("again", "3") == first + 2
            await watch.until(first + 2)
            assert watch.revisions() == [first, first + 1, first + 2]
            mirroring.cancel()
            await watch.end()

    asyncio.run(story())


class Wire:
    """A proxy before etcd whose answers can be lost."""

    def __init__(self, address, port):
        self.etcd = (address, port)
        self.mute = False
        self._writers = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.cut()

    def cut(self):
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def _serve(self, reader, writer):
        answers, requests = await asyncio.open_connection(*self.etcd)
        self._writers += [writer, requests]
        await asyncio.gather(self._pass(reader, requests, False), self._pass(answers, writer, True))

    async def _pass(self, reader, writer, answers):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not (answers and self.mute):
                    writer.write(data)
        writer.close()


@pytest.mark.services
@needs_etcd
def test_a_write_whose_answer_is_lost_is_never_said_not_to_be_done(one):
    """Asked again, etcd says that the condition does not hold: because of ourselves."""

    async def lose_the_answer_to(call, wire, etcd, done):
        wire.mute = True
        asking = asyncio.ensure_future(call)
        while not await done(etcd):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        wire.mute = False
        wire.cut()
        return await asking

    async def story():
        address, port = one.endpoints[0].removeprefix("http://").split(":")
        async with opened(one) as etcd, Wire(address, int(port)) as wire:
            registry = await EtcdRegistry.open([wire.url])
            revision = await registry.put("a", "0")

            def is_there(key, value):
                async def check(etcd):
                    entry = await etcd.get(key)
                    return (entry.value if entry else None) == value

                return check

            with pytest.raises(Unavailable, match="not known"):
                await lose_the_answer_to(
                    registry.put("a", "1", unchanged=revision), wire, etcd, is_there("a", "1")
                )
            with pytest.raises(Unavailable, match="not known"):
                await lose_the_answer_to(registry.delete("a"), wire, etcd, is_there("a", None))
            # One that comes to the same when it is done twice is said to be done.
            again = await lose_the_answer_to(registry.put("b", "1"), wire, etcd, is_there("b", "1"))
            assert (await etcd.get("b")).modified == again
            assert await registry.put("b", "2", unchanged=0) is None
            await registry.close()

    asyncio.run(story())


@pytest.mark.services
@needs_etcd
def test_a_member_that_hangs(one):
    """It takes connections and says nothing: calls fail in time, above all the renewal of a lease."""

    async def story():
        async with opened(one) as registry:
            revision = await registry.put("a", "1")
            lease = await registry.grant(6)
            watch = Watcher(registry, "", revision)
            await watch.until(revision)
            one.members[0].signal(signal.SIGSTOP)
            begun = time.monotonic()
            try:
                with pytest.raises(Unavailable, match="does not answer"):
                    await registry.keep_alive(lease)
                assert time.monotonic() - begun < 6, "the lease is in force still"
                begun = time.monotonic()
                with pytest.raises(Unavailable):
                    await registry.get("a")
                assert time.monotonic() - begun < CALL_SECONDS + LATE
                await until_true(lambda: watch.errors)
            finally:
                one.members[0].signal(signal.SIGCONT)
            entry = None
            while entry is None:
                with contextlib.suppress(Unavailable):
                    entry = await registry.get("a")
            assert entry.value == "1"
            await watch.until(await registry.put("b", "2"))
            assert watch.revisions() == [revision, revision + 1]
            await watch.end()

    asyncio.run(story())


@pytest.mark.services
@needs_etcd
def test_a_mirror_that_was_away_while_etcd_forgot(one):
    async def story():
        async with opened(one) as registry:
            await registry.put("old", "1")
            mirror = Mirror(registry, "")
            running = asyncio.ensure_future(mirror.run())
            await until_true(lambda: "old" in mirror.entries)
            running.cancel()
            await asyncio.wait([running])
            known = mirror.revision
            await registry.delete("old")
            last = await registry.put("new", "2")
            one.compact(last)
            with pytest.raises(Compacted, match=f"revision {last}"):
                await anext(registry.watch("", known + 1))
            running = asyncio.ensure_future(mirror.run())
            await mirror.reached(last)
            assert list(mirror.entries) == ["new"]
            await mirror.reached(await registry.put("newer", "3"))
            running.cancel()

    asyncio.run(story())


@pytest.mark.services
@needs_etcd
def test_a_lease_lives_as_long_as_its_time_and_no_longer(one):
    async def story():
        async with opened(one) as watching:
            async with opened(one) as silent:
                lease = await silent.grant(3)
                revision = await silent.put("leased", "1", lease=lease)
                asked = time.monotonic()
                assert await silent.keep_alive(lease) == 3
                renewed = time.monotonic()
            # The client is gone without a goodbye.
            changes = await anext(watching.watch("", revision + 1))
            gone = time.monotonic()
            assert changes == (Change("leased", None, revision + 1),)
            assert gone - renewed > 3 - 0.1
            assert gone - asked < 3 + LATE
            with pytest.raises(LeaseLost):
                await watching.keep_alive(lease)

    asyncio.run(story())


@pytest.mark.services
@needs_etcd
def test_large_revisions_come_whole(one):
    async def story():
        value = "x" * 11_000
        async with opened(one) as registry:
            first = None
            for count in range(12):
                revision = await registry.transact(
                    [Put(f"/big/{n:03}", f"{count}{value}") for n in range(128)]
                )
                first = first or revision
            watch = registry.watch("/big/", first)
            for count in range(12):
                changes = await anext(watch)
                assert {change.revision for change in changes} == {first + count}
                assert [change.key for change in changes] == [f"/big/{n:03}" for n in range(128)]
            await registry.transact([Delete(f"/big/{n:03}") for n in range(128)])
            changes = await anext(watch)
            assert len(changes) == 128
            # More than gRPC takes by itself.
            await asyncio.gather(*(registry.put(f"/list/{n}", "x" * 1_000_000) for n in range(6)))
            assert sum(len(entry.value) for entry in (await registry.list("/list/")).entries) == 6_000_000

    asyncio.run(story())


@pytest.mark.services
@needs_etcd
def test_giving_up_a_watch_leaves_the_others_be(one):
    async def story():
        async with opened(one) as registry:
            await registry.list("")
            given_up, kept = registry.watch("", 0), registry.watch("", 0)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(given_up), 0.2)
            assert await anext(given_up, "ended") == "ended"
            revision = await registry.put("a", "1")
            assert (await anext(kept))[0].revision == revision
            await kept.aclose()

    asyncio.run(story())


@pytest.mark.services
@needs_etcd
def test_idle_nothing_is_asked(one):
    def started():
        with urllib.request.urlopen(f"{one.endpoints[0]}/metrics", timeout=10) as page:
            lines = [
                line for line in page.read().decode().splitlines() if line.startswith("grpc_server_started")
            ]
        return {line.split()[0]: float(line.split()[1]) for line in lines if not line.endswith(" 0")}

    async def story():
        async with opened(one) as registry:
            revision = await registry.put("a", "1")
            watch = Watcher(registry, "", revision)
            await watch.until(revision)
            before = await asyncio.to_thread(started)
            assert sum(before.values()) > 0
            await asyncio.sleep(3)
            assert await asyncio.to_thread(started) == before
            await watch.end()

    asyncio.run(story())


@pytest.mark.services
@needs_etcd
def test_in_a_thread_while_processes_are_started(one):
    async def write():
        async with opened(one) as registry:
            for count in range(300):
                await registry.put("count", str(count))
                if count % 10 == 0:
                    process = await asyncio.create_subprocess_exec("true")
                    assert await process.wait() == 0
            return (await registry.get("count")).value

    results = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(write())))
    thread.start()
    while thread.is_alive():
        subprocess.run(["true"], check=True)
        thread.join(0.01)
    assert results == ["299"]


# Three members.


@pytest.mark.soak
@pytest.mark.services
@needs_etcd
def test_members_killed_one_after_another(three):
    """Each member once, the one in use and the leader among them: no call fails, no change is missed."""

    async def story():
        async with opened(three) as registry:
            watch = Watcher(registry, "", await registry.put("count", "none"))
            lease = await registry.grant(60)
            writer = Writer(registry)
            await writer.more()
            for member in three.members:
                member.kill()
                await writer.more()
                assert await registry.keep_alive(lease) == 60
                assert await registry.transact([Put("t", "1")], [Created("absent", 0)])
                await asyncio.to_thread(three.start, member)
            await writer.more()
            await writer.end()
            await watch.until(writer.revisions[-1])
            assert watch.errors == []
            assert set(writer.revisions) <= set(watch.revisions())
            first = watch.revisions()[0]
            assert watch.revisions() == list(range(first, first + len(watch.seen)))
            assert writer.longest < CALL_SECONDS + LATE
            await watch.end()

    asyncio.run(story())


@pytest.mark.services
@needs_etcd
@pytest.mark.parametrize("which", ["in use", "leader"])
def test_a_member_of_three_that_hangs(three, which):
    async def story():
        async with opened(three) as registry:
            member = three.members[0] if which == "in use" else three.leader()
            watch = Watcher(registry, "", await registry.put("count", "none"))
            writer = Writer(registry)
            await writer.more()
            member.signal(signal.SIGSTOP)
            try:
                await writer.more(50)
                assert await registry.get("count")
            finally:
                member.signal(signal.SIGCONT)
            await writer.more()
            await writer.end()
            await watch.until(writer.revisions[-1])
            assert watch.errors == []
            assert set(writer.revisions) <= set(watch.revisions())
            await watch.end()

    asyncio.run(story())


@pytest.mark.soak
@pytest.mark.services
@needs_etcd
def test_a_quiet_watch_notices_that_its_member_hangs(three):
    """Nothing else is asked of the registry: the connection's own pings find out."""

    async def story():
        async with opened(three) as registry:
            first = await registry.put("a", "1")
            watch = Watcher(registry, "", first)
            await watch.until(first)
            three.members[0].signal(signal.SIGSTOP)
            begun = time.monotonic()
            try:
                while "OK" not in await asyncio.to_thread(put_by_another, three):
                    pass
                await watch.until(first + 1)
            finally:
                three.members[0].signal(signal.SIGCONT)
            assert time.monotonic() - begun < 8 + LATE
            assert watch.errors == []
            await watch.end()

    def put_by_another(server):
        try:
            return server.etcdctl("put", "b", "2", member=1)
        except subprocess.CalledProcessError:
            return ""

    asyncio.run(story())


@pytest.mark.services
@needs_etcd
def test_most_members_gone(three):
    """What is left has no leader: it says so, in time, and all works again when another is back."""

    async def story():
        async with opened(three) as registry:
            revision = await registry.put("a", "1")
            watch = Watcher(registry, "", revision)
            await watch.until(revision)
            for member in three.members[:2]:
                member.kill()
            begun = time.monotonic()
            with pytest.raises(Unavailable) as raised:
                await registry.put("a", "2")
            assert time.monotonic() - begun < CALL_SECONDS + LATE
            assert "\n" not in str(raised.value)
            with pytest.raises(Unavailable):
                await registry.get("a")
            await asyncio.to_thread(three.start, three.members[0])
            begun = time.monotonic()
            revision = await registry.put("b", "3")
            await watch.until(revision)
            assert time.monotonic() - begun < 5 + LATE
            await watch.end()

    asyncio.run(story())


# TLS.


@pytest.mark.services
@needs_etcd
def test_certificates(tmp_path, monkeypatch):
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    # No proxy of the environment is asked.
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def refused(server, certificates):
        async with opened(server, certificates) as registry:
            begun = time.monotonic()
            with pytest.raises(Unavailable) as raised:
                await registry.get("a")
            with pytest.raises(Unavailable):
                await anext(registry.watch("", 1))
            assert time.monotonic() - begun < 2 * CALL_SECONDS + LATE
            assert "\n" not in str(raised.value)
            return str(raised.value)

    async def story(server):
        client, stranger = server.certificates, others.certificates("client")
        async with opened(server) as registry:
            revision = await registry.put("a", "1")
            watch = Watcher(registry, "", revision)
            await watch.until(revision)
            server.members[0].kill()
            await watch.until(await registry.put("a", "2"))
            assert watch.errors == []
            await watch.end()
        server.start(server.members[0])
        error = await refused(server, stranger)
        assert f"{server.endpoints[0]}: its certificate is not of our authority" in error
        error = await refused(server, Certificates(client.authority, stranger.certificate, stranger.key))
        assert f"{server.endpoints[0]}: it refuses our certificate" in error
        address, port = server.endpoints[0].removeprefix("https://").split(":")
        async with Wire(address, int(port)) as wire:
            elsewhere = SimpleNamespace(endpoints=[wire.url.replace("http:", "https:")])
            assert "its certificate is not for this address" in await refused(elsewhere, client)

    with etcd(tmp_path / "etcd", 3, ours) as server:
        asyncio.run(story(server))
