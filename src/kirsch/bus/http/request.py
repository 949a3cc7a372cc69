"""Requests of one connection, read from its bytes (RFC 9112): no I/O, no clock.

httptools finds method, target and fields, in its strict mode. Whatever two servers could read differently is
refused, and the connection ends with that: it could let one client write into the next one's request.
"""

import contextlib
import io
import re
import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO

try:
    import httptools
except ImportError:  # it is compiled, and phones have no such: fields are read by a pattern there
    httptools = None  # type: ignore[assignment]

from kirsch.bus.http.limits import Limits

# Methods are case-sensitive, and those that there are have capitals alone: some servers take get for GET.
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Z-]+(?: |\Z)")
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Z-]+) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])\r\n")
_HOST = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]*)(?::[0-9]*)?")
_ABSOLUTE = re.compile(r"https?://([^/?#]*)([^#]*)", re.IGNORECASE)
_CODING = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_NO_ROOM = "The server cannot keep the request's body."
# Room for a chunk's size and its extensions.
_CHUNK_LINE = 4096


class Refused(Exception):
    """A request that is answered by the server alone, which closes the connection then."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class _PlainError(Exception):
    """A head whose fields are malformed."""


_MALFORMED: tuple[type[Exception], ...] = (
    (_PlainError, httptools.HttpParserError) if httptools else (_PlainError,)
)


class _Plain:
    """Parser of whole heads in place of httptools, where that cannot be had."""

    def __init__(self, reader: "Reader") -> None:
        self._reader = reader

    def parse(self, head: bytes) -> None:
        """Give the reader each field. Raises _PlainError."""
        for line in head.split(b"\r\n")[1:-2]:
            field = _FIELD.fullmatch(line)
            if field is None:
                raise _PlainError("A header field is malformed")
            self._reader.on_header(*field.groups())
        self._reader.on_headers_complete()


class Request:
    """One request, complete with its body, unless that is streamed."""

    __slots__ = ("body", "fields", "keep_alive", "length", "method", "target", "trailers", "version")

    def __init__(self, method: str, target: str, version: str) -> None:
        self.method = method
        self.target = target
        self.version = version
        # Names in small letters, each once: a field that comes several times is one list (RFC 9110, 5.3).
        self.fields: dict[str, str] = {}
        self.keep_alive = version == "HTTP/1.1"
        self.body: BinaryIO | None = None
        # Bytes of the body; None where the head announces none.
        self.length: int | None = None
        self.trailers: list[tuple[str, str]] = []

    @property
    def path_and_query(self) -> tuple[str, str]:
        """The target's two parts, still percent-encoded; the path is `*` for OPTIONS of the whole server."""
        target = self.target
        if not target.startswith("/"):
            absolute = _ABSOLUTE.fullmatch(target)
            target = absolute[2] if absolute else target
            if absolute and not target.startswith("/"):
                target = f"/{target}"
        path, _, query = target.partition("?")
        return path, query


