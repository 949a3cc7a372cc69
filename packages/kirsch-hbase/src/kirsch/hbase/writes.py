"""Writes of rows: at once by a table, collected in a batch, or in blocks by a mutator."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import jpype

from kirsch.hbase.block_transfer import mutations, writer
from kirsch.hbase.calls import Pending, begin, call, late, translated
from kirsch.hbase.errors import Closed, HBaseError, joined
from kirsch.hbase.jvm import cls, hbase
from kirsch.hbase.mutation import Encoder, Values, block, settings
from kirsch.hbase.row import Column

if TYPE_CHECKING:
    from kirsch.hbase.table import Table


class Writes(ABC):
    """Receiver of puts and deletes; `encoder` encodes them as actions."""

    encoder: Encoder

    def put(
        self,
        row: Any,
        values: Values,
        *,
        timestamp: int | None = None,
        ttl: float | None = None,
        durability: str = "default",
    ) -> None:
        """Write values of one row, all or none of them. `timestamp` in ms (the server's time); `ttl`: seconds
        after which they are gone; `durability`: default, skip, async, sync or fsync."""
        self._add(self.encoder.put(row, values, settings(timestamp, ttl, durability)))

    def delete(
        self,
        row: Any,
        columns: Iterable[Column] = (),
        *,
        timestamp: int | None = None,
        all_versions: bool = True,
        durability: str = "default",
    ) -> None:
        """Delete a row, or families or columns of it: all versions up to `timestamp`, or one."""
        whole = settings(None if columns else timestamp, None, durability)
        self._add(self.encoder.delete(row, columns, timestamp, all_versions, whole))

    @abstractmethod
    def _add(self, action: bytes) -> None:
        """Write an encoded action, or keep it for later."""


# Mutations cross to Java when there are so many bytes of them, or so many.
BYTES = 1 << 18
MOST = 2000


class Mutations(Writes):
    """Collection of a table's encoded puts and deletes."""

    def __init__(self, table: "Table") -> None:
        self.table = table
        self.encoder = table.encoder
        self._actions: list[bytes] = []

    def _add(self, action: bytes) -> None:
        self._actions.append(action)


class Batch(Mutations):
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

    def __enter__(self) -> "Batch":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.send()


class Mutator(Mutations):
    """Puts and deletes that are sent in blocks while more are made (Java's BufferedMutator). It is not
    thread-safe.

    `flush`, `close` and the end of a `with`, by an error too, send everything; Ctrl-C there waits for
    nothing, and the last rows may be written or not. Any call may raise the HBaseError of earlier mutations;
    its `failures` are their rows.
    """

    def __init__(self, table: "Table", buffer: int) -> None:
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
        self._wait()
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

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            try:
                pending.result(self._timeout)
            except jpype.JException as error:
                raise translated(error) from error
            except TimeoutError:
                raise late(self._timeout) from None

    def flush(self) -> None:
        """Send everything and wait until it is written. Raises HBaseError after everything that could be sent
        was sent."""
        if self.java is None:
            raise Closed("this mutator is closed")
        failed = []
        for step in (self._wait, self._rest, self._wait, self._flush):
            try:
                step()
            except HBaseError as error:
                failed.append(error)
        if failed:
            raise joined(failed)

    def _rest(self) -> None:
        if self._actions:
            self._send()

    def _flush(self) -> None:
        call(self.java.flush, limit=self._timeout)

    def close(self) -> None:
        """Flush and close the mutator."""
        if self.java is None:
            return
        try:
            self.flush()
        finally:
            java, self.java = self.java, None
            call(java.close, limit=self._timeout)

    def __enter__(self) -> "Mutator":
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
