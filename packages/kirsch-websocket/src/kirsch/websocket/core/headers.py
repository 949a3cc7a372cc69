"""The head of an HTTP message (RFC 9112): a request or a response up to its empty line, and its fields."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Final, Self

from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.limits import Limits

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - RFC 9110, 5.6.2
TOKEN = re.compile(_TOKEN)
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([!-~]+) HTTP/([0-9])\.([0-9])")
_STATUS_LINE = re.compile(r"HTTP/1\.[0-9] ([1-9][0-9]{2})(?: (.*))?")
_STATUS_LINE_BEGINS: Final = b"HTTP/"
_TOKEN_BYTES: Final = frozenset(byte for byte in range(128) if TOKEN.fullmatch(chr(byte)))
# A value has visible characters, spaces, tabs and bytes beyond ASCII (RFC 9110, 5.5).
_ALLOWED: Final = bytes(byte for byte in range(256) if (byte >= 32 and byte != 127) or byte == 9)

_BETWEEN = re.compile(r"[ \t,]*")
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)"))?')
_AFTER = re.compile(r"[ \t]*(?:,|$)")

# Cache of field names as written and in lower case, since the same few come with every request.
_NAMES: Final = 512
_names: dict[str, tuple[str, str]] = {
    name: (name, name.lower())
    for name in (
        *("Host", "Upgrade", "Connection", "Origin", "User-Agent", "Cookie", "Pragma", "Cache-Control"),
        *("Accept-Encoding", "Accept-Language", "Sec-WebSocket-Key", "Sec-WebSocket-Version"),
        *("Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Sec-WebSocket-Accept"),
    )
}

# Fields whose values are the same for many clients, and are kept once.
_ALIKE: Final = {
    *("host", "upgrade", "connection", "origin", "user-agent", "accept-encoding", "accept-language"),
    *("cache-control", "pragma", "sec-websocket-version", "sec-websocket-extensions"),
    "sec-websocket-protocol",
}

Parameters = tuple[tuple[str, str | None], ...]


class Headers:
    """Header fields in their order; names are case-insensitive, and may be repeated (RFC 9110, 5).

    `fields` is pairs, or a mapping.
    """

    __slots__ = ("_lower", "_values", "_written")

    def __init__(self, fields: Iterable[tuple[str, str]] | Mapping[str, str] = ()) -> None:
        pairs = fields.items() if isinstance(fields, Mapping) else fields
        found = [(_names.get(name) or (name, name.lower()), value) for name, value in pairs]
        # In little memory, since every open connection of a server keeps its request.
        self._written = tuple([names[0] for names, _ in found])
        self._lower = tuple([names[1] for names, _ in found])
        self._values = tuple(
            [intern(value) if names[1] in _ALIKE and type(value) is str else value for names, value in found]
        )

    @classmethod
    def parse(cls, lines: list[str]) -> Self:
        """Return the fields of a head's lines. Raises ValueError for a line that is none."""
        fields = []
        for line in lines:
            name, colon, value = line.partition(":")
            if name not in _names or not colon:
                _check(name, line)
            fields.append((name, value.strip(" \t")))
        return cls(fields)

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first field's value."""
        name = name.lower()
        return self._values[self._lower.index(name)] if name in self._lower else default

    def get_all(self, name: str) -> list[str]:
        """Return the value of each field of that name."""
        name = name.lower()
        if name not in self._lower:
            return []
        return [value for lower, value in zip(self._lower, self._values, strict=True) if lower == name]

    def tokens(self, name: str) -> list[str]:
        """Return the members of all fields of that name as one list (RFC 9110, 5.6.1)."""
        values = self.get_all(name)
        return [token for value in values for part in value.split(",") if (token := part.strip(" \t"))]

    def items(self) -> list[tuple[str, str]]:
        """Return pairs of names, as written, and values."""
        return list(zip(self._written, self._values, strict=True))

    def combined(self) -> dict[str, str]:
        """Return values by lower-case names; the values of a repeated name are joined (RFC 9110, 5.3)."""
        fields = dict(zip(self._lower, self._values, strict=True))
        if len(fields) < len(self._lower):
            for name in fields:
                fields[name] = ", ".join(self.get_all(name))
        return fields

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._lower

    def __iter__(self) -> Iterator[str]:
        return iter(self._written)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        mine, theirs = self.items(), other.items()
        return [(n.lower(), v) for n, v in mine] == [(n.lower(), v) for n, v in theirs]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self.items()!r})"


@dataclass(frozen=True, slots=True)
class Request:
    """Head of a request; `target` as it stands in the request line."""

    method: str
    target: str
    headers: Headers

    @property
    def path(self) -> str:
        """Path of the target, percent-encoded as it came."""
        return self._origin_form.partition("?")[0]

    @property
    def query(self) -> str:
        """Query of the target, as it came; empty without one."""
        return self._origin_form.partition("?")[2]

    @property
    def _origin_form(self) -> str:
        """Target without scheme and authority; servers have to accept both forms (RFC 9112, 3.2.2)."""
        if self.target[:1] in ("/", "*"):
            return self.target
        match = re.match(r"https?://[^/?]*", self.target, re.IGNORECASE)
        rest = self.target[match.end() :] if match else self.target
        return rest if rest.startswith("/") else f"/{rest}"


@dataclass(frozen=True, slots=True)
class Response:
    """Head of a response, with its status and reason phrase; `body` is for responses that a server writes."""

    status: int
    reason: str = ""
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""


