"""The resource /location: where this is, as JSON, as a page, and live."""

# ruff: noqa: N802  CherryPy dispatches to methods named as HTTP names them.
# CherryPy has no types.
# mypy: disable-error-code="untyped-decorator"

import hashlib
import json
import math
import time
from threading import Lock
from typing import Any

import cherrypy
from cherrypy.lib.cptools import accept

from kirsch.device import LocationPlugin, NoFix, Report
from kirsch.web import Page, Problem, is_held
from kirsch.websocket import Room, WebSocket

JSON = "application/json"
HTML = "text/html"
# When to ask again where there is no location yet, in seconds.
RETRY = "5"


class Where:
    """/location."""

    exposed = True

    def __init__(self, plugin: LocationPlugin, page: Page) -> None:
        self._plugin = plugin
        self._page = page
        self.live = Live(plugin)

    def GET(self, **parameters: object) -> bytes | None:
        """The location: 304 if the client has it, 503 with a reason if there is none."""
        headers = cherrypy.serving.response.headers
        headers["Vary"] = "Accept"
        if accept([JSON, HTML]) == HTML:
            return self._page.GET()
        youngest = _seconds(parameters)
        report, now = self._plugin.report, time.time()
        if report.location is None:
            raise _nowhere(report.reason, report.detail, report, now)
        age = report.location.age(now)
        if age > youngest:
            raise _nowhere(NoFix.reason, f"the last location is {age:.0f} s old", report, now)
        headers["ETag"] = tag = entity_tag(report)
        headers["Cache-Control"] = "no-cache"
        if is_held(cherrypy.serving.request.headers.get("If-None-Match", ""), tag):
            cherrypy.serving.response.status = 304
            return None
        headers["Content-Type"] = JSON
        return json.dumps(report.as_json(now)).encode()


class Live:
    """/location/live: a WebSocket that says at once, and whenever it changes, what /location says."""

    exposed = True

    def __init__(self, plugin: LocationPlugin) -> None:
        self._plugin = plugin
        self._room = Room()
        self._order = Lock()
        plugin.bus.subscribe("location-report", self.tell)

    @cherrypy.tools.websocket(application=WebSocket, message=1024, queue=64 * 1024)
    def GET(self) -> None:
        """The handshake."""
        websocket = cherrypy.serving.request.websocket
        websocket.opened = lambda: self.enter(websocket)
        websocket.received_message = lambda message: websocket.close(1008, "nothing is read here")
        websocket.closed = lambda code, reason: self._room.discard(websocket)

    def enter(self, websocket: WebSocket) -> None:
        """Tell one what is known now, and from now on what all are told."""
        with self._order:
            self._room.add(websocket)
            websocket.send(message(self._plugin.report))

    def tell(self, report: Report) -> None:
        """Tell all."""
        with self._order:
            for slow in self._room.send(message(report)):
                slow.close(1008, "you do not read")


def message(report: Report) -> str:
    """What is told live: /location's status and body, with its reason where there is no location."""
    told = (
        {"status": 200}
        if report.location
        else {"status": 503, "reason": report.reason, "detail": report.detail}
    )
    return json.dumps(told | report.as_json(time.time()))


def entity_tag(report: Report) -> str:
    """The same while nothing but the age changes: it is weak."""
    told = report.as_json(0) | {"age": None}
    return f'W/"{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:20]}"'


def _nowhere(reason: str, detail: str, report: Report, now: float) -> Problem:
    failures = report.as_json(now)["failures"]
    return Problem(503, detail, {"Retry-After": RETRY}, {"reason": reason, "failures": failures})


def _seconds(parameters: dict[str, Any]) -> float:
    """The parameter max_age, in seconds. Raises Problem."""
    if unknown := sorted(parameters.keys() - {"max_age"}):
        raise Problem(400, f"Unknown parameter {unknown[0][:80]!r}: there is max_age, in seconds.")
    try:
        seconds = float(parameters.get("max_age", "inf"))
    except (TypeError, ValueError):
        seconds = math.nan
    if not seconds >= 0:
        raise Problem(400, "max_age is a number of seconds, 0 or more.")
    return seconds
