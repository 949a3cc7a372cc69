"""What a registry in a file promises beyond a registry: it is on disk, it is ours, it is whole."""

import asyncio
import os
import random
import resource
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager, closing

import pytest

from kirsch.cluster.registry import RegistryError, SQLiteRegistry, Unavailable

# Writes key after key, four at a time, and says on its output each that was acknowledged.
WRITER = """
import asyncio, sys
from kirsch.cluster.registry import Put, SQLiteRegistry

async def write(registry, name):
    for count in range(1_000_000):
        key = f"{name}/{count}"
        revision = await registry.transact([Put(key, "v" * 500), Put(key + "/twin", "")])
        print(key, revision, flush=True)

async def main():
    registry = await SQLiteRegistry.open(sys.argv[1])
    await asyncio.gather(*(write(registry, f"{sys.argv[2]}{n}") for n in range(4)))

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "registry.db"


@asynccontextmanager
async def opened(path):
    registry = await SQLiteRegistry.open(path)
    try:
        yield registry
    finally:
        await registry.close()


async def contents(path):
    async with opened(path) as registry:
        return {entry.key: entry for entry in (await registry.list("")).entries}


async def refused(path):
    """The one line that says why it cannot be opened."""
    with pytest.raises(RegistryError) as caught:
        await SQLiteRegistry.open(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_what_was_written_is_there_again_and_revisions_go_on(path):
    async def story():
        async with opened(path) as registry:
            await registry.put("gone", "1")
            first = await registry.put("a", "1")
            second = await registry.put("a", "2")
            await registry.delete("gone")
            last = (await registry.list("")).revision
        async with opened(path) as registry:
            entry = await registry.get("a")
            assert (entry.value, entry.created, entry.modified) == ("2", first, second)
            assert (await registry.list("")).revision >= last
            assert await registry.get("gone") is None
            assert await registry.put("a", "3", unchanged=second) > last

    asyncio.run(story())


def test_leases_and_their_keys_end_with_the_process(path):
    async def story():
        async with opened(path) as registry:
            lease = await registry.grant(600)
            await registry.put("state", "1", lease=lease)
            await registry.put("was durable", "1")
            await registry.put("was durable", "2", lease=lease)
            await registry.put("was leased", "1", lease=lease)
            await registry.put("was leased", "2")
            # More revisions than are reserved at a time, none of which needs the disk.
            for count in range(3000):
                last = await registry.put("state", str(count), lease=lease)
        async with opened(path) as registry:
            listing = await registry.list("")
            assert [entry.key for entry in listing.entries] == ["was leased"]
            assert listing.revision >= last

    asyncio.run(story())


@pytest.mark.slow
def test_what_was_acknowledged_survives_kill_9(path):
    random.seed(3)
    acknowledged: dict[str, int] = {}
    for round_ in range(8):
        command = [sys.executable, "-c", WRITER, str(path), f"r{round_}w"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            for _ in range(random.randrange(1, 400)):
                key, revision = writer.stdout.readline().split()
                acknowledged[key] = int(revision)
            writer.kill()
            for line in writer.stdout.read().splitlines(keepends=True):
                if line.endswith("\n"):
                    key, revision = line.split()
                    acknowledged[key] = int(revision)
        entries = asyncio.run(contents(path))
        assert {key: entries[key].modified for key in acknowledged} == acknowledged
        for key, entry in entries.items():
            twin = entries[key.removesuffix("/twin") if key.endswith("/twin") else key + "/twin"]
            assert twin.modified == entry.modified, "a transaction is there whole or not at all"
    assert len(set(acknowledged.values())) == len(acknowledged), "no revision is used twice"


def test_a_second_opener_is_told_who_has_it(path):
    async def story():
        async with opened(path):
            assert f"is in use by process {os.getpid()}" in await refused(path)
            code = "import asyncio, sys; from kirsch.cluster.registry import *\n"
            code += "try: asyncio.run(SQLiteRegistry.open(sys.argv[1]))\nexcept RegistryError as e: print(e)"
            other = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, str(path), stdout=subprocess.PIPE
            )
            output, _ = await other.communicate()
            assert output.decode() == f"{path}: is in use by process {os.getpid()}\n"
        assert await contents(path) == {}

    asyncio.run(story())


def foreign_database(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE entries (key, value, created, modified)")
        database.commit()


@pytest.mark.parametrize(
    "make",
    [
        foreign_database,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"[Unit]\nDescription=not a registry\n" * 100),
        lambda path: path.write_bytes(random.Random(1).randbytes(5000)),
    ],
    ids=["another database", "empty", "text", "random"],
)
def test_a_file_that_is_not_ours_is_left_alone(path, make):
    make(path)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert "is not a registry of kirsch: move it away" in asyncio.run(refused(path))
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_a_newer_schema_is_left_alone(path):
    asyncio.run(contents(path))
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 7")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    assert "has schema 7, not 1" in asyncio.run(refused(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["scribbled", "cut off", "no table"])
def test_a_damaged_file_is_left_alone(path, damage):
    async def fill():
        async with opened(path) as registry:
            await asyncio.gather(*(registry.put(f"k{n}", "v" * 300) for n in range(500)))

    asyncio.run(fill())
    data = bytearray(path.read_bytes())
    if damage == "scribbled":
        for page in range(4096, len(data), 4096):
            data[page : page + 200] = b"\xaa" * 200
        path.write_bytes(data)
    elif damage == "cut off":
        path.write_bytes(data[: len(data) // 2])
    else:
        with closing(sqlite3.connect(path)) as database:
            database.execute("DROP TABLE revision")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    assert "is damaged" in asyncio.run(refused(path))
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there_or_not_a_file(path, tmp_path):
    assert "No such file or directory" in asyncio.run(refused(tmp_path / "nowhere" / "registry.db"))
    assert "Is a directory" in asyncio.run(refused(tmp_path))


def test_a_folder_that_cannot_be_written():
    # /proc takes no new files, from root neither.
    from pathlib import Path

    assert "cannot be opened" in asyncio.run(refused(Path("/proc/sys/registry.db")))


def test_only_the_owner_can_read_it(path):
    async def story():
        async with opened(path) as registry:
            await registry.put("secret", "1")
            return {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}

    umask = os.umask(0)
    try:
        modes = asyncio.run(story())
    finally:
        os.umask(umask)
    assert set(modes.values()) == {0o600}
    assert f"{path.name}-wal" in modes


def test_a_full_disk_changes_nothing(path):
    """A limit on the size of files stands in for the disk's end."""

    async def story():
        async with opened(path) as registry:
            await registry.put("a", "1")
            lease = await registry.grant(600)
            watch = registry.watch("", (await registry.list("")).revision + 1)
            resource.setrlimit(resource.RLIMIT_FSIZE, (64_000, limits[1]))
            before = await registry.list("")
            big = [registry.put(f"big{n}", "x" * 100_000) for n in range(3)]
            results = await asyncio.gather(*big, registry.delete("a"), return_exceptions=True)
            assert all(isinstance(result, Unavailable) for result in results)
            assert str(path) in str(results[0])
            assert await registry.list("") == before
            assert await registry.put("leased", "needs no disk", lease=lease) == before.revision + 1
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            after = await registry.put("b", "2", unchanged=0)
            assert after == before.revision + 2
            seen = [await anext(watch) for _ in range(2)]
            assert [changes[0].key for changes in seen] == ["leased", "b"]
        assert sorted(await contents(path)) == ["a", "b"]

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        asyncio.run(story())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_that_is_full_at_the_start_leaves_nothing_behind(path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        asyncio.run(refused(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in path.parent.iterdir()] == [f"{path.name}.lock"]
    assert asyncio.run(contents(path)) == {}
