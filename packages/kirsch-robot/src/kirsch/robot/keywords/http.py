"""Keywords that speak HTTP."""

import http.client
from collections import Counter
from typing import Any

from kirsch.robot.http import Answer, request
from kirsch.robot.keywords.session import PATIENCE, Keywords
from robot.api import logger
from robot.api.deco import keyword

SHOWN = 2000


class HttpKeywords(Keywords):
    """Requests, and who answers them.

    All take a whole address, or a path at the application's.
    """

    @keyword("GET")
    def get(self, path: str, status: int | None = 200, **headers: str) -> Answer:
        """Sends a GET request; returns the answer: ``status``, ``headers``, ``text``, ``json``, ``instance``.

        The status must be ``status``; ``status=None`` allows any. Further named arguments are headers, with
        ``_`` for ``-``.

        | ${answer} =    GET    /api/notes    Accept=application/json
        | Should Be Equal    ${answer.json}[notes]    ${{ [] }}
        """
        return self._send("GET", path, None, status, headers)

    @keyword("POST")
    def post(self, path: str, body: Any = None, status: int | None = 201, **headers: str) -> Answer:
        """Sends a POST request; a ``body`` that is no text is sent as JSON. The rest is as with `GET`.

        | POST    /api/notes    ${{ {"text": "Buy cherries"} }}
        """
        return self._send("POST", path, body, status, headers)

    @keyword("PUT")
    def put(self, path: str, body: Any = None, status: int | None = 200, **headers: str) -> Answer:
        """Sends a PUT request, as `POST` does.

        | PUT    /api/notes/1    ${{ {"text": "Buy plums"} }}    If_Match="1"
        """
        return self._send("PUT", path, body, status, headers)

    @keyword("PATCH")
    def patch(self, path: str, body: Any = None, status: int | None = 200, **headers: str) -> Answer:
        """Sends a PATCH request, as `POST` does."""
        return self._send("PATCH", path, body, status, headers)

    @keyword("DELETE")
    def delete(self, path: str, status: int | None = 204, **headers: str) -> Answer:
        """Sends a DELETE request, as `GET` does."""
        return self._send("DELETE", path, None, status, headers)

    @keyword
    def instances_should_answer_in_turn(self, path: str, *instances: str, requests: int = 10) -> None:
        """Checks that some instances, and no others, answer GET requests, each about as often as the next.

        Who answered is told by the header X-Kirsch-Instance. Others use the balancer too (health checks do),
        so an instance may be one short of its share.

        | Instances Should Answer In Turn    /api/notes    notes@1    notes@2
        """
        answered = [self._send("GET", path, None, 200, {}).instance for _ in range(requests)]
        logger.info(f"answered by {', '.join(answered)}")
        counts = Counter(answered)
        share = requests // len(instances) - 1
        if counts.keys() != set(instances) or min(counts.values()) < share:
            raise AssertionError(f"{requests} requests were answered by {dict(counts)}: not in turn")

    @keyword
    def nobody_should_listen_at(self, path: str) -> None:
        """Checks that connections to an address are refused."""
        url = self.session.url(path)
        try:
            answer = request("GET", url, timeout=PATIENCE.total_seconds())
        except ConnectionRefusedError:
            return
        raise AssertionError(f"{url} answers: {answer.status}")

    def _send(self, method: str, path: str, body: Any, status: int | None, headers: dict[str, str]) -> Answer:
        url = self.session.url(path)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            answer = request(method, url, body, named, PATIENCE.total_seconds())
        except (OSError, http.client.HTTPException) as error:
            raise AssertionError(f"{method} {url}: no answer: {error}") from None
        logger.info(f"{method} {url}\n{answer.status} {dict(answer.headers)}\n{answer.text[:SHOWN]}")
        if status not in (None, answer.status):
            raise AssertionError(f"{method} {url}: {answer.status}, not {status}: {answer.text[:SHOWN]}")
        return answer
