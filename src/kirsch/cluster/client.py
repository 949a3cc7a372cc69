"""A client of kirsch's API over its Unix socket, on the standard library alone: the CLI starts fast."""

import http.client
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

UNITS = "/kirsch/v1/units"
SOCKET = ".kirsch/kirsch.sock"
SYSTEM_SOCKET = Path("/run/kirsch/kirsch.sock")
TIMEOUT = 60.0


class ClientError(Exception):
    """The API said no: `status` is HTTP's, 0 when there was no answer; one line for a person."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        # http.client forgets the socket when a response takes it over; its timeout is still ours to set.
        self.sock = self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Client:
    """Speaks to one kirschd, which answers within `timeout` seconds. Every method raises ClientError."""

    def __init__(self, path: Path, timeout: float = TIMEOUT) -> None:
        self.path = path
        self.timeout = timeout

    def get(self, path: str, **query: Any) -> Any:
        """GET, JSON."""
        return self._call("GET", _url(path, query))

    def put(self, path: str, body: Any) -> Any:
        """PUT JSON."""
        return self._call("PUT", path, body)

    def post(self, path: str, body: Any = None) -> Any:
        """POST JSON, or nothing."""
        return self._call("POST", path, body or {})

    def delete(self, path: str) -> None:
        """DELETE."""
        self._call("DELETE", path)

    def stream(self, path: str, *, timeout: float | None = None, **query: Any) -> Iterator[Any]:
        """The events of a stream, as they come, until it ends or `timeout` seconds have passed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        connection, response = self._request("GET", _url(path, query), None, timeout)
        try:
            while line := response.readline():
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
                if deadline is not None:
                    connection.socket.settimeout(max(deadline - time.monotonic(), 0.001))
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        connection, response = self._request(method, path, body, self.timeout)
        try:
            answer = response.read()
            return json.loads(answer) if answer else None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ClientError(0, f"kirschd broke off its answer: {error}") from None
        finally:
            connection.close()

    def _request(
        self, method: str, path: str, body: Any, timeout: float | None
    ) -> tuple[_UnixConnection, http.client.HTTPResponse]:
        connection = _UnixConnection(self.path, timeout)
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode(errors="replace")
        headers = {"Content-Type": "application/json"} if content is not None else {}
        try:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ClientError(0, self._unreachable(error)) from None
        if response.status >= 400:
            try:
                answer = response.read()
            except (OSError, http.client.HTTPException):
                answer = b""  # the status says enough
            connection.close()
            raise ClientError(response.status, _detail(answer) or f"HTTP status {response.status}")
        return connection, response

    def _unreachable(self, error: Exception) -> str:
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return f"no kirschd answers at {self.path}: start one with `kirsch up`"
        if isinstance(error, PermissionError):
            return f"{self.path} is another user's kirschd"
        if isinstance(error, TimeoutError):
            return f"kirschd at {self.path} does not answer"
        return f"kirschd at {self.path}: {error}"


def find_socket(endpoint: str | None = None, directory: Path | None = None) -> Path:
    """The socket to speak to: `endpoint` (unix://PATH or a path), KIRSCH_ENDPOINT, that of the application
    whose directory we are in or below, or the machine's. Raises ClientError."""
    endpoint = endpoint or os.environ.get("KIRSCH_ENDPOINT")
    if endpoint:
        scheme, separator, path = endpoint.rpartition("://")
        if separator and scheme != "unix":
            raise ClientError(0, f"{endpoint}: an endpoint is unix://PATH")
        return Path(path)
    here = (directory or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / SOCKET).exists():
            return folder / SOCKET
    if SYSTEM_SOCKET.exists():
        return SYSTEM_SOCKET
    raise ClientError(
        0, f"no kirschd runs for {here}: start one with `kirsch up DIR`, or name one with --endpoint"
    )


def unit_path(name: str, below: str = "") -> str:
    """The path of a unit, or of what lies below it."""
    return f"{UNITS}/{quote(name, safe='@:')}{below}"


def _url(path: str, query: dict[str, Any]) -> str:
    """A path with its query; a list gives its name several times."""
    pairs = [(k, v) for k, value in query.items() for v in (value if isinstance(value, list) else [value])]
    return path + ("?" + "&".join(f"{k}={quote(str(v), safe='')}" for k, v in pairs) if pairs else "")


def _detail(answer: bytes) -> str:
    """The line for a person in a problem+json body."""
    try:
        return str(json.loads(answer)["detail"])
    except (ValueError, KeyError, TypeError):
        return ""
