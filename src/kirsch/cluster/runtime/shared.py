"""Work that is done once for all who ask for it at about the same time."""

import asyncio
from collections.abc import Awaitable, Callable


class Shared:
    """Shares one run of `work` among all who ask while it has not begun yet; one runs after another."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def ask(self) -> None:
        """Returns after a run that began after this call. Raises what that raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running))
        await asyncio.shield(self._next)

    async def _after(self, running: "asyncio.Task[None] | None") -> None:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        await self._work()
