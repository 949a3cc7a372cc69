"""The endpoints socket: what a client is told when, and who may open it."""

import asyncio
import json
import stat
from dataclasses import replace
from pathlib import Path

from kirsch.cluster.balancer.endpoints_server import EndpointsServer
from kirsch.cluster.model import Endpoint, keys
from kirsch.cluster.registry.memory import MemoryRegistry
from kirsch.cluster.registry.mirror import Mirror
from kirsch.unit import Port, UnitName

WEB = Endpoint(
    "web", "web@1.service", "-", "m1", "10.0.0.1", (Port(80, "tcp", "http"),), True, {"A": "secret"}
)


def modes(path: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, path.parent.parent)}


async def line(reader: asyncio.StreamReader) -> list[dict[str, object]]:
    async with asyncio.timeout(20):
        return json.loads(await reader.readline())["endpoints"]


def test_a_client_is_told_once_the_store_was_read_and_at_each_change(tmp_path: Path):
    async def play() -> None:
        registry = MemoryRegistry()
        await registry.put(keys.endpoint("web", WEB.unit, "-"), WEB.to_json())
        # One that has no address yet, which no balancer could read.
        nowhere = replace(WEB, unit="web@2.container", address="")
        await registry.put(keys.endpoint("web", nowhere.unit, "-"), nowhere.to_json())
        mirror = Mirror(registry, keys.ROOT)
        path = tmp_path / "endpoints.sock"
        server = EndpointsServer(mirror, path)
        await server.start()
        reader, writer = await asyncio.open_unix_connection(path)
        told = asyncio.create_task(line(reader))
        # kirschd does not know yet; an empty list would have a balancer drop all it has.
        for _ in range(50):
            await asyncio.sleep(0)
        assert not told.done()
        following = asyncio.create_task(mirror.run())
        [endpoint] = await told
        assert (endpoint["unit"], endpoint["address"], endpoint["ready"]) == (
            "web@1.service",
            "10.0.0.1",
            True,
        )
        assert "secret" not in json.dumps(endpoint)
        await registry.delete(keys.endpoint("web", WEB.unit, "-"))
        assert await line(reader) == []
        writer.close()
        following.cancel()
        await server.close()

    asyncio.run(play())


def test_a_store_without_endpoints_is_told_too(tmp_path: Path):
    async def play() -> None:
        registry = MemoryRegistry()
        await registry.put(keys.unit("a.service"), "{}")
        mirror = Mirror(registry, keys.ROOT)
        server = EndpointsServer(mirror, tmp_path / "endpoints.sock")
        await server.start()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "endpoints.sock")
        await mirror.load()
        assert await line(reader) == []
        writer.close()
        await server.close()

    asyncio.run(play())


def test_what_stops_waits_until_balancers_that_answer_have_let_it_go(tmp_path: Path):
    async def play() -> None:
        registry = MemoryRegistry()
        key = keys.endpoint("web", WEB.unit, "-")
        await registry.put(key, WEB.to_json())
        mirror = Mirror(registry, keys.ROOT)
        server = EndpointsServer(mirror, tmp_path / "endpoints.sock")
        await server.start()
        following = asyncio.create_task(mirror.run())
        silent, silent_writer = await asyncio.open_unix_connection(tmp_path / "endpoints.sock")
        reader, writer = await asyncio.open_unix_connection(tmp_path / "endpoints.sock")
        await line(silent)
        first = json.loads(await reader.readline())
        writer.write(b"%d\n" % first["number"])
        for _ in range(50):
            await asyncio.sleep(0)
        letting = asyncio.create_task(server.let_go(UnitName.parse(WEB.unit), "m1"))
        await registry.delete(key)
        second = json.loads(await reader.readline())
        assert second["endpoints"] == []
        # An answer to what was before is none to this.
        writer.write(b"%d\n" % first["number"])
        for _ in range(50):
            await asyncio.sleep(0)
        assert not letting.done()
        writer.write(b"%d\n" % second["number"])
        async with asyncio.timeout(20):
            await letting
        # One that does not answer any more is not waited for without end, one that is gone not at all.
        await registry.put(key, WEB.to_json())
        await reader.readline()
        await registry.delete(key)
        await server.let_go(UnitName.parse(WEB.unit), "m1")
        writer.write(b"no number\n")
        await reader.read()
        writer.close()
        silent_writer.close()
        following.cancel()
        await server.close()

    asyncio.run(play())


def test_a_shared_one_is_open_to_all_who_see_its_folder(tmp_path: Path):
    async def play() -> None:
        mirror = Mirror(MemoryRegistry(), keys.ROOT)
        path = tmp_path / "above/shared/endpoints.sock"
        server = EndpointsServer(mirror, path, shared=True)
        await server.start()
        assert modes(path) == {"endpoints.sock": 0o666, "shared": 0o755, "above": 0o700}
        folder = path.parent.stat().st_ino
        await server.close()
        again = EndpointsServer(mirror, path, shared=True)
        await again.start()
        assert path.parent.stat().st_ino == folder, "units have it mounted"
        await again.close()
        alone = EndpointsServer(mirror, tmp_path / "alone.sock")
        await alone.start()
        assert stat.S_IMODE((tmp_path / "alone.sock").stat().st_mode) == 0o600
        await alone.close()

    asyncio.run(play())
