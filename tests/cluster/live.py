"""A real kirschd, and requests to it as they stand on the wire."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kirsch.cluster.application import load
from kirsch.cluster.application.embedded import Embedded, launch


class Connection(http.client.HTTPConnection):
    """Kept alive, to a Unix socket."""

    def __init__(self, path: Path, timeout: float = 60) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> "Answer":
        """One request; a body that is not bytes is sent as JSON."""
        fields = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            fields.setdefault("Content-Type", "application/json")
        self.request(method, path, body, fields)
        response = self.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())


@dataclass(frozen=True)
class Answer:
    """A response, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        """fleet's error: status and text, which are in the body and nothing else is."""
        assert self.headers["Content-Type"] == "application/json"
        assert list(self.json) == ["error"]
        assert sorted(self.json["error"]) == ["code", "message"]
        assert self.json["error"]["code"] == self.status
        return self.status, self.json["error"]["message"]


class Kirschd:
    """A kirschd for a folder of its own."""

    def __init__(self, directory: Path, embedded: Embedded) -> None:
        self.directory = directory
        self.embedded = embedded
        self.socket = directory / ".kirsch/kirsch.sock"

    def connection(self) -> Connection:
        return Connection(self.socket)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request on a connection of its own; `headers` with `_` for `-`."""
        connection = self.connection()
        try:
            return connection.ask(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        finally:
            connection.close()

    def fleet(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        return self.ask(method, f"/fleet/v1{path}", body, **headers)

    def log(self) -> str:
        return (self.directory / ".kirsch/kirschd.log").read_text()


@contextmanager
def kirschd_in(directory: Path) -> Iterator[Kirschd]:
    """A kirschd with one unit file in its folder, of which it knows nothing yet."""
    (directory / "units").mkdir()
    (directory / "units/first.service").write_text("[Service]\nExecStart=sleep 1000\n")
    embedded = launch(load(directory), attached=True)
    try:
        yield Kirschd(directory, embedded)
        assert embedded.process.poll() is None
    finally:
        embedded.client.post("/kirsch/v1/down")
        assert embedded.wait(60) == 0
        embedded.tether.close()


def options(text: str) -> list[dict[str, str]]:
    """A unit file as fleet's API has it; sections and assignments alone."""
    found, section = [], ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line:
            name, _, value = line.partition("=")
            found.append({"section": section, "name": name, "value": value})
    return found


def unit_path(name: str) -> str:
    return f"/units/{quote(name, safe='')}"
