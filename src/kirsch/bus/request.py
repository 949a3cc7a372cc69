"""A request as cheroot (11.1, pinned) reads it: where it ends (RFC 9112), and what answers tell of us.

Bytes that two servers assign to different requests let one client write into the next one's (request
smuggling). So what cannot be framed without doubt closes the connection, and so does a body that nobody read
and that is too long to be read for the sake of the next request.
"""

import re
from collections.abc import Iterator
from typing import Any

import cheroot.server
import cherrypy
from cheroot.errors import MaxSizeExceeded
from cherrypy._cpwsgi_server import CPWSGIHTTPRequest

# Read from a body that the application left, so that a client still sending comes to see the answer.
LEFTOVER = 8 << 20
_PIECE = 1 << 16
_LINE = 4096
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(;[^\r\n]*)?\r\n")
_CHERRYPY = (b"Server", f"CherryPy/{cherrypy.__version__}".encode())
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{0}</title><h1>{0}</h1><p>{1}</p>{2}</html>
"""


class Fields(dict[bytes, bytes]):
    """Header fields; what says where a request ends and whom it is for comes once (RFC 9112, 3.2 and 6.3)."""

    def __setitem__(self, name: bytes, value: bytes) -> None:
        """Raises ValueError, which is 400."""
        if name in (b"Content-Length", b"Host") and name in self:
            raise ValueError(f"{name.decode()} comes more than once.")
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

    header_reader = FieldReader()
    rfile: Any
    outheaders: list[tuple[bytes, bytes]]

    def __init__(self, server: Any, conn: Any) -> None:
        super().__init__(server, conn)
        self.inheaders = Fields()

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
        self.server.gateway(self).respond()
        if self.chunked_write:
            self.conn.wfile.write(b"0\r\n\r\n")

    def send_headers(self) -> None:
        """Write the answer's head, once the body is read, as cheroot does for one of known length."""
        if not self._finish_body():
            self.close_connection = True
        self.outheaders = [field for field in self.outheaders if field != _CHERRYPY]
        if all(name.lower() != b"server" for name, _ in self.outheaders):
            self.outheaders.append((b"Server", b"CherryPy"))  # cheroot's own says its version
        super().send_headers()

    def _finish_body(self) -> bool:
        """Whether the body was read to its end, here if nowhere else."""
        left = LEFTOVER
        try:
            while left > 0 and (piece := self.rfile.read(min(left, _PIECE))):
                left -= len(piece)
        except (MaxSizeExceeded, OSError, ValueError):
            return False
        return bool(self.rfile.whole if self.chunked_read else self.rfile.remaining == 0)


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
