"""fleet's pages: lists in parts of 100, each with the token of the next.

A token is fleet's (limit and page, little-endian, in URL-safe base64), with the filter of the list behind
them, so that a token given alone goes on with the list it came from.
"""

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import parse_qsl, urlencode

LIMIT = 100

_NUMBERS = struct.Struct("<HH")

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: its number, counted from 1, and by what the list is filtered."""

    number: int = 1
    filter: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, token: str) -> "Page":
        """The page that a token names. Raises ValueError."""
        data = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        if len(data) < _NUMBERS.size:
            raise ValueError("too short")
        limit, number = _NUMBERS.unpack_from(data)
        if limit != LIMIT or number == 0:
            raise ValueError("not a page of this server's")
        query = data[_NUMBERS.size :].decode("ascii")
        return cls(number, dict(parse_qsl(query, strict_parsing=True) if query else ()))

    @property
    def token(self) -> str:
        """Token by which a client asks for this page."""
        data = _NUMBERS.pack(LIMIT, self.number) + urlencode(self.filter).encode("ascii")
        return base64.urlsafe_b64encode(data).decode("ascii")

    def cut(self, values: Sequence[Value]) -> tuple[Sequence[Value], str | None]:
        """This page of a list, and the token of the next one, None if it is the last."""
        start, stop = (self.number - 1) * LIMIT, self.number * LIMIT
        more = stop < len(values)
        return values[start:stop], Page(self.number + 1, self.filter).token if more else None
