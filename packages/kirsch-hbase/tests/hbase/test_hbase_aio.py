"""HBase for asyncio: many calls at once on few threads, scans, and ends."""

import asyncio

import pytest

from kirsch.hbase import LONG, UTF8, Closed, NotFound, aio

pytestmark = pytest.mark.services


def test_rows_and_scans(hbase, table):
    async def work():
        async with aio.connect(hbase.quorum, patience=60, threads=4) as connection:
            found = connection.table(table.name, key=UTF8, value={"cf:n": LONG, "": UTF8})
            await asyncio.gather(*(found.put(f"row{n:03}", {"cf:n": n, "many:t": "x"}) for n in range(100)))
            assert (await found.get("row007"))["cf:n"] == 7
            assert [row["cf:n"] for row in await found.get_many(["row001", "row099"])] == [1, 99]
            assert await found.exists("row050")
            assert not await found.exists("none")
            assert [row.key async for row in found.scan(start="row097")] == ["row097", "row098", "row099"]
            async for row in found.scan():
                if row["cf:n"] == 3:
                    break
            assert await found.count(prefix="row00") == 10
            page = await found.page(2)
            assert ([row.key for row in page.rows], page.after) == (["row000", "row001"], "row001")
            assert await found.increment("row001", "cf:n", 5) == 6
            assert (await found.append("row001", {"many:t": "y"}))["many:t"] == "xy"
            assert not await found.check_and_mutate("row001", "cf:n", "=", 5, put={"cf:n": 0})
            await found.delete("row001")
            assert await found.get("row001") is None
            assert await found.put_many({"new": {"cf:n": 1}}) == 1
            assert table.name in await connection.run(connection.blocking.admin.tables)
            with pytest.raises(NotFound):
                await connection.table("nope").get(b"row")
        with pytest.raises(Closed):
            connection.blocking.admin.tables()

    asyncio.run(work())


def test_no_more_calls_are_under_way_than_there_are_threads(hbase, connection):
    import threading

    gate, running, most = threading.Semaphore(0), [], []

    def call():
        running.append(1)
        most.append(len(running))
        gate.acquire()
        running.pop()

    async def work():
        async with aio.connect(hbase.quorum, patience=60, threads=3) as opened:
            calls = [asyncio.ensure_future(opened.run(call)) for _ in range(9)]
            for _ in calls:
                gate.release()
            await asyncio.gather(*calls)

    asyncio.run(work())
    assert len(most) == 9
    assert max(most) <= 3


def test_a_call_that_is_cancelled_keeps_nobody_waiting(hbase, connection):
    """The loop goes on at once, and the end closes what the thread waits for."""
    from kirsch.hbase import java

    async def work():
        async with aio.connect(hbase.quorum, patience=60, timeout=5) as opened:
            sleep = java("java.lang.Thread").sleep
            call = asyncio.ensure_future(opened.run(lambda: opened.blocking.call(sleep, 60_000)))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert isinstance(await opened.run(opened.blocking.admin.tables), list)

    asyncio.run(work())
