"""HTTP servers on the bus, and defaults that hold under load."""

import gc
import logging
import ssl
import threading
from typing import Any

import cherrypy
from cherrypy.process.servers import ServerAdapter

from kirsch.bus.cheroot import Limits, Server, ServerError
from kirsch.bus.logs import no_access_log
from kirsch.bus.tls import TLS

_LIMITS = Limits()
GC_THRESHOLDS = (20_000, 20, 20)

SERVER_DEFAULTS: dict[str, Any] = {
    "server.instance": "kirsch.bus.cheroot.ApplicationServer",
    "server.thread_pool": _LIMITS.threads,
    "server.socket_queue_size": _LIMITS.backlog,
    "server.accepted_queue_size": _LIMITS.queue,
    "server.accepted_queue_timeout": 1,
    "server.keep_alive_conn_limit": _LIMITS.keep_alive,
    "server.socket_timeout": _LIMITS.timeout,
    "server.shutdown_timeout": _LIMITS.shutdown,
    "server.max_request_header_size": _LIMITS.header,
    "server.max_request_body_size": _LIMITS.body,
    "engine.autoreload.on": False,
    "checker.on": False,
    "request.show_tracebacks": False,
    "request.show_mismatched_params": False,
    "tools.log_headers.on": False,
    "log.screen": False,
    "log.access": no_access_log,
}
"""For cherrypy.config.update: what CherryPy's own server, cherrypy.server, should be set to."""


class HTTPAdapter(ServerAdapter):
    """A server on the bus. Raises ServerError, in one line, when it cannot listen."""

    httpserver: Server
    bind_addr: str | tuple[str, int]
    running: bool

    def bind(self) -> None:
        """Listen now; requests wait until the bus starts. Without it, start() listens. Raises ServerError."""
        if self.httpserver.ready:
            return
        try:
            self.httpserver.prepare()
        except OSError as error:
            reason = (self.httpserver.bind_error or error).strerror
            raise ServerError(f"cannot listen on {_name(self.bind_addr)}: {reason}") from None
        self.bind_addr = self.httpserver.bind_addr

    def start(self) -> None:
        if self.running:
            return
        self.bind()
        settle_memory()
        threading.Thread(target=self._serve, name=f"HTTP {_name(self.bind_addr)}").start()
        self.running = True
        self.bus.log(f"Serving on {_name(self.bind_addr)}")

    start.priority = 75  # type: ignore[attr-defined]

    def stop(self) -> None:
        """Stop listening; returns when requests in flight are answered."""
        if self.httpserver.ready:
            self.httpserver.stop()
            self.bus.log(f"No longer serving on {_name(self.bind_addr)}")
        self.running = False

    stop.priority = 25  # type: ignore[attr-defined]

    def _serve(self) -> None:
        try:
            self.httpserver.serve()
        except Exception:
            self.bus.log("Error in the HTTP server", level=logging.ERROR, traceback=True)
            self.bus.exit()


def http_server(
    bus: Any,
    app: Any = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    path: str | None = None,
    limits: Limits = _LIMITS,
    tls: ssl.SSLContext | None = None,
) -> HTTPAdapter:
    """A server for a WSGI application (None: cherrypy.tree), subscribed to the bus.

    It listens on `host` and `port` (0: a free one, see `bind_addr` once it listens), or on a Unix socket of
    mode 0600 at `path`; with `tls` it speaks HTTPS.
    """
    bind_addr = path if path is not None else (host, port)
    server = Server(bus, bind_addr, cherrypy.tree if app is None else app, limits)
    server.ssl_adapter = None if tls is None else TLS(tls)
    adapter = HTTPAdapter(bus, server, bind_addr)
    adapter.subscribe()
    return adapter


def settle_memory() -> None:
    """Spare the garbage collector what was loaded before requests come: it stays, and is most of the heap.

    A request leaves no cycles worth a look each 700 objects, which is how often Python would look.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _name(bind_addr: str | tuple[str, int]) -> str:
    if isinstance(bind_addr, str):
        return bind_addr
    host, port = bind_addr
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
