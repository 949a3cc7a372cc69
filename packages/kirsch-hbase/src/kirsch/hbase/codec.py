"""Codecs: between Python's values and the bytes that HBase keeps. Pure.

HBase knows bytes only; these are the forms of its own Java class `Bytes`, and JSON. Each raises CodecError
for what it cannot encode or decode.
"""

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, overload

from kirsch.hbase.errors import CodecError

if TYPE_CHECKING:
    # A type checker brings it along. Without its types a codec, table or row is one of any.
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")
    K = TypeVar("K")
    V = TypeVar("V")

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """A name for people, and two functions. One of your own: `Codec("hex", bytes.fromhex, bytes.hex)`."""

    name: str
    encoder: Callable[[T], bytes]
    decoder: Callable[[bytes], T]
    # True where encoded values sort as the values do: < and > of check_and_mutate compare bytes.
    ordered: bool = False
    # The bytes with which keys begin that have a prefix; None: those of the prefix as a value.
    prefixer: Callable[[Any], bytes] | None = None

    def prefix(self, value: Any) -> bytes:
        """Return the bytes with which the keys of a prefix begin."""
        return self.encode(value) if self.prefixer is None else self._encoded(self.prefixer, value)

    def encode(self, value: T) -> bytes:
        """The bytes of a value."""
        return self._encoded(self.encoder, value)

    def _encoded(self, encoder: Callable[[Any], bytes], value: Any) -> bytes:
        try:
            encoded = encoder(value)
        except CodecError:
            raise
        except Exception as error:
            raise CodecError(f"{_shown(value)} cannot be encoded as {self.name}: {error}") from error
        if not isinstance(encoded, bytes):
            raise CodecError(f"codec {self.name} gave {type(encoded).__name__}, not bytes")
        return encoded

    def decode(self, data: bytes) -> T:
        """The value of bytes."""
        try:
            return self.decoder(data)
        except CodecError:
            raise
        except Exception as error:
            raise CodecError(f"{_shown(data)} is not {self.name}: {error}") from error


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise CodecError(
        f"{_shown(value)} is {type(value).__name__} and must be bytes: encode it, or give the table a codec, "
        "such as value=UTF8"
    )


def _text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise CodecError(f"{_shown(value)} cannot be encoded as utf-8: it is {type(value).__name__}, not str")
    return value.encode()


def _number(form: str, kind: type) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    layout = struct.Struct(form)

    def encode(value: Any) -> bytes:
        if isinstance(value, bool) or not isinstance(value, kind | int):
            raise TypeError(f"it is {type(value).__name__}, not {kind.__name__}")
        try:
            return layout.pack(value)
        except (struct.error, OverflowError):
            raise ValueError(f"it does not fit in {layout.size} bytes") from None

    def decode(data: bytes) -> Any:
        if len(data) != layout.size:
            raise ValueError(f"it is {len(data)} bytes long and must be {layout.size}")
        return layout.unpack(data)[0]

    return encode, decode


def _truth(value: Any) -> bytes:
    if not isinstance(value, bool):
        raise TypeError(f"it is {type(value).__name__}, not bool")
    return b"\xff" if value else b"\x00"


def _true(data: bytes) -> bool:
    if len(data) != 1:
        raise ValueError(f"it is {len(data)} bytes long and must be 1")
    return data != b"\x00"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


BYTES: Codec[bytes] = Codec("bytes", _bytes, bytes, ordered=True)
UTF8: Codec[str] = Codec("utf-8", _text, lambda data: data.decode(), ordered=True)
LONG: Codec[int] = Codec("a Java long", *_number(">q", int))
INT: Codec[int] = Codec("a Java int", *_number(">i", int))
SHORT: Codec[int] = Codec("a Java short", *_number(">h", int))
DOUBLE: Codec[float] = Codec("a Java double", *_number(">d", float))
FLOAT: Codec[float] = Codec("a Java float", *_number(">f", float))
BOOLEAN: Codec[bool] = Codec("a Java boolean", _truth, _true, ordered=True)
JSON: Codec[Any] = Codec(
    "JSON", lambda value: json.dumps(value, ensure_ascii=False, allow_nan=False).encode(), json.loads
)
# By the names that people type in a shell.
CODECS: dict[str, Codec[Any]] = {
    "bytes": BYTES,
    "utf8": UTF8,
    "long": LONG,
    "int": INT,
    "short": SHORT,
    "double": DOUBLE,
    "float": FLOAT,
    "boolean": BOOLEAN,
    "json": JSON,
}


# The bytes that a value has in each of these; others end with a zero byte within a tuple.
_SIZES: dict[Codec[Any], int] = {LONG: 8, INT: 4, SHORT: 2, DOUBLE: 8, FLOAT: 4, BOOLEAN: 1}
_END = b"\0"


@overload
def composite(first: Codec[A], second: Codec[B], /) -> Codec[tuple[A, B]]: ...
@overload
def composite(first: Codec[A], second: Codec[B], third: Codec[C], /) -> Codec[tuple[A, B, C]]: ...
@overload
def composite(
    first: Codec[A], second: Codec[B], third: Codec[C], fourth: Codec[D], /
) -> Codec[tuple[A, B, C, D]]: ...
@overload
def composite(*parts: Codec[Any]) -> Codec[tuple[Any, ...]]: ...
def composite(*parts: Codec[Any]) -> Codec[Any]:
    """Return the codec of keys of several parts, as tuples: `composite(UTF8, LONG)`.

    Keys sort by their first part, then by the second, and so on; a `prefix=` is a tuple of the first parts.
    Numbers are in Java's form, so negative ones sort last. Other parts end with a zero byte, which they may
    not contain, but for the last part.
    """
    if len(parts) < 2:
        raise CodecError(f"a composite key has 2 parts or more, not {len(parts)}")
    last = len(parts) - 1

    def encoded(values: Any, whole: bool) -> bytes:
        if not isinstance(values, Sequence) or isinstance(values, str | bytes):
            raise TypeError("it is no tuple")
        if len(values) > len(parts) or (whole and len(values) < len(parts)):
            raise ValueError(f"it has {len(values)} parts, and the key has {len(parts)}")
        found = []
        for at, (part, value) in enumerate(zip(parts, values, strict=False)):
            data = part.encode(value)
            if at < last and part not in _SIZES:
                if _END in data:
                    raise ValueError(f"part {at + 1} contains a zero byte, which ends it")
                data += _END
            found.append(data)
        return b"".join(found)

    def decode(data: bytes) -> tuple[Any, ...]:
        values, at = [], 0
        for part in parts[:last]:
            size = _SIZES.get(part)
            end = data.index(_END, at) if size is None else at + size
            values.append(part.decode(data[at:end]))
            at = end if size else end + 1
        return (*values, parts[last].decode(data[at:]))

    name = f"({', '.join(part.name for part in parts)})"
    ordered = all(part.ordered for part in parts)
    return Codec(
        name, lambda values: encoded(values, True), decode, ordered, lambda values: encoded(values, False)
    )


def codec(given: "Codec[Any] | str") -> Codec[Any]:
    """A codec, or the one of a name. Raises CodecError for a name there is not."""
    if isinstance(given, Codec):
        return given
    try:
        return CODECS[given]
    except KeyError:
        raise CodecError(f"there is no codec {given!r}: there are {', '.join(CODECS)}") from None
