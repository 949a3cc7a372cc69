"""A pytest plugin: has the tests of CherryPy and of cheroot run against kirsch's HTTP server.

`pytest -p tests.bus.upstream --pyargs cherrypy.test.test_core cheroot.test.test_conn`. Nothing of the suites
is changed. A test in APART is expected to fail: it is an error when it passes, and when no test has its name.
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
from tests.port import free_port

from kirsch.bus.http import ApplicationServer, Limits, Server
from kirsch.bus.http.request import Refused

_INSIDE = "it replaces or reads what is inside cheroot"
_CONNECT = "CONNECT is for proxies: 501"
_OTHER_HOST = "a target whose authority differs from Host is refused: 400"
_AT_ONCE = "the head that is sent is malformed (its first line has no end), and refused at once: 400"
# Tests that do not hold for kirsch's server, and why.
APART = {
    "cheroot.test.test_conn": {
        "test_HTTP11_Timeout[False]": _AT_ONCE,
        "test_broken_connection_during_http_communication_fallback": _INSIDE,
        "test_broken_connection_during_tcp_fin": _INSIDE,
        "test_invalid_selected_connection": _INSIDE,
        "test_kb_int_from_http_handler": "no exception of an application ends the server: 500",
        "test_keepalive": "answers say HTTP/1.1, so Connection: close is said to clients of HTTP/1.0 too",
        "test_keepalive_conn_management": _INSIDE,
        "test_remains_alive_post_unhandled_exception": _INSIDE,
        "test_streaming_10[False]": "the body is a list, whose length is known and said",
        "test_streaming_11[False]": "the body is a list, whose length is known and said",
        "test_unhandled_exception_in_request_handler": _INSIDE,
    },
    "cheroot.test.test_core": {
        "test_http_connect_request": _CONNECT,
        "test_malformed_http_method": "cheroot has words for a method that is malformed",
        "test_malformed_request_line[GET / HTTP/2.15-505-Cannot fulfill request]": "2.15 is no version: 400",
        "test_parse_uri_asterisk_uri": "PATH_INFO is what was sent, `*`; cheroot puts a slash before it",
        "test_parse_uri_unsafe_uri": "it sends no Host: 400",
        "test_send_header_before_closing": _INSIDE,
    },
    "cheroot.test.test_wsgi": {
        "test_gateway_start_response_called_twice": _INSIDE,
        "test_gateway_write_needs_start_response_called_before": _INSIDE,
    },
    "cherrypy.test.test_conn": {
        "test_Chunked_Encoding": "it sends both Content-Length and Transfer-Encoding: 400",
        "test_HTTP11_Timeout": _AT_ONCE,
        "test_queue_full": "half requests hold no thread, so the sixteenth client is answered",
    },
    "cherrypy.test.test_request_obj": {
        "testAbsoluteURIPathInfo": _OTHER_HOST,
        "test_CONNECT_method": _CONNECT,
        "test_CONNECT_method_invalid_authority": _CONNECT,
        "test_dangerous_host": "a Host that is no host and port is refused: 400",
    },
    "cherrypy.test.test_static": {
        "test_null_bytes": "NUL in a target is refused: 400",
    },
}  # fmt: skip
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
    """Expect the tests of APART to fail; those that go about inside cheroot are not run."""
    left = {
        (module.__name__, name)
        for module in {item.module for item in items}
        for name in APART.get(module.__name__, ())
    }
    for item in items:
        listed = APART.get(item.module.__name__, {})
        for name in (item.name, item.originalname):
            if name in listed:
                left.discard((item.module.__name__, name))
                run = listed[name] is not _INSIDE and "ends the server" not in listed[name]
                item.add_marker(pytest.mark.xfail(reason=listed[name], strict=True, run=run))
                break
    if left:
        raise pytest.UsageError(f"there are no such tests any more: {sorted(left)}")
