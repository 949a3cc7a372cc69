"""A message that is sent from an iterator or a file, a piece at a time, as there is room for it."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from kirsch.websocket.frame import BINARY, CONTINUATION, FIN, TEXT, Buffer

PIECE: Final = 64 << 10


class Source:
    """The fragments of a message: text if the first item is `str`, else binary.

    `data` is an iterable of str or of bytes, or anything with `read(size)`.
    """

    def __init__(self, data: Any) -> None:
        self._items = _items(data)
        self._next: str | Buffer | None = next(self._items, b"")
        self._text = isinstance(self._next, str)
        self._opcode = TEXT if self._text else BINARY

    def fragment(self) -> tuple[int, bytes]:
        """The next frame's first byte (FIN and the opcode) and payload; the last one has FIN.

        Raises TypeError for an item that is not of the first one's kind, and what the iterator raises.
        """
        item = self._next
        self._next = next(self._items, None)
        first = self._opcode | (FIN if self._next is None else 0)
        self._opcode = CONTINUATION
        if self._text and isinstance(item, str):
            return first, item.encode()
        if not self._text and isinstance(item, bytes | bytearray | memoryview):
            return first, bytes(item)
        kind = "text" if self._text else "binary"
        raise TypeError(f"a {kind} message has a part that is {type(item).__name__}")


def _items(data: Any) -> Iterator[Any]:
    read = getattr(data, "read", None)
    if read is not None:
        return iter(lambda: read(PIECE) or None, None)
    if isinstance(data, Iterable) and not isinstance(data, dict):
        return iter(data)
    raise TypeError(f"a message is str, bytes, an iterator of either or a file, not {type(data).__name__}")