class Reader:
    """Reads the requests of one connection: `feed` it what came, `take` what is complete.

    A refusal is final: `feed` and `end` raise it once, and nothing is to be fed after it.
    """

    def __init__(self, limits: Limits, spool: Callable[[], BinaryIO] = tempfile.TemporaryFile) -> None:
        self._limits = limits
        self._spool = spool
        self._buffer = b""
        self._request: Request | None = None
        self._step: Callable[[], bool] = self._head
        self._done: Request | None = None
        self.received = 0
        """Bytes of the present body that came, for its minimum rate."""
        self.continues = False
        """True once the client waits for 100 (Continue) before it sends a body; the caller resets it."""
        self._begin()

    def _begin(self) -> None:
        self._step = self._head
        self._request = None
        self._parser: Any = None
        self._fed = 0
        self._complete = self._renamed = False
        self._names: list[tuple[bytes, bytes]] = []

    @property
    def started(self) -> bool:
        """True while a request has begun and is not complete."""
        return self._request is not None or bool(self._buffer)

    @property
    def coming(self) -> Request | None:
        """The request whose body still comes."""
        return self._request

    def feed(self, data: bytes) -> None:
        """Take in bytes as they came. Raises Refused."""
        self._buffer = self._buffer + data if self._buffer else data
        self._advance()

    def take(self) -> Request | None:
        """Return the next complete request, and read on in what was fed already. Raises Refused."""
        if self._done is None:
            self._advance()
        request, self._done = self._done, None
        return request

    def end(self) -> None:
        """The client sends nothing more. Raises Refused where that is in the midst of a request."""
        if self.started and self._done is None:
            raise Refused(400, "The request ends too early.")

    def rest(self) -> bytes:
        """Return what was fed and belongs to no request yet, and forget it."""
        rest, self._buffer = self._buffer, b""
        return rest

    def close(self) -> None:
        """Drop the files of bodies that nobody takes."""
        self._parser = None  # it refers to this reader
        for request in (self._request, self._done):
            if request is not None and request.body is not None:
                with contextlib.suppress(OSError):  # it writes what it could not write before
                    request.body.close()

    def _advance(self) -> None:
        while self._done is None and (self._buffer or self._step == self._finish) and self._step():
            pass

    # Each step returns True when it has come further and the next may be tried.

    def _head(self) -> bool:
        buffer = self._buffer
        if self._parser is None:
            if buffer.startswith(b"\r\n"):  # a server ignores an empty line before a request (RFC 9112, 2.2)
                self._buffer = buffer = buffer[2:]
                if not buffer:
                    return False
            if buffer == b"\r":
                return False
            self._parser = httptools.HttpRequestParser(self) if httptools else _Plain(self)
        end = buffer.find(b"\r\n\r\n", max(self._fed - 3, 0), self._limits.header)
        size = len(buffer) if end < 0 else end + 4
        try:
            self._parse(buffer, size, end >= 0)
        except _MALFORMED as error:
            self._measure(end)
            raise Refused(400, f"{str(error).rstrip('.')}.") from None
        self._fed = size
        self._measure(end)
        if end < 0:
            if self._complete:
                raise Refused(400, "The head does not end in an empty line.")
            return False
        self._buffer = buffer[size:]
        self._request = self._read_head(buffer)
        return True

    def _parse(self, buffer: bytes, size: int, whole: bool) -> None:
        """Have httptools parse what is new of a head. Raises HttpParserError."""
        if httptools is None:
            if whole:
                self._parser.parse(buffer[:size])
            return
        try:
            if not self._renamed:
                self._parser.feed_data(memoryview(buffer)[self._fed : size])
        except httptools.HttpParserUpgrade:
            pass  # the head ends there, as all others do
        except httptools.HttpParserInvalidMethodError:
            # It is for the application to refuse a method: httptools parses the head with one that it knows.
            if not _METHOD.match(buffer):
                raise
            self._renamed = True
        if self._renamed and whole:
            self._parser = httptools.HttpRequestParser(self)
            with contextlib.suppress(httptools.HttpParserUpgrade):
                self._parser.feed_data(_METHOD.sub(b"POST ", buffer[:size], count=1))

    def _measure(self, end: int) -> None:
        """Refuse a head that is longer than it may be."""
        line = self._buffer.find(b"\r\n", 0, self._limits.target)
        if line < 0 and len(self._buffer) >= self._limits.target:
            raise Refused(414, f"The request line is longer than {self._limits.target} bytes.")
        if end < 0 and len(self._buffer) >= self._limits.header:
            raise Refused(431, f"The head is longer than {self._limits.header} bytes.")

    # httptools calls these two.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field."""
        self._names.append((name, value))

    def on_headers_complete(self) -> None:
        """Take note that the head has ended."""
        self._complete = True

    def _read_head(self, data: bytes) -> Request:
        match = _LINE.match(data)
        if match is None or not self._complete:
            raise Refused(400, "The request line is malformed.")
        method, target, major, minor = match.groups()
        if major != b"1" or minor not in b"01":
            raise Refused(505, "This server speaks HTTP/1.1 and HTTP/1.0.")
        if method == b"CONNECT":
            raise Refused(501, "This server is no proxy.")
        request = Request(method.decode(), target.decode(), f"HTTP/1.{minor.decode()}")
        fields = request.fields
        for raw, value in self._names:
            name = _names.get(raw) or _name(raw)
            # An underscore would make it another field's variable in a WSGI environment.
            if "_" in name:
                continue
            text = value.strip(b" \t").decode("latin-1")
            if name not in fields:
                fields[name] = text
            elif name in ("host", "content-length"):
                raise Refused(400, f"{raw.decode()} comes more than once.")
            else:
                fields[name] += f"; {text}" if name == "cookie" else f", {text}"
        self._check_target(request)
        self._frame(request)
        return request

    @staticmethod
    def _check_target(request: Request) -> None:
        host, target = request.fields.get("host"), request.target
        if host is None and request.version == "HTTP/1.1":
            raise Refused(400, "The request has no Host.")
        if host is not None and not _HOST.fullmatch(host):
            raise Refused(400, "Host is malformed.")
        if target.startswith("/"):
            if "#" in target:
                raise Refused(400, "The request's target has a fragment.")
        elif absolute := _ABSOLUTE.fullmatch(target):
            authority = absolute[1]
            if not authority or not _HOST.fullmatch(authority):
                raise Refused(400, "The request's target has no proper authority.")
            if request.fields.setdefault("host", authority).lower() != authority.lower():
                raise Refused(400, "The request's target and its Host differ.")
        elif target != "*" or request.method != "OPTIONS":
            raise Refused(400, "The request's target is neither a path nor a URL.")

    def _frame(self, request: Request) -> None:
        """Find out how the body is framed, and what the client asks of the connection."""
        fields = request.fields
        connection = fields.get("connection")
        if connection is not None:
            tokens = {token.strip().lower() for token in connection.split(",")}
            request.keep_alive = "close" not in tokens and (request.keep_alive or "keep-alive" in tokens)
        length, coding = fields.get("content-length"), fields.get("transfer-encoding")
        if coding is not None:
            self._check_coding(request.version, length, coding)
            request.length, self._step = 0, self._chunk_size
        elif length is not None:
            if not (length.isascii() and length.isdigit() and len(length) < 19):
                raise Refused(400, "Content-Length is no number of bytes.")
            request.length = self._left = int(length)
            self._within(request.length)
            self._step = self._known_length if self._left else self._finish
        else:
            self._step = self._finish
        self.received = self._framing = 0
        expect = fields.get("expect")
        if expect is not None and request.version == "HTTP/1.1":
            if expect.lower() != "100-continue":
                raise Refused(417, "Only 100-continue can be expected.")
            self.continues = self._step != self._finish and not self._buffer

    @staticmethod
    def _check_coding(version: str, length: str | None, coding: str) -> None:
        if length is not None:
            raise Refused(400, "The request has both Content-Length and Transfer-Encoding.")
        if version == "HTTP/1.0":
            raise Refused(400, "HTTP/1.0 has no Transfer-Encoding.")
        codings = [each.strip(" \t").lower() for each in coding.split(",")]
        if codings != ["chunked"]:
            if codings[-1] == "chunked" not in codings[:-1] and all(map(_CODING.fullmatch, codings)):
                raise Refused(501, "The only transfer coding here is chunked.")
            raise Refused(400, "Transfer-Encoding is malformed.")

    def _within(self, size: int) -> None:
        if 0 < self._limits.body < size:
            raise Refused(413, f"The body is longer than {self._limits.body} bytes.")

    def _known_length(self) -> bool:
        self._store(self._left)
        if self._left:
            return False
        self._step = self._finish
        return True

    def _store(self, size: int) -> None:
        """Take up to `size` bytes of the body."""
        assert self._request is not None
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        self._left = size - len(piece)
        self.received += len(piece)
        body = self._request.body
        if body is None:
            body = self._request.body = io.BytesIO()
        try:
            if isinstance(body, io.BytesIO) and self.received > self._limits.memory:
                file = self._spool()
                begun, body = body, file
                self._request.body = file
                file.write(begun.getvalue())
            body.write(piece)
        except OSError as error:
            raise Refused(503, _NO_ROOM) from error

    def _line(self, limit: int) -> bytes | None:
        """Take a line without its end; None while that has not come."""
        end = self._buffer.find(b"\n", 0, limit)
        if end < 0:
            if len(self._buffer) >= limit:
                raise Refused(400, "A line of the body's framing is too long.")
            return None
        if end == 0 or self._buffer[end - 1] != 13:
            raise Refused(400, "A line of the body's framing does not end in CR LF.")
        line, self._buffer = self._buffer[: end - 1], self._buffer[end + 1 :]
        return line

    def _chunk_size(self) -> bool:
        line = self._line(_CHUNK_LINE)
        if line is None:
            return False
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise Refused(400, "A chunk's size is malformed.")
        self._framing += len(line) - len(match[1])
        if self._framing > self._limits.header:
            raise Refused(400, "The chunks' extensions are too long.")
        self._left = int(match[1], 16)
        self._within(self.received + self._left)
        self._step = self._chunk if self._left else self._trailer
        self._framing = self._framing if self._left else 0
        return True

    def _chunk(self) -> bool:
        self._store(self._left)
        if self._left:
            return False
        self._step = self._chunk_end
        return True

    def _chunk_end(self) -> bool:
        if not b"\r\n".startswith(self._buffer[:2]):
            raise Refused(400, "A chunk does not end where it says.")
        if len(self._buffer) < 2:
            return False
        self._buffer = self._buffer[2:]
        self._step = self._chunk_size
        return True

    def _trailer(self) -> bool:
        line = self._line(self._limits.header)
        if line is None:
            return False
        assert self._request is not None
        if not line:
            self._step = self._finish
            return True
        self._framing += len(line) + 2
        match = _FIELD.fullmatch(line)
        if match is None:
            raise Refused(400, "The trailer section is malformed.")
        if self._framing > self._limits.header:
            raise Refused(431, f"The trailer section is longer than {self._limits.header} bytes.")
        value = match[2].rstrip(b" \t").decode("latin-1")
        self._request.trailers.append((match[1].decode().lower(), value))
        return True

    def _finish(self) -> bool:
        request = self._request
        assert request is not None
        if request.length is not None:
            request.length = self.received
        if request.body is not None and request.body.seekable():
            try:
                request.body.seek(0)  # this writes the rest of it
            except OSError as error:
                raise Refused(503, _NO_ROOM) from error
        self._done = request
        self.continues = False
        self._begin()
        return False


_NAMES = 1000
_names: dict[bytes, str] = {}


def _name(raw: bytes) -> str:
    """A field's name in small letters; the usual ones are kept."""
    name = raw.decode("ascii").lower()
    if len(_names) < _NAMES:
        _names[raw] = name
    return name
