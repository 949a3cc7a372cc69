"""HBase for asyncio, on a bounded number of threads: methods that are awaited, and scans for `async for`.

    async with aio.connect("localhost:2181") as hbase:
        notes = hbase.table("notes", key=UTF8, value=UTF8)
        await notes.put("first", {"text:body": "Hello"})
        async for row in notes.scan(prefix="f"):
            print(row.key, row["text:body"])

A call that is cancelled goes on in its thread until the server answers, or the connection's timeout is over.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, overload

from kirsch.hbase import connection as blocking
from kirsch.hbase.codec import BYTES, Codec, K, V
from kirsch.hbase.row import Given, Row
from kirsch.hbase.scan import Some, Span, Which

if TYPE_CHECKING:
    from kirsch.hbase.table import Page, Table

P = ParamSpec("P")
T = TypeVar("T")


@asynccontextmanager
async def connect(
    quorum: str | Mapping[str, object] | Path | None = None,
    *,
    threads: int = 8,
    timeout: float = 60.0,
    patience: float = 3.0,
    user: str | None = None,
    jars: Sequence[str | Path] | str | Path | None = None,
    java: str | Path | None = None,
    options: Sequence[str] = (),
) -> AsyncIterator["Connection"]:
    """Connect to HBase, as kirsch.hbase.connect does, and close the connection at the end of `async with`. At
    most `threads` calls are under way at once; others wait for their turn."""
    pool = ThreadPoolExecutor(threads, "kirsch-hbase-asyncio")
    made = partial(blocking.connect, timeout=timeout, patience=patience, user=user)
    try:
        loop = asyncio.get_running_loop()
        opened = await loop.run_in_executor(
            pool, partial(made, quorum, jars=jars, java=java, options=options)
        )
        try:
            yield Connection(opened, pool)
        finally:
            # Not in the pool, whose threads may all be waiting for a server: closing ends what they wait for.
            await asyncio.to_thread(opened.close)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class Connection:
    """A connection; `blocking` is the one of kirsch.hbase.connect below it."""

    def __init__(self, opened: blocking.Connection, pool: ThreadPoolExecutor) -> None:
        self.blocking = opened
        self._pool = pool

    async def run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call anything that blocks, such as methods of `blocking.admin`, in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(function, *arguments, **named))

    @overload
    def table(self, name: str) -> "AsyncTable[bytes, bytes]": ...
    @overload
    def table(self, name: str, key: Codec[K]) -> "AsyncTable[K, bytes]": ...
    @overload
    def table(self, name: str, key: Codec[K], value: Codec[V]) -> "AsyncTable[K, V]": ...
    @overload
    def table(self, name: str, key: Codec[K], value: Given) -> "AsyncTable[K, Any]": ...
    @overload
    def table(
        self, name: str, key: Codec[Any] | str = BYTES, value: Given = BYTES
    ) -> "AsyncTable[Any, Any]": ...
    def table(self, name: str, key: Codec[Any] | str = BYTES, value: Given = BYTES) -> "AsyncTable[Any, Any]":
        """Return a table, as kirsch.hbase.Connection.table does."""
        return AsyncTable(self, self.blocking.table(name, key, value))


class AsyncTable(Generic[K, V]):
    """Rows of a table; `blocking` is the Table below it, whose methods these are."""

    def __init__(self, connection: Connection, table: "Table[K, V]") -> None:
        self.blocking = table
        self._run = connection.run

    async def get(self, row: K, **query: Unpack[Which]) -> Row[K, V] | None:
        """Return a row, or None where there is none."""
        return await self._run(partial(self.blocking.get, row, **query))

    async def get_many(self, keys: Iterable[K], **query: Unpack[Some]) -> list[Row[K, V] | None]:
        """Return rows by their keys, in that order, None for missing ones."""
        return await self._run(partial(self.blocking.get_many, keys, **query))

    async def exists(self, row: K, **query: Unpack[Which]) -> bool:
        """Return whether a row has cells that match the query."""
        return await self._run(partial(self.blocking.exists, row, **query))

    async def scan(self, *, after: K | None = None, **scan: Unpack[Span]) -> AsyncIterator[Row[K, V]]:
        """Yield the rows of a scan; a block is read in a thread at a time."""
        scanner = await self._run(partial(self.blocking.scan, after=after, **scan))
        try:
            while (block := await self._run(scanner.block)) is not None:
                for row in block:
                    yield row
        finally:
            scanner.close()

    async def count(self, *, after: K | None = None, **scan: Unpack[Span]) -> int:
        """Count all rows, or those of a scan."""
        return await self._run(partial(self.blocking.count, after=after, **scan))

    async def page(self, size: int, after: K | None = None, **scan: Unpack[Span]) -> "Page[K, V]":
        """Return a page of at most `size` rows after the key `after`."""
        return await self._run(partial(self.blocking.page, size, after, **scan))

    async def put(self, row: K, values: Mapping[Any, V], **settings: Any) -> None:
        """Write values of one row; `settings` as for Table.put."""
        await self._run(partial(self.blocking.put, row, values, **settings))

    async def delete(self, row: K, columns: Iterable[Any] = (), **settings: Any) -> None:
        """Delete a row, or families or columns of it; `settings` as for Table.delete."""
        await self._run(partial(self.blocking.delete, row, columns, **settings))

    async def put_many(self, rows: Iterable[tuple[K, Mapping[Any, V]]] | Mapping[K, Mapping[Any, V]]) -> int:
        """Put any number of rows, whose iteration is in a thread. Return their number."""
        return await self._run(self.blocking.put_many, rows)

    async def increment(self, row: K, column: Any, amount: int = 1) -> int:
        """Add to a counter. Return its new value."""
        return await self._run(partial(self.blocking.increment, row, column, amount))

    async def append(self, row: K, values: Mapping[Any, V]) -> Row[K, V]:
        """Append to values. Return the row afterwards."""
        return await self._run(partial(self.blocking.append, row, values))

    async def check_and_mutate(self, row: K, *condition: Any, **change: Any) -> bool:
        """Put and delete in one row, if a condition holds, as Table does. Return whether it held."""
        return await self._run(partial(self.blocking.check_and_mutate, row, *condition, **change))
