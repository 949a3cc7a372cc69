"""Writes of rows: at once by a table, collected in a batch, or in blocks by a mutator."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic

import jpype

from kirsch.hbase.block_transfer import mutations, writer
from kirsch.hbase.calls import Pending, begin, call, late, translated
from kirsch.hbase.codec import K, V
from kirsch.hbase.encoder import Encoder
from kirsch.hbase.errors import Closed, HBaseError, joined
from kirsch.hbase.jvm import cls, hbase
from kirsch.hbase.mutation import block, settings
from kirsch.hbase.row import Column

if TYPE_CHECKING:
    from kirsch.hbase.table import Table


class Writes(ABC, Generic[K, V]):
    """Receiver of puts and deletes; `encoder` encodes them as actions.

    `attributes` go to the server with a mutation; `visibility` is an expression of labels that its cells get.
    """

    encoder: Encoder

    def put(
        self,
        row: K,
        values: Mapping[Any, V],
        *,
        timestamp: int | None = None,
        ttl: float | None = None,
        durability: str = "default",
        attributes: Mapping[str, bytes] | None = None,
        visibility: str | None = None,
    ) -> None:
        """Write values of one row, all or none of them. `timestamp` in ms (the server's time); `ttl`: seconds
        after which they are gone; `durability`: default, skip, async, sync or fsync."""
        whole = settings(timestamp, ttl, durability, attributes, visibility)
        self._add(self.encoder.put(row, values, whole))

    def delete(
        self,
        row: K,
        columns: Iterable[Column] = (),
        *,
        timestamp: int | None = None,
        all_versions: bool = True,
        durability: str = "default",
        attributes: Mapping[str, bytes] | None = None,
        visibility: str | None = None,
    ) -> None:
        """Delete a row, or families or columns of it: all versions up to `timestamp`, or one."""
        whole = settings(None if columns else timestamp, None, durability, attributes, visibility)
        self._add(self.encoder.delete(row, columns, timestamp, all_versions, whole))

    @abstractmethod
    def _add(self, action: bytes) -> None:
        """Write an encoded action, or keep it for later."""


# Mutations cross to Java when there are so many bytes of them, or so many.
BYTES = 1 << 18
MOST = 2000


class Mutations(Writes[K, V]):
    """Collection of a table's encoded puts and deletes."""

    def __init__(self, table: "Table[K, V]") -> None:
        self.table = table
        self.encoder = table.encoder
        self._actions: list[bytes] = []

    def _add(self, action: bytes) -> None:
        self._actions.append(action)


class Batch(Mutations[K, V]):
    """Puts and deletes that are sent together at the end of a `with`, and none of them if it ends by an
    error.

    Each row is written as a whole or not at all; different rows are not one transaction.
    """

    def __len__(self) -> int:
        return len(self._actions)

    def send(self) -> None:
        """Send the collected actions. Raises HBaseError; its `failures` are the rows that were not
        written."""
        actions, self._actions = self._actions, []
        if actions:
            self.table.apply(actions)

    def __enter__(self) -> "Batch[K, V]":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.send()


class Mutator(Mutations[K, V]):
    """Puts and deletes that are sent in blocks while more are made (Java's BufferedMutator). It is not
    thread-safe.

    `flush`, `close` and the end of a `with`, by an error too, send everything; Ctrl-C there waits for
    nothing, and the last rows may be written or not. Any call may raise the HBaseError of earlier mutations;
    its `failures` are their rows.
    """

    def __init__(self, table: "Table[K, V]", buffer: int) -> None:
        super().__init__(table)
        self._timeout = table.connection.timeout
        parameters = hbase("client.BufferedMutatorParams")(hbase("TableName").valueOf(table.name))
        parameters.writeBufferSize(buffer)
        self.java: Any = call(table.connection.java.getBufferedMutator, parameters)
        self._write = writer(self.java)
        self._pending: Pending[None] | None = None
        self._size = 0

    def _add(self, action: bytes) -> None:
        if self.java is None:
            raise Closed("this mutator is closed")
        self._actions.append(action)
        self._size += len(action)
        if self._size >= BYTES or len(self._actions) >= MOST:
            self._send()

    def _send(self) -> None:
        # It may raise what the block before has come to: this one is not lost, it is sent the next time.
        self._wait(self._end())
        data, self._actions, self._size = block(self._actions), [], 0
        self._pending = begin(self._mutate, self.java, self._write, data)
        self._pending.handed_over()

    @staticmethod
    def _mutate(java: Any, write: Callable[[bytes], None], data: bytes) -> None:
        try:
            write(data)
        except jpype.JException as error:
            if not isinstance(error, cls("java.lang.IllegalArgumentException")):
                raise
            # One is refused, such as for a value that is too large, and so none of them has been taken.
            _one_by_one(java, mutations(data))

    def _end(self) -> float:
        """Return the time at which an operation that begins now is given up."""
        return time.monotonic() + float(self._timeout)

    def _wait(self, end: float) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            try:
                pending.result(max(0.0, end - time.monotonic()))
            except jpype.JException as error:
                raise translated(error) from error
            except TimeoutError:
                raise late(self._timeout) from None

    def flush(self) -> None:
        """Send everything and wait until it is written. Raises HBaseError after everything that could be sent
        was sent."""
        if self.java is None:
            raise Closed("this mutator is closed")
        self._flush(self._end())

    def _flush(self, end: float) -> None:
        failed = []
        for step in (self._wait, self._rest, self._wait, self._write_out):
            try:
                step(end)
            except HBaseError as error:
                failed.append(error)
        if failed:
            raise joined(failed)

    def _rest(self, _: float) -> None:
        if self._actions:
            self._send()

    def _write_out(self, end: float) -> None:
        self._call(self.java.flush, end)

    @staticmethod
    def _call(function: Any, end: float) -> None:
        # What came before may have used up the time of the whole: Java still tells what it knows.
        call(function, limit=max(0.1, end - time.monotonic()))

    def close(self) -> None:
        """Flush and close the mutator."""
        if self.java is None:
            return
        end = self._end()
        try:
            self._flush(end)
        finally:
            java, self.java = self.java, None
            if time.monotonic() < end:
                self._call(java.close, end)
            else:
                begin(java.close)

    def __enter__(self) -> "Mutator[K, V]":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._abandon()
        else:
            self.close()

    def _abandon(self) -> None:
        """Discard the rest and close the mutator in another thread, for a server may not answer."""
        java, self.java = self.java, None
        pending, self._pending = self._pending, None
        self._actions = []
        if java is None:
            return
        if pending is not None:
            pending.cancel()

        def end() -> None:
            if pending is not None:
                pending.wait()
            java.close()

        begin(end)


def _one_by_one(java: Any, given: Iterable[Any]) -> None:
    failed = []
    for mutation in given:
        try:
            java.mutate(mutation)
        except jpype.JException as error:
            told = translated(error)
            told.failures = told.failures or ((bytes(mutation.getRow()), told),)
            failed.append(told)
    if failed:
        raise joined(failed)
