"""Puts and deletes, as one calls them: of a table at once, of a batch or a mutator later."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from kirsch.hbase.encoder import Encoder, Values, settings
from kirsch.hbase.row import Column


class Writes(ABC):
    """What takes puts and deletes; `encoder` makes actions of them."""

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
        """Do an action that the encoder made, or keep it."""
