"""Messages that are sent a piece at a time: from an iterator, a file, or another message as it comes."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from threading import get_ident
from typing import Any, Final

from kirsch.websocket.core.frame import BINARY, CONTINUATION, FIN, TEXT

# Bytes that are read from a file at a time.
PIECE: Final = 64 << 10
_END: Final = object()
# Idents of the threads that are calling a source's iterator just now.
_reading: Final[set[int]] = set()


def reading_source() -> bool:
    """Return True if the caller is the iterator of a message that this thread is sending."""
    return get_ident() in _reading


class Source:
    """Fragments of a message: text if the first item is `str`, else binary.

    `data` is an iterator of str or of bytes, or has `read(size)`. Raises TypeError for anything else, and
    what the iterator raises.
    """

    def __init__(self, data: Any) -> None:
        self._items = _items(data)
        first = next(self._items, b"")
        self._text = isinstance(first, str)
        self._opcode = TEXT if self._text else BINARY
        self._next = self._payload(first)

    @property
    def size(self) -> int:
        """Bytes of the next fragment, which is held here."""
        return len(self._next)

    def fragment(self) -> tuple[int, bytes] | None:
        """Return a frame's first byte (opcode, and FIN in the last) and payload; None if none is here yet.

        Raises TypeError for an item of another type than the first, and what the iterator raises.
        """
        payload, item = self._next, self._read()
        first = self._opcode
        if item is _END:
            return first | FIN, payload
        self._next = self._payload(item)
        self._opcode = CONTINUATION
        return first, payload

    def drop(self) -> None:
        """Stop: no more fragments are needed."""

    def _read(self) -> Any:
        thread = get_ident()
        if thread in _reading:
            return next(self._items, _END)
        _reading.add(thread)
        try:
            return next(self._items, _END)
        finally:
            _reading.discard(thread)

    def _payload(self, item: Any) -> bytes:
        if self._text and isinstance(item, str):
            return item.encode()
        if not self._text and isinstance(item, bytes | bytearray | memoryview):
            return bytes(item)
        kind = "text" if self._text else "binary"
        raise TypeError(f"a {kind} message has a part that is {type(item).__name__}")


class Incoming(ABC):
    """Message that is being received, and can be sent on before it is complete; `text` tells its type."""

    text: bool

    @abstractmethod
    def send_on(self, target: Any) -> None:
        """Give the chunks to `target`, a Protocol, by calling its `resume()` for each.

        Raises RuntimeError where that is impossible.
        """

    @abstractmethod
    def piece(self) -> tuple[str | bytes, bool] | None:
        """Return the next chunk, and True if it is the last; None if it has not come yet.

        Raises Closed if no chunk will come any more.
        """

    @abstractmethod
    def drop(self) -> None:
        """Stop: no connection sends it on any more."""


class Relay(Source):
    """Fragments of a message that is sent on while it comes: one for each chunk."""

    # The bytes that wait count on the connection they came from.
    size = 0

    def __init__(self, incoming: Incoming, target: Any) -> None:
        self._incoming = incoming
        self._opcode = TEXT if incoming.text else BINARY
        incoming.send_on(target)

    def fragment(self) -> tuple[int, bytes] | None:
        piece = self._incoming.piece()
        if piece is None:
            return None
        data, last = piece
        first, self._opcode = self._opcode, CONTINUATION
        return first | FIN if last else first, data.encode() if isinstance(data, str) else data

    def drop(self) -> None:
        self._incoming.drop()


def _items(data: Any) -> Iterator[Any]:
    read = getattr(data, "read", None)
    if read is not None:
        return iter(lambda: read(PIECE) or _END, _END)
    if isinstance(data, Iterator):
        return data
    hint = "; iter(…) makes one message of its items" if isinstance(data, Iterable) else ""
    raise TypeError(
        f"a message is str, bytes, an iterator of either or a file, not {type(data).__name__}{hint}"
    )