class HeadReader:
    """Reads the head of a request, or for a client that of a response, from bytes in any pieces.

    Attributes:
        rest: the bytes after the head, once the head was returned.
    """

    __slots__ = ("_begin", "_buffer", "_client", "_limits", "_searched", "rest")

    def __init__(self, limits: Limits, client: bool) -> None:
        self._limits = limits
        self._client = client
        self._buffer: bytearray | None = None
        # Offset of the head, after interim responses, which stay in the buffer since the limit counts all.
        self._begin = 0
        # The head does not end before this offset.
        self._searched = 0
        self.rest = b""

    def feed(self, data: bytes | bytearray | memoryview) -> Request | Response | None:
        """Return the head once it is complete, else None; nothing may be fed afterwards.

        Interim responses, 100 to 199 but 101, are skipped (RFC 9110, 15.2). Raises HandshakeError: 400,
        414, 431 or 505 on a server, 0 on a client.
        """
        buffer: bytes | bytearray
        if self._buffer is None:
            buffer = bytes(data)
        else:
            self._buffer += data
            buffer = self._buffer
        if not buffer:
            return None
        if self._client:
            if buffer[:5] != _STATUS_LINE_BEGINS[: len(buffer)]:
                raise self._refused(400, "the server does not speak HTTP")
        elif buffer[0] not in _TOKEN_BYTES:
            raise self._refused(
                400, "TLS, but the port is not for it" if buffer[0] == 22 else "no HTTP request"
            )
        return self._read(buffer)

    def _read(self, buffer: bytes | bytearray) -> Request | Response | None:
        most = self._limits.handshake
        while (end := buffer.find(b"\r\n\r\n", self._searched)) >= 0 and end + 4 <= most:
            try:
                head = self._parse(bytes(buffer[self._begin : end]))
            except ValueError as error:
                raise self._refused(400, str(error)) from None
            self._begin = self._searched = end + 4
            if head is not None:
                self.rest = bytes(buffer[self._begin :])
                return head
        if len(buffer) > most:
            if b"\r\n" not in buffer[:most]:
                raise self._refused(414, f"a first line of more than {most} bytes")
            raise self._refused(431, f"a head of more than {most} bytes")
        self._searched = max(self._begin, len(buffer) - 3)
        self._buffer = buffer if isinstance(buffer, bytearray) else bytearray(buffer)
        return None

    def _parse(self, head: bytes) -> Request | Response | None:
        """Parse a head; return None for an interim response. Raises ValueError for what is not HTTP."""
        lines = head.decode("latin-1").split("\r\n")
        if head.translate(None, _ALLOWED) != b"\r\n" * (len(lines) - 1):
            raise ValueError("a control character, or a line that does not end in CR LF")
        line = lines.pop(0)
        match = (_STATUS_LINE if self._client else _REQUEST_LINE).fullmatch(line)
        if match is None:
            raise ValueError(f"{line[:80]!a} begins no HTTP message")
        if not self._client and (match[3] != "1" or match[4] == "0"):
            raise self._refused(505, f"HTTP/{match[3]}.{match[4]}: a WebSocket needs HTTP/1.1")
        if len(lines) > self._limits.headers:
            raise self._refused(431, f"more than {self._limits.headers} header fields")
        headers = Headers.parse(lines)
        if not self._client:
            return Request(intern(match[1]), intern(match[2]), headers)
        status = int(match[1])
        return None if 100 <= status < 200 and status != 101 else Response(status, match[2] or "", headers)

    def _refused(self, status: int, reason: str) -> HandshakeError:
        return (
            HandshakeError(0, f"the response: {reason}") if self._client else HandshakeError(status, reason)
        )


def _check(name: str, line: str) -> None:
    """Raise ValueError for a line that is no field; keep its name for the next ones."""
    if line[:1] in (" ", "\t"):
        raise ValueError("a header field that goes on in another line")
    if ":" not in line:
        raise ValueError(f"{line[:80]!a} is no header field: it has no colon")
    if TOKEN.fullmatch(name) is None:
        raise ValueError(f"{name[:80]!a} is no header field's name")
    if len(_names) < _NAMES and len(name) <= 40:
        _names[name] = name, name.lower()


def parse_extensions(text: str) -> list[tuple[str, Parameters]]:
    """Return the extensions of a Sec-WebSocket-Extensions field with their parameters (RFC 6455, 9.1).

    Raises ValueError if it is no list of extensions.
    """
    extensions: list[tuple[str, Parameters]] = []
    start = _between(text, 0)
    while start < len(text):
        match = TOKEN.match(text, start)
        if match is None:
            raise ValueError(f"{text[start : start + 40]!a} is no extension's name")
        name, start = match[0], match.end()
        parameters: list[tuple[str, str | None]] = []
        while (match := _PARAMETER.match(text, start)) is not None:
            parameter, value, quoted = match.groups()
            if quoted is not None:
                value = re.sub(r"\\(.)", r"\1", quoted)
                if TOKEN.fullmatch(value) is None:
                    raise ValueError(f"{quoted[:40]!a} is no parameter's value")
            parameters.append((parameter, value))
            start = match.end()
        if _AFTER.match(text, start) is None:
            raise ValueError(f"{text[start : start + 40]!a} is no parameter")
        extensions.append((name, tuple(parameters)))
        start = _between(text, start)
    return extensions


def _between(text: str, start: int) -> int:
    """Return the offset of the next extension; lists may have empty members (RFC 9110, 5.6.1)."""
    match = _BETWEEN.match(text, start)
    return start if match is None else match.end()
