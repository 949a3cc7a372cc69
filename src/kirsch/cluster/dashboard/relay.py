"""Relay between the page and kirschd: each request goes on by the client of the person at the terminal."""

# ruff: noqa: N802  CherryPy dispatches to methods named as HTTP names them.

import json
import logging
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import cherrypy

from kirsch.cluster.api.access import refusal
from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.dashboard.access import Access
from kirsch.cluster.dashboard.login import Login
from kirsch.cluster.dashboard.requests import API, STREAMS, is_allowed
from kirsch.web import Problem
from kirsch.websocket import Closed, Limits, WebSocket
from kirsch.websocket.cherrypy import WebSocketTool
from kirsch.websocket.threaded import Connection

log = logging.getLogger(__name__)

JSON = "application/json"
MAX_BODY = 1 << 20
# Close codes of our own (RFC 6455, 7.4.2): kirschd refused the stream, or ended it; the reason is for people.
REFUSED, ENDED = 4001, 4002
MAX_REASON = 120
# A first message has all units.
LIMITS = Limits(message=4096, queue=64 << 20, close_timeout=2.0)


class Relay:
    """The part of kirschd's API that pages use, at its own paths."""

    exposed = True

    def __init__(self, client: Client, bus: Any, access: Access | Login) -> None:
        self._client = client
        self._access = access
        self._tool = WebSocketTool(bus)

    def GET(self, /, *path: str, **query: Any) -> bytes | None:
        """Read, or follow a stream."""
        target = self._target("GET", path)
        if "Upgrade" in cherrypy.serving.request.headers and target.removeprefix(API) in STREAMS:
            self._tool.begin(application=Stream, limits=LIMITS, deflate=None)
            cherrypy.serving.request.websocket.follow(self._client, target, query, self._access.lasting())
            return None
        return json_answer(asked(lambda: self._client.get(target, **query)))

    def PUT(self, *path: str) -> bytes:
        """Pass a PUT on to kirschd."""
        target, body = self._target("PUT", path), _body()
        return json_answer(asked(lambda: self._client.put(target, body)))

    def PATCH(self, *path: str) -> bytes:
        """Pass a PATCH on to kirschd."""
        target, body = self._target("PATCH", path), _body()
        return json_answer(asked(lambda: self._client.patch(target, body)))

    def POST(self, *path: str) -> bytes:
        """Pass a POST on to kirschd."""
        target, body = self._target("POST", path), _body()
        return json_answer(asked(lambda: self._client.post(target, body)))

    def _target(self, method: str, path: tuple[str, ...]) -> str:
        """Return the path at kirschd. Raises Problem."""
        if not is_allowed(method, path):
            raise Problem(403, "The dashboard does not pass this request on to kirschd.")
        target = "/".join((API, *(quote(segment, safe="@:") for segment in path)))
        if identity := self._access.identity():
            if why := refusal(identity, None, method, target):
                raise Problem(403, why)
            if method != "GET":
                log.info("%s (%s) asked for %s %s", identity.name, identity.role, method, target)
        return target


class Stream(WebSocket):
    """One of kirschd's streams, for one page. A thread reads it as fast as the page does."""

    def follow(self, client: Client, target: str, query: dict[str, Any], lasting: Callable[[], bool]) -> None:
        """Set what is to be followed, before the connection opens, and for as long as `lasting` is true."""
        self._client, self._target, self._query, self._lasting = client, target, query, lasting
        self._upstream: Connection | None = None
        self._left = False

    def opened(self) -> None:
        """Begin to read kirschd's stream, in a thread."""
        threading.Thread(target=self._run, name="dashboard stream", daemon=True).start()

    def closed(self, code: int, reason: str) -> None:
        """End the reading: the page has left."""
        self._left = True
        if self._upstream is not None:
            self._upstream.close()

    def _run(self) -> None:
        try:
            with self._client.connect(self._target, **self._query) as upstream:
                self._upstream = upstream
                while not self._left:
                    message = upstream.recv()
                    if not self._lasting():
                        self._end(REFUSED, "Log in first.")
                        return
                    self.send(message)
                    self.drain()
        except ClientError as error:
            self._end(REFUSED, str(error))
        except Closed:
            self._end(ENDED, "kirschd ended the stream")

    def _end(self, code: int, reason: str) -> None:
        short = reason.encode()[:MAX_REASON].decode(errors="ignore")
        self.close(code, short)


def _body() -> Any:
    request = cherrypy.serving.request
    # No form of another site can have this type, which is one more reason why none gets here.
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != JSON:
        raise Problem(415, "send application/json")
    try:
        return json.loads(request.rfile.read(MAX_BODY))
    except (ValueError, RecursionError):
        raise Problem(400, "the body is not JSON") from None


def asked(ask: Callable[[], Any]) -> Any:
    """Return kirschd's answer. Raises Problem with its status, 502 where nobody answered."""
    try:
        return ask()
    except ClientError as error:
        raise Problem(error.status if error.status >= 400 else 502, str(error)) from None


def json_answer(value: Any) -> bytes:
    """Answer with JSON, for no cache."""
    headers = cherrypy.serving.response.headers
    headers["Content-Type"] = JSON
    headers["Cache-Control"] = "no-store"
    return json.dumps(value, ensure_ascii=False).encode()
