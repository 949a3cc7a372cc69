"""Codecs: between Python's values and the bytes that HBase keeps. Pure.

HBase knows bytes only; these are the forms of its own Java class `Bytes`, and JSON. Each raises CodecError
for what it cannot encode or decode.
"""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kirsch.hbase.errors import CodecError


@dataclass(frozen=True, slots=True)
class Codec:
    """A name for people, and two functions. One of your own: `Codec("hex", bytes.fromhex, bytes.hex)`."""

    name: str
    encoder: Callable[[Any], bytes]
    decoder: Callable[[bytes], Any]
    # True where encoded values sort as the values do: < and > of check_and_mutate compare bytes.
    ordered: bool = False

    def encode(self, value: Any) -> bytes:
        """The bytes of a value."""
        try:
            encoded = self.encoder(value)
        except CodecError:
            raise
        except Exception as error:
            raise CodecError(f"{_shown(value)} cannot be encoded as {self.name}: {error}") from error
        if not isinstance(encoded, bytes):
            raise CodecError(f"codec {self.name} gave {type(encoded).__name__}, not bytes")
        return encoded

    def decode(self, data: bytes) -> Any:
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


BYTES = Codec("bytes", _bytes, bytes, ordered=True)
UTF8 = Codec("utf-8", _text, lambda data: data.decode(), ordered=True)
LONG = Codec("a Java long", *_number(">q", int))
INT = Codec("a Java int", *_number(">i", int))
SHORT = Codec("a Java short", *_number(">h", int))
DOUBLE = Codec("a Java double", *_number(">d", float))
FLOAT = Codec("a Java float", *_number(">f", float))
BOOLEAN = Codec("a Java boolean", _truth, _true, ordered=True)
JSON = Codec(
    "JSON", lambda value: json.dumps(value, ensure_ascii=False, allow_nan=False).encode(), json.loads
)
# By the names that people type in a shell.
CODECS = {
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


def codec(given: "Codec | str") -> Codec:
    """A codec, or the one of a name. Raises CodecError for a name there is not."""
    if isinstance(given, Codec):
        return given
    try:
        return CODECS[given]
    except KeyError:
        raise CodecError(f"there is no codec {given!r}: there are {', '.join(CODECS)}") from None
