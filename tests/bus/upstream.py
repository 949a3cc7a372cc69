"""A pytest plugin: has the tests of CherryPy and of cheroot run against kirsch's HTTP server.

`pytest -p tests.bus.upstream --pyargs cherrypy.test.test_core cheroot.test.test_conn`. Nothing of the suites
is changed. Tests that do not hold are in tests.bus.apart.
"""

import contextlib
import dataclasses
import re
import threading
from typing import Any

import cherrypy
import cherrypy._cpwsgi_server  # cheroot's own server is its base
import cherrypy.test.helper
import pytest
from tests.bus.apart import APART, NOT_RUN
from tests.port import free_port

from kirsch.bus.http import ApplicationServer, Limits, Server
from kirsch.bus.http.request import Refused

# cheroot's words for what kirsch says in its own, so that tests which read them see the statuses too.
WORDS = {
    r"Invalid char in url path\.": "Malformed Request-URI",
    r"Invalid characters in url\.|Unexpected (start )?char in url( schema)?\.": (
        "Invalid path in Request-URI: (URI starting with a slash)"
    ),
    r"The request's target and its Host differ\.": "Absolute URI not allowed if server is not a proxy.",
    r"The request's target has a fragment\.": "Illegal #fragment in Request-URI.",
    r"The request line is malformed\.|Invalid method encountered\.": "Malformed Request-Line",
    r"Expected HTTP/, RTSP/ or ICE/\.": "Malformed Request-Line: bad protocol",
    r"Expected dot\.": "Malformed Request-Line: bad version",
    r"Invalid header token\.": "Illegal header line.",
    r"Invalid character in Content-Length\.": "Malformed Content-Length Header.",
    r"Expected CRLF after version\.|Invalid header field char\.": "HTTP requires CRLF terminators",
    r"The body is longer than \d+ bytes\.": (
        "The entity sent with the request exceeds the maximum allowed bytes."
    ),
    r"Something went wrong on the server; its log says what\.": (
        "The requested resource returned more bytes than the declared Content-Length."
    ),
    r".* failed: the body is longer than its Content-Length": (
        "ValueError('Response body exceeds the declared Content-Length.')"
    ),
}


def in_their_words(sentence: str) -> str | None:
    return next((words for ours, words in WORDS.items() if re.fullmatch(ours, sentence)), None)


class Named(Server):
    """The server by the names that the suites know it by."""

    ssl_adapter = None
    protocol = "HTTP/1.1"

    @property
    def bind_addr(self) -> Any:
        return self.address

    @property
    def wsgi_app(self) -> Any:
        return self.application

    @wsgi_app.setter
    def wsgi_app(self, application: Any) -> None:
        self.application = application

    @property
    def timeout(self) -> float:
        return self.limits.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self.change(timeout=seconds, idle=seconds)

    def change(self, **limits: Any) -> None:
        self.limits = dataclasses.replace(self.limits, **limits)
        self._interval = 0.05

    def _refusal(self, refused: Refused) -> bytes:
        words = in_their_words(refused.reason)
        if words is None:
            return super()._refusal(refused)
        fields = f"Content-Type: text/plain\r\nContent-Length: {len(words)}\r\nConnection: close\r\n\r\n"
        return f"HTTP/1.1 {refused.status} Refused\r\n{fields}{words}".encode()


class CherryPys(Named, ApplicationServer):
    """The server of cherrypy.server, to which the suite gives its application once it runs."""

    def __init__(self, adapter: Any = cherrypy.server) -> None:
        super().__init__(adapter)
        self.timeout = adapter.socket_timeout


class Supervisor(cherrypy.test.helper.LocalWSGISupervisor):
    """CherryPy's supervisor, on a port that nobody has."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"port": free_port()})

    def start(self, modulename: str | None = None) -> None:
        super().start(modulename)
        if modulename == "cherrypy.test.test_http":  # it reads up to the end of connections that are kept
            cherrypy.server.httpserver.change(idle=0.3)


class Cheroots(Named):
    """The server in place of cheroot.wsgi.Server."""

    def __init__(self, bind_addr: Any, wsgi_app: Any = None, *, timeout: float = 10) -> None:
        if bind_addr == ("::", 0):
            raise OSError("the suite's client writes IPv6 addresses without brackets; it takes IPv4 then")
        limits = Limits(threads=10, timeout=timeout, idle=timeout)
        super().__init__(bind_addr, wsgi_app, limits, log=self._log)
        self.safe_start = self.start

    def _log(self, message: str, level: int, traceback: bool) -> None:
        self.error_log(in_their_words(message) or message, level, traceback)

    def error_log(self, message: str = "", level: int = 20, traceback: bool = False) -> None:
        """Log a message: tests put their own function in its place."""

    @property
    def max_request_body_size(self) -> int:
        return self.limits.body

    @max_request_body_size.setter
    def max_request_body_size(self, size: int) -> None:
        self.change(body=size)

    @property
    def keep_alive_conn_limit(self) -> int:
        return self.limits.keep_alive

    @keep_alive_conn_limit.setter
    def keep_alive_conn_limit(self, count: int) -> None:
        self.change(keep_alive=count)

    @property
    def shutdown_timeout(self) -> float:
        return self.limits.shutdown

    @shutdown_timeout.setter
    def shutdown_timeout(self, seconds: float) -> None:
        self.change(shutdown=seconds)

    @contextlib.contextmanager
    def _run_in_thread(self) -> Any:
        self.serve()
        try:
            yield threading.current_thread()
        finally:
            self.stop()


type(cherrypy.server).instance = "tests.bus.upstream.CherryPys"
cherrypy.test.helper.CPWebCase.available_servers = {"wsgi": Supervisor}
cherrypy._cpwsgi_server.cheroot.wsgi.Server = Cheroots


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the tests of APART to fail, or do not run them."""
    left = {
        (module, name)
        for module in {item.module.__name__ for item in items}
        for name in APART.get(module, ())
    }
    for item in items:
        module = item.module.__name__
        listed = APART.get(module, {})
        qualified = f"{item.cls.__name__}.{item.name}" if item.cls else ""
        for name in (qualified, item.name, item.originalname):
            if reason := listed.get(name):
                left.discard((module, name))
                mark = pytest.mark.xfail(reason=reason, strict=True, run=reason not in NOT_RUN)
                item.add_marker(mark, append=False)
                break
    if left:
        raise pytest.UsageError(f"there are no such tests any more: {sorted(left)}")
