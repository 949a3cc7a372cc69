"""SQLAlchemy's pool, which counts who has to wait."""

from typing import Any

from sqlalchemy import PoolProxiedConnection, QueuePool


class CountingPool(QueuePool):
    """A QueuePool; `waits` is how often all of its connections were in use when one was asked for."""

    def __init__(self, creator: Any, pool_size: int = 5, max_overflow: int = 10, **options: Any) -> None:
        super().__init__(creator, pool_size, max_overflow, **options)
        self.waits = 0
        self._most = pool_size + max_overflow

    def connect(self) -> PoolProxiedConnection:
        """A connection, waited for if need be."""
        # Threads may meet here, and one count be lost: a lock for each request would cost more than it tells.
        if self.checkedout() >= self._most:
            self.waits += 1
        return super().connect()
