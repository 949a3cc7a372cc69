"""WSGI (PEP 3333): a request becomes an environ, and what the application gives becomes an answer."""

import contextlib
import io
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote_to_bytes

from kirsch.bus.http.output import FilePart
from kirsch.bus.http.request import Refused, Request
from kirsch.bus.http.response import Headers, Response, ResponseError
from kirsch.bus.http.stream import Stream

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Handover = Callable[[Any, bytes], None]

_SLASH = re.compile(r"%2[fF]")
_KEPT = 1000
_variables: dict[str, str] = {}


class Sink(Protocol):
    """Destination of an answer. Raises OSError once the client is gone."""

    def write(self, data: bytes) -> None: ...

    def write_file(self, part: FilePart, head: bytes) -> None: ...


class FileWrapper:
    """wsgi.file_wrapper: a file as an answer's body. A regular one is sent by the kernel (sendfile(2))."""

    def __init__(self, file: Any, size: int = 1 << 16) -> None:
        self.file = file
        self.size = size

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.file.read(self.size), b"")

    def close(self) -> None:
        if hasattr(self.file, "close"):
            self.file.close()

    def part(self) -> FilePart | None:
        """Return what is left of the file, with a descriptor of its own; None if it is no regular file."""
        try:
            descriptor = self.file.fileno()
            status = os.fstat(descriptor)
            offset = self.file.tell()
        except (AttributeError, OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode) or isinstance(self.file, io.TextIOBase):
            return None
        return FilePart(os.dup(descriptor), offset, max(offset, status.st_size))


class Exchange:
    """One request and its answer. `upgraded` is what takes the connection over after a 101."""

    def __init__(self, request: Request, response: Response, sink: Sink, idle: float) -> None:
        self.request = request
        self.response = response
        self.upgraded: Handover | None = None
        self._sink = sink
        self._idle = idle
        self._started: tuple[str, Headers] | None = None
        self.sent = False
        """True once the answer's head was written."""

    @property
    def failed(self) -> Refused | None:
        """The end of a streamed body that did not come in whole."""
        body = self.request.body
        return body.failed if isinstance(body, Stream) else None

    def run(self, application: Application, environ: Environ) -> None:
        """Have the application answer. Raises what it raises, ResponseError, and OSError of the sink."""
        body = application(environ, self.start_response)
        try:
            if isinstance(body, FileWrapper) and self._send_file(body):
                return
            known = sum(map(len, body)) if type(body) in (list, tuple) and not self.sent else None
            for data in body:
                if data:
                    self._write(data, known)
            if not self.sent:
                self._write(b"", known if known is not None else 0)
            if end := self.response.end():
                self._sink.write(end)
        finally:
            if hasattr(body, "close"):
                body.close()

    def start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        """Take the answer's status and fields (PEP 3333)."""
        if exc_info is not None:
            try:
                if self.sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._started is not None:
            raise ResponseError("start_response was called twice")
        self._started = status, headers
        return self._write

    def upgrade(self, handover: Handover) -> None:
        """environ["kirsch.upgrade"]: have `handover(socket, received)` called once a 101 has been sent.

        The connection is the callable's then; `received` is what came on it after the request. Where the
        answer is another than 101 nothing is called.
        """
        self.upgraded = handover

    def _head(self, length: int | None) -> bytes:
        if self._started is None:
            raise ResponseError("the application did not call start_response")
        if self.failed is not None:
            raise self.failed  # whatever the application makes of it
        body = self.request.body
        if isinstance(body, Stream) and not body.complete:
            self.response.close = True  # the rest of it would pass for the next request
        if length == 0 and self.request.method == "HEAD":
            length = None  # the length of what GET would answer is not known
        return self.response.head(*self._started, length, self._idle)

    def _write(self, data: bytes, known: int | None = None) -> None:
        head = b"" if self.sent else self._head(known)
        piece = self.response.piece(data)  # where this fails first, there can be another answer
        self.sent = True
        self._sink.write(head + piece)

    def _send_file(self, body: FileWrapper) -> bool:
        part = None if self.sent else body.part()
        if part is None:
            return False
        try:
            head = self._head(part.end - part.offset)
            length = self.response.plain_length
            if length is None:  # HEAD, 204, 304
                part.close()
                self.sent = True
                self._sink.write(head)
                return True
            if length > part.end - part.offset:
                raise ResponseError("the file is shorter than its Content-Length")
            part.end = part.offset + length
        except BaseException:
            part.close()
            raise
        self.sent = True
        if length:
            self._sink.write_file(part, head)
        else:  # there is nothing of a file to wait for
            part.close()
            self._sink.write(head)
        return True


def environ(request: Request, base: Environ, upgrade: Callable[[Handover], None]) -> Environ:
    """Return a request's environ, from what is the same for all of its connection.

    CONTENT_LENGTH says the body's length, in whatever way it was sent, unless it is streamed in chunks. `%2F`
    stays as it is in PATH_INFO, for it separates no segments; `kirsch.trailers` are the trailer fields, as
    pairs.
    """
    body = request.body
    path, query = request.path_and_query
    if "%" in path:
        parts = _SLASH.split(path)
        path = "%2F".join(unquote_to_bytes(part).decode("latin-1") for part in parts)
    variables = {
        **base,
        "REQUEST_METHOD": request.method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_URI": request.target,
        "SERVER_PROTOCOL": request.version,
        "wsgi.errors": sys.stderr,
        "wsgi.input": io.BufferedReader(body) if isinstance(body, Stream) else body or io.BytesIO(),
        "kirsch.trailers": request.trailers,
        "kirsch.upgrade": upgrade,
    }
    for name, value in request.fields.items():
        variables[_variables.get(name) or _variable(name)] = value
    if request.length is not None:
        variables["CONTENT_LENGTH"] = str(request.length)
        variables.pop("HTTP_TRANSFER_ENCODING", None)
    return variables


def base_environ(name: str, port: str, scheme: str, more: Environ) -> Environ:
    """Return what is the same in every environ of a connection."""
    return {
        "ACTUAL_SERVER_PROTOCOL": "HTTP/1.1",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REMOTE_ADDR": "",
        "SCRIPT_NAME": "",
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "SERVER_SOFTWARE": "kirsch",
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
        "wsgi.multiprocess": False,
        "wsgi.multithread": True,
        "wsgi.run_once": False,
        "wsgi.url_scheme": scheme,
        "wsgi.version": (1, 0),
        **more,
    }


def close_input(body: BinaryIO | None) -> None:
    """Give a body's file back."""
    if body is not None:
        with contextlib.suppress(OSError):  # an application may have written to it
            body.close()


def _variable(name: str) -> str:
    variable = name.upper().replace("-", "_")
    if variable not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        variable = f"HTTP_{variable}"
    if len(_variables) < _KEPT:
        _variables[name] = variable
    return variable
