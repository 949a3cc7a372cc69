"""SQLAlchemy's pool, which counts who has to wait."""

import queue
from typing import Any

from sqlalchemy import PoolProxiedConnection, QueuePool
from sqlalchemy.util.queue import Empty, Full


class Idle:
    """The pool's connections that nobody uses: SQLAlchemy's Queue as QueuePool uses it, made of the faster
    SimpleQueue."""

    use_lifo = False

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.qsize = self._queue.qsize

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Raises Full, at once: who comes then is beyond the pool's size."""
        # Threads may meet here, and one more be kept than the size: the pool counts it all the same.
        if 0 < self.maxsize <= self._queue.qsize():
            raise Full
        self._queue.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Raises Empty when there is none, or none came within `timeout` seconds."""
        try:
            return self._queue.get(block, timeout)
        except queue.Empty:
            raise Empty from None


class CountingPool(QueuePool):
    """A QueuePool; `waits` is how often all of its connections were in use when one was asked for."""

    def __init__(self, creator: Any, pool_size: int = 5, max_overflow: int = 10, **options: Any) -> None:
        super().__init__(creator, pool_size, max_overflow, **options)
        self.waits = 0
        self._most = pool_size + max_overflow
        if not self._pool.use_lifo:
            self._pool = Idle(pool_size)  # type: ignore[assignment]

    def connect(self) -> PoolProxiedConnection:
        """A connection, waited for if need be."""
        # Threads may meet here, and one count be lost: a lock for each request would cost more than it tells.
        if self.checkedout() >= self._most:
            self.waits += 1
        return super().connect()
