"""A client of kirsch's API, on little of the standard library: the CLI starts fast."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from kirsch.cluster.api.transport import Transport, Unix, Unreachable

if TYPE_CHECKING:
    from kirsch.websocket.threaded import Connection

UNITS = "/kirsch/v1/units"
RELEASES = "/kirsch/v1/releases"
TIMEOUT = 60.0
# Seconds that each of several machines has to answer a GET, round after round; then it has all the time.
PATIENCE = (5.0, 15.0)
# What may be asked again where nobody knows whether it was done (RFC 9110, 9.2.2).
REPEATABLE = ("GET", "PUT", "DELETE")
# Seconds for a stream to open at a machine; then the next is tried.
STREAM_ANSWER = 5.0
# Seconds of silence, then of a ping without an answer: a machine that lost its power is noticed before its
# lease has run out (10 s), and another is asked.
PING = (3.0, 5.0)
# A stream's first message has all units.
MAX_MESSAGE = 256 << 20
# Bytes of a line of an answer's head.
MAX_LINE = 64 << 10


class ClientError(Exception):
    """The API said no: `status` is HTTP's, 0 when there was no answer; one line for a person."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Slow(ClientError):
    """A machine took the request and has not answered in time."""


class BadAnswer(Exception):
    """Error: the answer is not valid HTTP, or it broke off."""


class Silent(BadAnswer):
    """The connection ended before a byte of the answer came: the server had closed it."""


class Client:
    """Client of a kirschd at a Unix socket's path or by a Transport, which answers within `timeout` seconds.

    Every method raises ClientError, and may be called in any thread. What one machine cannot do now (503) is
    asked of the next, where there are several; so is what it does not answer, if to do it twice does no harm.
    """

    def __init__(
        self, where: Transport | Path, timeout: float = TIMEOUT, stale: Callable[[str], None] | None = None
    ) -> None:
        self.transport: Transport = Unix(where) if isinstance(where, Path) else where
        self.timeout = timeout
        # Called with the time (RFC 3339) of each answer that is old, as the store is away.
        self._stale = stale
        self._kept: list[socket.socket] = []

    def get(self, path: str, /, **query: Any) -> Any:
        """Send GET and return the JSON of the answer."""
        answer = self._call("GET", _url(path, query))
        if self._stale and isinstance(answer, dict) and "asOf" in answer:
            self._stale(answer["asOf"])
        return answer

    def put(self, path: str, body: Any) -> Any:
        """Send PUT with a JSON body."""
        return self._call("PUT", path, body)

    def patch(self, path: str, body: Any) -> Any:
        """Send PATCH with a JSON body."""
        return self._call("PATCH", path, body)

    def post(self, path: str, body: Any = None) -> Any:
        """Send POST with a JSON body, or with none."""
        return self._call("POST", path, body or {})

    def delete(self, path: str) -> None:
        """Send DELETE to a path."""
        self._call("DELETE", path)

    def stream(self, path: str, *, timeout: float | None = None, **query: Any) -> Iterator[Any]:
        """The messages of a stream, as they come, until it ends or `timeout` seconds have passed."""
        from kirsch.websocket import Closed

        deadline = None if timeout is None else time.monotonic() + timeout
        with self.connect(path, **query) as stream:
            while True:
                left = None if deadline is None else max(deadline - time.monotonic(), 0.001)
                try:
                    message = stream.recv(left)
                except (Closed, TimeoutError):
                    return
                yield json.loads(message if isinstance(message, str) else bytes(message))

    def close(self) -> None:
        """Close the kept connection."""
        while self._kept:
            self._kept.pop().close()

    def connect(self, path: str, /, **query: Any) -> "Connection":
        """Open a stream, for whoever ends it from another thread, by closing it."""
        from kirsch.websocket import ClientOptions, HandshakeError, Limits
        from kirsch.websocket.threaded import connect

        target = _url(path, query)
        limits = Limits(message=MAX_MESSAGE, handshake_timeout=STREAM_ANSWER, close_timeout=1.0)
        if self.transport.several:
            limits = replace(limits, ping_interval=PING[0], ping_timeout=PING[1])
        options = ClientOptions(proxy=None, deflate=None, limits=limits)
        try:
            for url in self.transport.stream_urls(target):
                try:
                    return connect(url, options=options, ssl=self.transport.context())
                except HandshakeError as refused:
                    if refused.status not in (0, 503) or not self.transport.several:
                        break
        except Unreachable as unreachable:
            raise ClientError(0, str(unreachable)) from None
        self._call("GET", target)  # the same without a stream says why, at length
        raise ClientError(0, f"kirschd at {self.transport} opens no stream")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode(errors="replace")
        if method == "GET" and self.transport.several:
            for patience in PATIENCE:
                try:
                    if patience < self.timeout:
                        return self._ask(method, path, content, patience)
                except Slow:
                    pass
        return self._ask(method, path, content, self.timeout)

    def _ask(self, method: str, path: str, content: bytes | None, patience: float) -> Any:
        """The answer of the first machine that has one in `patience` seconds. Raises ClientError, Slow."""
        error: ClientError | None = None
        try:
            for connection in self._connections(method in REPEATABLE):
                connection.settimeout(patience)
                try:
                    status, answer, kept = exchange(connection, method, path, self.transport.host, content)
                except (OSError, BadAnswer) as broken:
                    connection.close()
                    unanswered = isinstance(broken, Silent)
                    if error is None or not (unanswered or isinstance(error, Slow)):
                        error = self._broken(broken, method)
                    if method not in REPEATABLE or not (unanswered or self.transport.several):
                        break
                    if isinstance(broken, TimeoutError) and patience == self.timeout:
                        break
                    continue
                self.transport.answered(connection)
                if kept and (method in REPEATABLE or not self._kept):
                    self._kept.append(connection)
                else:
                    connection.close()
                if status < 400:
                    return _json(answer)
                error = ClientError(status, _detail(answer) or f"HTTP status {status}")
                if status != 503 or not self.transport.several:
                    break
        except Unreachable as unreachable:
            error = error or ClientError(0, str(unreachable))
        raise error or ClientError(0, f"no kirschd answers at {self.transport}")

    def _connections(self, repeatable: bool) -> Iterator[socket.socket]:
        """Connections to try: one that was kept, unless all must be well at the first try, for the server may
        have closed it; then fresh ones."""
        if repeatable:
            try:
                yield self._kept.pop()
            except IndexError:
                pass
        yield from self.transport.connections()

    def _broken(self, error: Exception, method: str) -> ClientError:
        if getattr(error, "library", "") == "SSL":
            reason = str(getattr(error, "reason", error)).replace("_", " ").lower()
            return ClientError(
                0, f"{self.transport} does not accept this certificate: it is another cluster's ({reason})"
            )
        done = "" if method in REPEATABLE else "; what was asked of it may be done"
        if isinstance(error, TimeoutError):
            return Slow(0, f"kirschd at {self.transport} does not answer{done}")
        if isinstance(error, Silent):
            return ClientError(0, f"kirschd at {self.transport} ends connections unanswered{done}")
        return ClientError(0, f"kirschd at {self.transport} broke off its answer: {error}{done}")


