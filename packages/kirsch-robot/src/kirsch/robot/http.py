"""HTTP requests: one at a time, or as a load that counts every answer and failure. Standard library only."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from kirsch.robot.output import Moment

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


PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that was sent: when, until when, and what came of it (`status` 0: no answer), with
    the answer's Retry-After and Location."""

    what: str
    begun: float
    ended: float
    status: int
    instance: str = ""
    error: str = ""
    retry_after: str = ""
    location: str = ""

    @property
    def failed(self) -> bool:
        """No answer, or one that is an error."""
        return self.status == 0 or self.status >= 400

    def began_after(self, moment: Moment) -> bool:
        """Return True if the request began after a moment."""
        return self.begun > moment.ended

    def was_in_flight(self, moment: Moment) -> bool:
        """Return True if the request was in flight at a moment."""
        return self.begun <= moment.ended and self.ended >= moment.begun

    def __str__(self) -> str:
        outcome = f"answered {self.status}" if self.status else self.error
        return f"{self.what}, {(self.ended - self.begun) * 1000:.0f} ms: {outcome} {self.instance}".rstrip()


@dataclass
class Load:
    """Sends a request `per_second` times a second until stopped, `seconds` are over or `requests` sent."""

    method: str
    url: str
    body: Any = None
    per_second: float = 50.0
    clients: int = 4
    seconds: float = 60.0
    requests: int = 5000
    sent: list[Sent] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _begun: float = 0.0

    def start(self) -> None:
        """Begin to send, in threads."""
        self._begun = time.monotonic()
        for number in range(self.clients):
            thread = threading.Thread(target=self._work, args=(number,), name="load", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Send no more, and wait for the answers that are outstanding."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, condition: Callable[[list[Sent]], bool], timeout: float) -> bool:
        """Wait until what was sent is so; False once time is up."""
        with self._news:
            return self._news.wait_for(lambda: condition(self.sent), timeout)

    def _work(self, number: int) -> None:
        """One client: requests number, number + clients, … each at its time, or at once if that is over."""
        for index in range(number, self.requests, self.clients):
            due = index / self.per_second
            wait = self._begun + due - time.monotonic()
            if due > self.seconds or self._stopped.wait(max(0.0, wait)):
                return
            done = self._send()
            with self._news:
                self.sent.append(done)
                self._news.notify_all()

    def _send(self) -> Sent:
        what = f"{self.method} {self.url}"
        begun = time.monotonic()
        try:
            answer = request(self.method, self.url, self.body, timeout=PATIENCE)
        except (OSError, http.client.HTTPException) as error:
            return Sent(what, begun, time.monotonic(), 0, error=repr(error))
        return Sent(
            what, begun, time.monotonic(), answer.status, answer.instance,
            retry_after=answer.headers.get("retry-after", ""), location=answer.headers.get("location", ""),
        )  # fmt: skip


def outage(sent: list[Sent]) -> float:
    """The seconds from the beginning of the first request that failed to the end of the last one."""
    failed = [each for each in sent if each.failed]
    return max(each.ended for each in failed) - min(each.begun for each in failed) if failed else 0.0


def instances(sent: list[Sent]) -> Counter[str]:
    """Count the requests that each instance answered well."""
    return Counter(each.instance for each in sent if not each.failed)


def summary(sent: list[Sent]) -> str:
    """Counts, in one line."""
    failed = sum(each.failed for each in sent)
    by = ", ".join(f"{name or 'nobody'} {count}" for name, count in sorted(instances(sent).items()))
    return f"{len(sent)} requests, {failed} failed; answered by {by or 'nobody'}"
