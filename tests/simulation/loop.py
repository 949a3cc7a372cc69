"""An event loop in which time is a number: where nothing is left to do now, it jumps to when something is."""

import asyncio
import selectors


class Stuck(RuntimeError):
    """Nothing will ever happen any more, and somebody still waits."""


class _Jump(selectors.SelectSelector):
    """Waits for no file: it moves the clock on by as long as it was to wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("nothing is to happen any more")
        if timeout > 0:
            self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop on a virtual clock that begins at 0 s. It does no I/O."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now