def exchange(
    connection: socket.socket, method: str, target: str, host: str, body: bytes | None
) -> tuple[int, bytes, bool]:
    """Send a request in HTTP/1.1 (RFC 9112) as kirschd speaks it. Return the answer's status and body, and
    whether the connection is good for another request.

    Raises BadAnswer, and OSError as the socket does. The standard library's client takes longer to import
    than most verbs take to run.
    """
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    if body is not None:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    request = "\r\n".join([*head, "", ""]).encode("ascii") + (body or b"")
    try:
        connection.sendall(request)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it may have answered before it had read all
    with connection.makefile("rb") as answer:
        return _read(answer)


def _read(answer: BinaryIO) -> tuple[int, bytes, bool]:
    try:
        line = answer.readline(MAX_LINE)
    except ConnectionResetError:
        raise Silent("the connection was reset") from None
    if not line:
        raise Silent("no answer came")
    version, _, rest = line.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise BadAnswer("what answers there does not speak HTTP")
    fields: dict[bytes, bytes] = {}
    while (line := answer.readline(MAX_LINE)) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip().lower()
    if not line:
        raise BadAnswer("the answer broke off")
    kept = fields.get(b"connection") != b"close"
    if fields.get(b"transfer-encoding") == b"chunked":
        return int(rest[:3]), _read_chunks(answer), kept
    if b"content-length" not in fields:
        return int(rest[:3]), b"" if rest[:3] == b"204" else answer.read(), kept and rest[:3] == b"204"
    return int(rest[:3]), _exactly(answer, int(fields[b"content-length"])), kept


def _read_chunks(answer: BinaryIO) -> bytes:
    pieces = []
    while size := int(answer.readline(MAX_LINE).partition(b";")[0] or b"0", 16):
        pieces.append(_exactly(answer, size))
        answer.readline(MAX_LINE)
    while answer.readline(MAX_LINE) not in (b"\r\n", b""):
        pass
    return b"".join(pieces)


def _exactly(answer: BinaryIO, size: int) -> bytes:
    data = answer.read(size)
    if len(data) < size:
        raise BadAnswer("the answer broke off")
    return data


def unit_path(name: str, below: str = "") -> str:
    """The path of a unit, or of what lies below it."""
    return f"{UNITS}/{quote(name, safe='@:')}{below}"


def application_path(name: str) -> str:
    """Return the path of an application in the API."""
    return f"/kirsch/v1/applications/{quote(name, safe='')}"


def applied(client: Client, application: str) -> Mapping[str, Any]:
    """Return the units that came with an application, and its scale; nothing if it never came."""
    try:
        known: Mapping[str, Any] = client.get(application_path(application))
    except ClientError as error:
        if error.status != 404:
            raise
        return {"units": [], "scale": {}}
    return known


def _url(path: str, query: dict[str, Any]) -> str:
    """A path with its query; a list gives its name several times."""
    pairs = [(k, v) for k, value in query.items() for v in (value if isinstance(value, list) else [value])]
    return path + ("?" + "&".join(f"{k}={quote(str(v), safe='')}" for k, v in pairs) if pairs else "")


def _json(answer: bytes) -> Any:
    try:
        return json.loads(answer) if answer else None
    except ValueError as error:
        raise ClientError(0, f"what answered is no kirschd: {error}") from None


def _detail(answer: bytes) -> str:
    """The line for a person in a problem+json body."""
    try:
        return str(json.loads(answer)["detail"])
    except (ValueError, KeyError, TypeError):
        return ""
