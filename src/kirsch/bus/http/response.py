"""Responses of a server as bytes (RFC 9112): no I/O.

`Response` frames what an application answers to one request; `refusal` is what the server says on its own.
"""

import json
import re
import time
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus

from kirsch.bus.http.request import Refused, Request

Headers = Sequence[tuple[str, str]]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS = re.compile(r"[1-9][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# Seconds.
RETRY_AFTER = "1"
_KEPT = 1000
_names: dict[str, str] = {}


class ResponseError(Exception):
    """An application's answer that cannot be sent: what is wrong with it."""


class Response:
    """The frame of one answer: a head, then a body of known length, in chunks, or up to the connection's end.

    `keep`: the connection may go on after it. `name`: the Server field of answers that have none.
    """

    __slots__ = ("_left", "_request", "body", "chunked", "close", "name", "status")

    def __init__(self, request: Request, *, keep: bool, name: bytes = b"kirsch") -> None:
        self._request = request
        self.name = name
        self.close = not (keep and request.keep_alive)
        self.status = 0
        self.chunked = False
        # True where the client expects the bytes of a body.
        self.body = request.method != "HEAD"
        self._left: int | None = None

    def head(self, status: str, headers: Headers, length: int | None = None, idle: float = 0) -> bytes:
        """Return the head. Raises ResponseError.

        `length` is the body's, where it is known and the application does not say it; `idle` is for HTTP/1.0
        how long a connection is kept.
        """
        if not _STATUS.fullmatch(status):
            raise ResponseError(f"{status!r} is no status, such as '200 OK'")
        code = self.status = int(status[:3])
        lines = []
        said = set()
        server = b""
        for name, value in headers:
            lower = _names.get(name) or _lower(name)
            if not _VALUE.fullmatch(value):
                raise ResponseError(f"the field {name} has characters that it may not have: {value!r}")
            if lower == "content-length":
                if lower in said or not (value.isascii() and value.isdigit()):
                    raise ResponseError(f"Content-Length is {value!r}: one number of bytes")
                self._left = int(value)
            elif lower == "connection":
                self.close = self.close or "close" in value.lower().replace(" ", "").split(",")
                if value.lower() != "upgrade":
                    continue
            elif lower in ("transfer-encoding", "keep-alive"):
                continue  # the framing is the server's
            elif lower == "server":
                # The last one counts. CherryPy says its version where nothing else is said.
                server = b"Server: %s\r\n" % (
                    b"CherryPy" if value.startswith("CherryPy/") else value.encode("latin-1")
                )
                continue
            said.add(lower)
            lines.append(f"{name}: {value}\r\n")
        framed = code >= 200 and code not in (204, 304)
        if code < 200 and code != 101:
            raise ResponseError(f"{status!r} is no final status")
        self.body = self.body and framed
        if not framed and code != 304 and self._left is not None:
            lines = [line for line in lines if not line.lower().startswith("content-length:")]
        elif framed and self._left is None:
            if length is not None:
                self._left = length
                lines.append(f"Content-Length: {length}\r\n")
            elif self._request.version != "HTTP/1.1":
                self.close = True
            elif self.body:
                self.chunked = True
                lines.append("Transfer-Encoding: chunked\r\n")
        if not self.body:
            self._left = None
        if self.close:
            if code != 101:
                lines.append("Connection: close\r\n")
        elif self._request.version == "HTTP/1.0":
            lines.append(f"Connection: Keep-Alive\r\nKeep-Alive: timeout={idle:.0f}\r\n")
        if "date" not in said:
            lines.append(date_line())
        rest = "".join(lines).encode("latin-1")
        first = f"HTTP/1.1 {status}\r\n".encode("latin-1")
        return b"%s%s%s\r\n" % (first, rest, server or b"Server: %s\r\n" % self.name)

    def piece(self, data: bytes) -> bytes:
        """Return part of the body as it is sent.

        Raises ResponseError for what is not bytes, and for more than Content-Length says.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ResponseError(f"the body has {type(data).__name__} where bytes belong")
        if not self.body or not data:
            return b""
        if self.chunked:
            return b"%x\r\n%s\r\n" % (len(data), data)
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise ResponseError("the body is longer than its Content-Length")
        return data

    def end(self) -> bytes:
        """Return what ends the body. Raises ResponseError for less than Content-Length says."""
        if self.body and self._left:
            raise ResponseError(f"the body is {self._left} bytes shorter than its Content-Length")
        return b"0\r\n\r\n" if self.chunked else b""

    @property
    def plain_length(self) -> int | None:
        """The bytes that the body still has, where it is sent as it is and that is known."""
        return self._left if self.body and not self.chunked else None


def refusal(refused: Refused, name: bytes = b"kirsch", headers: Headers = ()) -> bytes:
    """Return the whole answer to a request that the server does not take: problem+json (RFC 9457)."""
    phrase = HTTPStatus(refused.status).phrase
    problem = {"type": "about:blank", "title": phrase, "status": refused.status, "detail": refused.reason}
    body = json.dumps(problem).encode() + b"\n"
    fields = [
        ("Content-Type", "application/problem+json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
        *headers,
        *((("Retry-After", RETRY_AFTER),) if refused.status == 503 else ()),
    ]
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    head = f"HTTP/1.1 {refused.status} {phrase}\r\n{lines}{date_line()}"
    return b"%sServer: %s\r\n\r\n%s" % (head.encode("latin-1"), name, body)


_date = (0, "")


def date_line() -> str:
    """Return the Date field; it is made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, f"Date: {formatdate(now, usegmt=True)}\r\n")
    return _date[1]


def _lower(name: str) -> str:
    """A field's name in small letters, once it was found to be one. Raises ResponseError."""
    if not _TOKEN.fullmatch(name):
        raise ResponseError(f"{name!r} is no field's name")
    lower = name.lower()
    if len(_names) < _KEPT:
        _names[name] = lower
    return lower
