"""Pollers that many threads wait on together: epoll where the system has it, a selector elsewhere."""

import select
import selectors
import socket
import threading
from collections import deque
from typing import Final, Protocol

# Values of epoll(7).
IN: Final = 0x1
OUT: Final = 0x4
FAILED: Final = 0x8 | 0x10
ONCE: Final = 1 << 30


class Poller(Protocol):
    """Set of file descriptors and of the events waited for; with ONCE an event comes once, until `modify`.

    All methods may be called in any thread; of those that wait in `poll`, one gets each event.
    """

    def register(self, fd: int, eventmask: int) -> None: ...

    def modify(self, fd: int, eventmask: int) -> None: ...

    def unregister(self, fd: int) -> None: ...

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]: ...

    def close(self) -> None: ...


class SelectorPoller:
    """Poller on the system's best selector: one thread at a time waits, the others wait for it."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        # Held by the thread that waits: it alone touches the selector.
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._masks: dict[int, int] = {}
        self._changed: set[int] = set()
        self._ready: deque[tuple[int, int]] = deque()
        # A byte written here interrupts the thread that waits.
        self._interrupter, self._interrupt = socket.socketpair()
        self._interrupter.setblocking(False)
        self._interrupt.setblocking(False)
        self._selector.register(self._interrupt, selectors.EVENT_READ)

    def register(self, fd: int, eventmask: int) -> None:
        self._set(fd, eventmask)

    def modify(self, fd: int, eventmask: int) -> None:
        self._set(fd, eventmask)

    def unregister(self, fd: int) -> None:
        self._set(fd, None)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        with self._turn:
            while not self._ready:
                self._apply()
                try:
                    events = self._selector.select(timeout)
                except (OSError, ValueError):
                    # A descriptor was closed; `_changed` will have it in a moment.
                    continue
                self._collect(events)
                if not events:
                    break
            taken: list[tuple[int, int]] = []
            while self._ready and len(taken) != maxevents:
                taken.append(self._ready.popleft())
            return taken

    def close(self) -> None:
        self._selector.close()
        self._interrupter.close()
        self._interrupt.close()

    def _set(self, fd: int, mask: int | None) -> None:
        with self._lock:
            if mask is None:
                self._masks.pop(fd, None)
            else:
                self._masks[fd] = mask
            self._changed.add(fd)
            try:
                self._interrupter.send(b"!")
            except OSError:
                # It was interrupted already, or is closed.
                pass

    def _apply(self) -> None:
        with self._lock:
            known = self._selector.get_map()
            for fd in self._changed:
                if fd in known:
                    self._selector.unregister(fd)
                wanted = self._masks.get(fd, 0) & (IN | OUT)
                if wanted:
                    # EVENT_READ and EVENT_WRITE are 1 and 2.
                    self._selector.register(fd, (wanted & IN) | (wanted & OUT) >> 1)
            self._changed.clear()

    def _collect(self, events: list[tuple[selectors.SelectorKey, int]]) -> None:
        with self._lock:
            for key, mask in events:
                if key.fileobj is self._interrupt:
                    self._drop()
                elif (wanted := self._masks.get(key.fd)) is not None and key.fd not in self._changed:
                    self._ready.append((key.fd, (mask & 1) * IN | (mask & 2) * 2))
                    if wanted & ONCE:
                        self._masks[key.fd] = ONCE
                        self._changed.add(key.fd)

    def _drop(self) -> None:
        try:
            while self._interrupt.recv(4096):
                pass
        except OSError:
            pass


def poller() -> Poller:
    """Return the best poller of this system."""
    epoll = getattr(select, "epoll", None)
    return epoll() if epoll is not None else SelectorPoller()
