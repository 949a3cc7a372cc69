"""Batching of writes: messages of one loop iteration go to each member together."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

log = logging.getLogger("kirsch.amqp")


class Batching:
    """Corks members until the iteration is over: on threads each `send` would be a write of its own.

    `soon` calls a function at the end of the iteration; at most `most` bytes are held back for a member.
    Everything is called in the broker's thread.
    """

    def __init__(self, soon: Callable[[Callable[[], object]], None], most: int) -> None:
        self._soon = soon
        self._most = most
        self._size = 0
        self._rooms: set[str] = set()
        self._corked: list[Any] = []

    def begin(self, room: str, members: Sequence[Any], size: int) -> None:
        """Cork the members of a room, who are about to be sent `size` bytes each."""
        if self._size + size > self._most:
            self.end()
        if not self._rooms:
            self._soon(self.end)
        self._size += size
        if room not in self._rooms:
            self._rooms.add(room)
            self._corked += members
            for member in members:
                # If another thread uncorks it meanwhile, that thread writes what there is.
                member.corked = True

    def end(self) -> None:
        """Uncork all members and write what waits."""
        corked, self._corked = self._corked, []
        self._rooms.clear()
        self._size = 0
        for member in corked:
            member.corked = False
            try:
                if member.pending:
                    member.wire.wake()
            except Exception:
                # The failure of one member is not to end the thread.
                log.exception("%s could not be written to", member.peer)
