"""Keywords that send HTTP requests, one at a time or as a load."""

import http.client
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from kirsch.robot.http import Answer, Load, Sent, instances, outage, request, summary
from kirsch.robot.keywords.session import PATIENCE, Keywords
from kirsch.robot.output import Moment
from robot.api import logger
from robot.api.deco import keyword

# How many characters of an answer the log shows.
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


# How many failed requests a message names.
SHOWN_FAILURES = 10


class LoadKeywords(Keywords):
    """Several loads may run at a time; checks are of all that were started since `Forget Load`."""

    @keyword
    def start_load(
        self,
        method: str,
        path: str,
        body: Any = None,
        per_second: float = 50,
        clients: int = 4,
        at_most: timedelta = 2 * PATIENCE,
    ) -> None:
        """Begins to send a request ``per_second`` times a second, by some clients at a time.

        Each request has a connection of its own. It ends by `Stop Load`, and by itself after ``at_most``.

        | Start Load    GET     /api/notes
        | Start Load    POST    /api/notes    ${{ {"text": "under load"} }}    per_second=10
        """
        load = Load(
            method, self.session.url(path), body, per_second, clients, seconds=at_most.total_seconds()
        )
        self.session.loads.append(load)
        load.start()

    @keyword
    def stop_load(self) -> None:
        """Sends no more requests, and waits for the answers that are outstanding."""
        for load in self.session.loads:
            load.stop()
            logger.info(f"{load.method} {load.url}: {summary(load.sent)}", also_console=True)

    @keyword
    def forget_load(self) -> None:
        """Stops all load and forgets what was sent, so that checks are of what is sent from now on."""
        for load in self.session.loads:
            load.stop()
        self.session.loads.clear()

    @keyword
    def wait_until_load_is_answered_by(
        self, *names: str, after: Moment | None = None, timeout: timedelta = PATIENCE
    ) -> None:
        """Waits until each of some instances has answered a request of each load.

        With ``after`` a moment, as `Kill Unit` returns it: a request that began after it.
        """

        def answered(sent: list[Sent]) -> bool:
            return set(names) <= instances(_since(sent, after)).keys()

        for load in self.session.loads:
            if not load.wait_for(answered, timeout.total_seconds()):
                raise AssertionError(
                    f"not answered by all of {', '.join(names)}: {summary(_since(load.sent, after))}"
                )

    @keyword
    def moment_now(self, what: str = "now") -> Moment:
        """Returns the moment that is now."""
        return Moment.now(what)

    @keyword
    def wait_until_load_has_sent(
        self, requests: int, after: Moment | None = None, timeout: timedelta = 4 * PATIENCE
    ) -> None:
        """Waits until all loads together have had so many answers, or failures, since a moment.

        | Wait Until Load Has Sent    500    after=${killed}
        """
        deadline = time.monotonic() + timeout.total_seconds()
        while len(_since(self._sent(), after)) < requests:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"only {len(_since(self._sent(), after))} requests within {timeout}")
            load = self.session.loads[0]
            load.wait_for(_longer_than(len(load.sent)), min(left, 1.0))

    @keyword
    def no_request_should_have_failed(self, after: Moment | None = None) -> None:
        """Checks that every request was answered, and with no error.

        With ``after``: every request that began after a moment, and there must be some.

        | No Request Should Have Failed    after=${noticed}
        """
        sent = _since(self._sent(), after)
        logger.info(f"{summary(sent)} (after: {after or 'the beginning'})")
        if not sent:
            raise AssertionError("no request was sent")
        _refuse([each for each in sent if each.failed], "failed")

    @keyword
    def failed_requests_should_have_been_in_flight(self, at: Moment) -> None:
        """Checks that requests failed only if in flight at a moment: begun before, and not ended before.

        | ${killed} =    Kill Unit    notes@1
        | Failed Requests Should Have Been In Flight    at=${killed}
        """
        failed = [each for each in self._sent() if each.failed]
        logger.info(f"{len(failed)} failed: {', '.join(map(str, failed)) or 'none'}")
        _refuse([each for each in failed if not each.was_in_flight(at)], f"failed, not in flight when {at}")

    @keyword
    def failed_requests_should_be_at_most(self, percent: float) -> None:
        """Checks how many of all requests failed, in per cent; how many it were is in the log.

        | Failed Requests Should Be At Most    1
        """
        sent = self._sent()
        failed = [each for each in sent if each.failed]
        share = 100 * len(failed) / max(len(sent), 1)
        logger.info(f"{summary(sent)}: {share:.2f} %", also_console=True)
        if share > percent:
            _refuse(failed, f"of {len(sent)} failed ({share:.2f} %)")

    @keyword
    def refused_requests_should_say_when_to_ask_again(self) -> None:
        """Checks that requests failed only by a 503 that has a Retry-After, and that there were some.

        | Refused Requests Should Say When To Ask Again
        """
        failed = [each for each in self._sent() if each.failed]
        if not failed:
            raise AssertionError("no request was refused")
        _refuse(
            [each for each in failed if each.status != 503 or not each.retry_after], "are no 503 like that"
        )

    @keyword
    def outage_should_be_at_most(self, seconds: timedelta) -> None:
        """Checks how long it was from the first request that failed until the end of the last.

        | Outage Should Be At Most    5 seconds
        """
        found = outage(self._sent())
        logger.info(f"away for {found:.2f} s", also_console=True)
        if found > seconds.total_seconds():
            raise AssertionError(f"requests failed for {found:.2f} s")

    @keyword
    def remember_what_was_created(self) -> int:
        """Keeps the address of everything that a load's POST has created and was told so; how many it are.

        `Everything Created Should Be There` looks for all that was ever kept.
        """
        self.session.created += [
            each.location
            for load in self.session.loads
            for each in load.sent
            if each.status == 201 and each.location not in self.session.created
        ]
        return len(self.session.created)

    @keyword
    def everything_created_should_be_there(self) -> None:
        """Asks for each thing that `Remember What Was Created` has kept; each must be there."""
        lost = []
        for location in self.session.created:
            if request("GET", self.session.url(location)).status != 200:
                lost.append(location)
        logger.info(f"{len(self.session.created)} were created, {len(lost)} are lost", also_console=True)
        if lost or not self.session.created:
            raise AssertionError(
                f"of {len(self.session.created)}, these are lost: {', '.join(lost) or 'none'}"
            )

    @keyword
    def requests_that_succeeded(self, method: str) -> int:
        """Number of requests of a method that were answered well."""
        return sum(
            not each.failed for load in self.session.loads if load.method == method for each in load.sent
        )

    def _sent(self) -> list[Sent]:
        return sorted(
            (each for load in self.session.loads for each in load.sent), key=lambda each: each.begun
        )


def _longer_than(known: int) -> Callable[[list[Sent]], bool]:
    return lambda sent: len(sent) > known


def _since(sent: list[Sent], after: Moment | None) -> list[Sent]:
    return [each for each in sent if after is None or each.began_after(after)]


def _refuse(failed: list[Sent], words: str) -> None:
    if failed:
        more = f"\n… and {len(failed) - SHOWN_FAILURES} more" if len(failed) > SHOWN_FAILURES else ""
        lines = "\n".join(str(each) for each in failed[:SHOWN_FAILURES])
        raise AssertionError(f"{len(failed)} {words}:\n{lines}{more}")
