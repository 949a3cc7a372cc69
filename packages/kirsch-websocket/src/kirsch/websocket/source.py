"""A message that is sent from an iterator, a file or another message, a piece at a time, as there is room."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from threading import get_ident
from typing import Any, Final

from kirsch.websocket.frame import BINARY, CONTINUATION, FIN, TEXT

PIECE: Final = 64 << 10
_END: Final = object()
# The threads that have just asked an iterator for its next item.
_asking: Final[set[int]] = set()


def asked() -> bool:
    """Whether this is called by an iterator that is asked for an item of a message under way."""
    return get_ident() in _asking


class Source:
    """The fragments of a message: text if the first item is `str`, else binary.

    `data` is an iterable of str or of bytes, or anything with `read(size)`. Raises TypeError for all else,
    and what the iterator raises.
    """

    def __init__(self, data: Any) -> None:
        self._items = _items(data)
        first = next(self._items, b"")
        self._text = isinstance(first, str)
        self._opcode = TEXT if self._text else BINARY
        self._next = self._payload(first)

    @property
    def size(self) -> int:
        """The bytes it holds: those of the next fragment."""
        return len(self._next)

    def fragment(self) -> tuple[int, bytes] | None:
        """The next frame's first byte (FIN and the opcode) and payload; the last one has FIN.

        None: it is still to come. Raises TypeError for an item that is not of the first one's kind, and what
        the iterator raises.
        """
        payload, item = self._next, self._ask()
        first = self._opcode
        if item is _END:
            return first | FIN, payload
        self._next = self._payload(item)
        self._opcode = CONTINUATION
        return first, payload

    def drop(self) -> None:
        """Nobody asks for more."""

    def _ask(self) -> Any:
        here = get_ident()
        if here in _asking:
            return next(self._items, _END)
        _asking.add(here)
        try:
            return next(self._items, _END)
        finally:
            _asking.discard(here)

    def _payload(self, item: Any) -> bytes:
        if self._text and isinstance(item, str):
            return item.encode()
        if not self._text and isinstance(item, bytes | bytearray | memoryview):
            return bytes(item)
        kind = "text" if self._text else "binary"
        raise TypeError(f"a {kind} message has a part that is {type(item).__name__}")


class Coming(ABC):
    """A message that is received, and can be sent on before it is whole; `text` is its kind."""

    text: bool

    @abstractmethod
    def send_on(self, target: Any) -> None:
        """Give its chunks to `target`, a Protocol, and call its `go_on()` at each.

        Raises RuntimeError where it cannot be.
        """

    @abstractmethod
    def piece(self) -> tuple[str | bytes, bool] | None:
        """The next chunk, and whether it is the last; None: it is still to come.

        Raises Closed: none comes any more.
        """

    @abstractmethod
    def drop(self) -> None:
        """Nobody sends it on any more."""


class Relay(Source):
    """The fragments of a message that is sent on: each chunk is one."""

    # What waits of it is counted where it came from.
    size = 0

    def __init__(self, coming: Coming, target: Any) -> None:
        self._coming = coming
        self._opcode = TEXT if coming.text else BINARY
        coming.send_on(target)

    def fragment(self) -> tuple[int, bytes] | None:
        piece = self._coming.piece()
        if piece is None:
            return None
        data, last = piece
        first, self._opcode = self._opcode, CONTINUATION
        return first | FIN if last else first, data.encode() if isinstance(data, str) else data

    def drop(self) -> None:
        self._coming.drop()


def _items(data: Any) -> Iterator[Any]:
    read = getattr(data, "read", None)
    if read is not None:
        return iter(lambda: read(PIECE) or _END, _END)
    if isinstance(data, Iterable) and not isinstance(data, dict):
        return iter(data)
    raise TypeError(f"a message is str, bytes, an iterator of either or a file, not {type(data).__name__}")
