"""Requests and answers, on the standard library alone."""

import http.client
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

INSTANCE = "X-Kirsch-Instance"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response read to its end. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        """The body's value. Raises ValueError when it is not JSON."""
        return json.loads(self.body)

    @property
    def instance(self) -> str:
        """The instance that gave the answer, empty if it does not say."""
        return self.headers.get(INSTANCE.lower(), "")


def request(
    method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 30.0
) -> Answer:
    """Send a request on a connection of its own; a body that is no bytes and no text is sent as JSON.

    Raises OSError or http.client.HTTPException when there is no answer.
    """
    parts = urlsplit(url)
    sent = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        if not isinstance(body, str):
            body = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        body = body.encode()
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPConnection(parts.hostname or "localhost", parts.port, timeout=timeout)
    with closing(connection):
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        return Answer(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
