"""Messages that come in one turn of the broker's thread go to each member together."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

log = logging.getLogger("kirsch.amqp")


class Gathering:
    """On threads each `send` is a write of its own: here members are corked until the turn is over.

    `soon` has something called when it is; `most` is how many bytes are held back for a member at most. All
    is called in the one thread.
    """

    def __init__(self, soon: Callable[[Callable[[], object]], None], most: int) -> None:
        self._soon = soon
        self._most = most
        self._size = 0
        self._rooms: set[str] = set()
        self._corked: list[Any] = []

    def begin(self, room: str, members: Sequence[Any], size: int) -> None:
        """All of a room are about to be sent so many bytes."""
        if self._size + size > self._most:
            self.end()
        if not self._rooms:
            self._soon(self.end)
        self._size += size
        if room not in self._rooms:
            self._rooms.add(room)
            self._corked += members
            for member in members:
                # Another thread that uncorks it meanwhile, at the end of its own turn, writes what there is.
                member.corked = True

    def end(self) -> None:
        """Write what there is."""
        corked, self._corked = self._corked, []
        self._rooms.clear()
        self._size = 0
        for member in corked:
            member.corked = False
            try:
                if member.pending:
                    member.wire.wake()
            except Exception:
                # The thread is needed, and so are the others.
                log.exception("%s could not be written to", member.peer)
