"""A request as cheroot (11.1, pinned) reads it: where it ends (RFC 9112), and what answers tell of us.

Bytes that two servers assign to different requests let one client write into the next one's (request
smuggling). So what cannot be framed without doubt closes the connection, and so does a body that nobody read
and that is too long to be read for the sake of the next request.
"""

import re
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import cheroot.server
import cherrypy
from cheroot.errors import MaxSizeExceeded
from cherrypy._cpwsgi_server import CPWSGIHTTPRequest

from kirsch.bus.head import parse_head

# Read from a body that the application left, so that a client still sending comes to see the answer.
LEFTOVER = 8 << 20
_PIECE = 1 << 16
_LINE = 4096
_ONCE = frozenset((b"Content-Length", b"Host", b"Sec-Websocket-Key", b"Sec-Websocket-Version"))
_LISTS = frozenset((b"Sec-Websocket-Extensions", b"Sec-Websocket-Protocol"))
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(;[^\r\n]*)?\r\n")
_CHERRYPY = (b"Server", f"CherryPy/{cherrypy.__version__}".encode())
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{0}</title><h1>{0}</h1><p>{1}</p>{2}</html>
"""


class Fields(dict[bytes, bytes]):
    """Header fields; what says where a request ends and whom it is for comes once (RFC 9112, 3.2 and 6.3).

    So do two of a WebSocket's; two others are one list (RFC 6455, 11.3).
    """

    def __setitem__(self, name: bytes, value: bytes) -> None:
        """Raises ValueError, which is 400."""
        if name in self:
            if name in _ONCE:
                raise ValueError(f"{name.decode()} comes more than once.")
            if name in _LISTS:
                value = b"%s, %s" % (self[name], value)
        super().__setitem__(name, value)


class FieldReader(cheroot.server.HeaderReader):
    """Reads header fields; with a space before the colon they are none (RFC 9112, 5.1)."""

    def _transform_key(self, key_name: bytes) -> bytes:
        if key_name != key_name.strip():
            raise ValueError("A field's name ends in a space.")
        return key_name.title()


class ChunkedBody(cheroot.server.ChunkedRFile):
    """A body in chunks (RFC 9112, 7.1), up to the end of its trailer section.

    Reading raises ValueError when it is malformed or breaks off, MaxSizeExceeded when it is longer than the
    server allows, OSError when it does not come.
    """

    whole = False
    _trailer: tuple[bytes, ...] = ()
    _broken = False
    _left = 0  # of the present chunk

    def _fetch(self) -> None:
        if self.whole:
            return
        if self._broken:
            raise ValueError("The rest of the body cannot be told apart.")
        self._broken = True
        self._left = self._left or self._size()
        if self._left:
            self.buffer += self._piece()
        else:
            self._trailer = tuple(self._read_trailer())
            self.whole = True
        self._broken = False

    def read_trailer_lines(self) -> Iterator[bytes]:  # type: ignore[override]
        """The lines of the trailer section. Raises ValueError before the body was read."""
        if not self.whole:
            raise ValueError("Trailers come after the body.")
        yield from self._trailer

    def _size(self) -> int:
        match = _CHUNK.fullmatch(self._line())
        if match is None:
            raise ValueError("A chunk's size is malformed.")
        size = int(match[1], 16)
        if self.maxlen and self.bytes_read + size > self.maxlen:
            raise MaxSizeExceeded("Request Entity Too Large", self.maxlen)
        return size

    def _piece(self) -> bytes:
        piece: bytes = self.rfile.read(min(self._left, _PIECE))
        self._count(piece)
        self._left -= len(piece)
        if not piece or (self._left == 0 and self.rfile.read(2) != b"\r\n"):
            raise ValueError("A chunk does not end where it says.")
        return piece

    def _read_trailer(self) -> Iterator[bytes]:
        while (line := self._line()) != b"\r\n":
            if not line.endswith(b"\r\n"):
                raise ValueError("The trailer section is malformed.")
            yield line

    def _line(self) -> bytes:
        line: bytes = self.rfile.readline(_LINE)
        self._count(line)
        return line

    def _count(self, data: bytes) -> None:
        self.bytes_read += len(data)
        if self.maxlen and self.bytes_read > self.maxlen:
            raise MaxSizeExceeded("Request Entity Too Large", self.maxlen)


class Request(CPWSGIHTTPRequest):
    """A request on one of our servers' connections."""

    header_reader: Any = FieldReader()
    rfile: Any
    path: bytes
    qs: bytes
    outheaders: list[tuple[bytes, bytes]]

    def __init__(self, server: Any, conn: Any) -> None:
        super().__init__(server, conn)
        self.inheaders = Fields()

    def parse_request(self) -> None:
        """Read the head; `ready` says whether there is a request to answer."""
        data = self.conn.rfile.peek_head(self.server.max_request_header_size)
        head = parse_head(data) if data else None
        if head is None:
            super().parse_request()
            return
        self.started_request = True
        self.rfile = self.conn.rfile
        self.rfile.skip(len(data))
        self.method, self.uri, self.path, self.qs = head.method, head.target, head.path, head.query
        self.authority = b""
        self.request_protocol, self.response_protocol = b"HTTP/1.1", self.server.protocol
        self.inheaders.update(head.fields)
        self.header_reader = _nothing_more
        self.ready = self.read_request_headers()

    def read_request_headers(self) -> bool:
        if not super().read_request_headers():
            return False
        length, coding = (self.inheaders.get(name) for name in (b"Content-Length", b"Transfer-Encoding"))
        if length is not None and not length.isdigit():
            self.simple_response("400 Bad Request", "Malformed Content-Length Header.")
            return False
        if coding is not None and (length is not None or not self.chunked_read):
            # Two lengths are one too many, and HTTP/1.0 has no chunks (RFC 9112, 6.1 and 6.3).
            self.close_connection = True
        return True

    def respond(self) -> None:
        """Have the application answer."""
        if self.chunked_read:
            self.rfile = ChunkedBody(self.conn.rfile, self.server.max_request_body_size)
        else:
            length = int(self.inheaders.get(b"Content-Length", 0))
            self.rfile = cheroot.server.KnownLengthRFile(self.conn.rfile, length)
        try:
            self.server.gateway(self).respond()
            if self.chunked_write:
                self.conn.wfile.hold(b"0\r\n\r\n")
        finally:
            self.conn.wfile.flush()

    def send_headers(self) -> None:
        """Have the answer's head leave with what comes next, once the request's body is read.

        As in cheroot, which does the first for a body of known length only.
        """
        status = int(self.status[:3])
        # For a body that did not come in time nobody waits once more.
        if status == 408 or not self._finish_body():
            self.close_connection = True
        fields = [field for field in self.outheaders if field != _CHERRYPY]
        names = {name.lower() for name, _ in fields}
        if status == 413:
            self.close_connection = True
        elif b"content-length" not in names and status >= 200 and status not in (204, 205, 304):
            if self.response_protocol == "HTTP/1.1" and self.method != b"HEAD":
                self.chunked_write = True
                fields.append((b"Transfer-Encoding", b"chunked"))
            else:
                self.close_connection = True
        if not self.close_connection:
            self.close_connection = not self.server.can_add_keepalive_connection
        if b"connection" not in names:
            fields += self._connection()
        if b"date" not in names:
            fields.append((b"Date", formatdate(usegmt=True).encode()))
        if b"server" not in names:
            fields.append((b"Server", b"CherryPy"))  # cheroot's own says its version
        lines = [b"%s: %s\r\n" % field for field in fields]
        head = b"%s %s\r\n%s\r\n" % (self.server.protocol.encode(), self.status, b"".join(lines))
        self.conn.wfile.hold(head)

    def _connection(self) -> list[tuple[bytes, bytes]]:
        """What the client is told of the connection's future, where that is not what its version implies."""
        if self.response_protocol == "HTTP/1.1":
            return [(b"Connection", b"close")] if self.close_connection else []
        if self.close_connection:
            return []
        return [(b"Connection", b"Keep-Alive"), (b"Keep-Alive", b"timeout=%d" % self.server.timeout)]

    def _finish_body(self) -> bool:
        """Whether the body was read to its end, here if nowhere else."""
        left = LEFTOVER
        try:
            while left > 0 and (piece := self.rfile.read(min(left, _PIECE))):
                left -= len(piece)
        except (MaxSizeExceeded, OSError, ValueError):
            return False
        return bool(self.rfile.whole if self.chunked_read else self.rfile.remaining == 0)


def _nothing_more(rfile: Any, fields: Any) -> None:
    """In the place of a reader of header fields, once they are read."""


def error_page(status: str, message: str, traceback: str, version: str) -> str:
    """An error as CherryPy's page tells it, but for CherryPy's version."""
    lines = f'<pre id="traceback">{traceback}</pre>' if traceback else ""
    return _PAGE.format(status, message, lines)


def tell_nothing() -> None:
    """Have CherryPy's requests show no traceback and no version, unless their configuration says otherwise.

    In the class, for that is all CherryPy looks at for a request that it refuses before it has read its
    configuration: one without Host.
    """
    request = cherrypy._cprequest.Request
    request.show_tracebacks = False
    request.error_page = {"default": error_page}
