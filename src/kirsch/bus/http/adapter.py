"""HTTP servers on CherryPy's bus, and defaults for CherryPy's own server that hold under load."""

import gc
import ssl
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import cherrypy
from cherrypy.process.servers import ServerAdapter

from kirsch.bus.http.limits import Limits
from kirsch.bus.http.listener import Address, name_of
from kirsch.bus.http.server import Server
from kirsch.bus.logs import no_access_log

_LIMITS = Limits()
GC_THRESHOLDS = (20_000, 20, 20)

SERVER_DEFAULTS: dict[str, Any] = {
    "server.instance": "kirsch.bus.http.ApplicationServer",
    "server.thread_pool": _LIMITS.threads,
    "server.socket_queue_size": _LIMITS.backlog,
    "server.accepted_queue_size": _LIMITS.queue,
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

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{0}</title><h1>{0}</h1><p>{1}</p>{2}</html>
"""


class HTTPAdapter(ServerAdapter):
    """A server on the bus. Raises ServerError, in one line, when it cannot listen."""

    httpserver: Server
    bind_addr: Address
    running: bool

    def subscribe(self) -> None:
        """Start and stop with the bus, and close connections after their answers once it drains."""
        super().subscribe()
        self.bus.subscribe("drain", self.httpserver.drain)

    def unsubscribe(self) -> None:
        """Neither start nor stop with the bus any more."""
        super().unsubscribe()
        self.bus.unsubscribe("drain", self.httpserver.drain)

    def bind(self) -> None:
        """Listen now; requests wait until the bus starts. Without it, start() listens. Raises ServerError."""
        self.httpserver.bind()
        self.bind_addr = self.httpserver.address

    def start(self) -> None:
        if self.running:
            return
        self.bind()
        conceal(self.httpserver.application)
        _conceal_as_configured()
        settle_memory()
        self.httpserver.serve()
        self.running = True
        self.bus.log(f"Serving on {name_of(self.bind_addr)}")

    start.priority = 75  # type: ignore[attr-defined]

    def stop(self) -> None:
        """Stop listening; returns when requests in flight are answered."""
        if self.httpserver.ready:
            self.httpserver.stop()
            self.bus.log(f"No longer serving on {name_of(self.bind_addr)}")
        self.running = False

    stop.priority = 25  # type: ignore[attr-defined]


def http_server(
    bus: Any,
    app: Any = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    path: str | None = None,
    limits: Limits = _LIMITS,
    tls: ssl.SSLContext | None = None,
    reuse_port: bool = False,
    headers: Mapping[str, str] | None = None,
    stream: Callable[[str, str], bool] | None = None,
) -> HTTPAdapter:
    """Return a server for a WSGI application (None: cherrypy.tree), subscribed to the bus.

    It listens on `host` and `port` (0: a free one, see `bind_addr` once it listens), or on a Unix socket of
    mode 0600 at `path`; with `tls` it speaks HTTPS, and offers http/1.1 by ALPN. With `reuse_port` several
    processes may listen on one port, and the kernel spreads connections among them. `headers` and `stream`
    are those of `Server`.
    """
    address: Address = path if path is not None else (host, port)
    if tls is not None:
        tls.set_alpn_protocols(["http/1.1"])
    application = cherrypy.tree if app is None else app
    server = Server(
        address,
        application,
        limits,
        tls=tls,
        reuse_port=reuse_port,
        headers=headers,
        stream=stream,
        log=_bus_log(bus),
    )
    adapter = HTTPAdapter(bus, server, address)
    adapter.subscribe()
    return adapter


class ApplicationServer(Server):
    """CherryPy's own server with these limits: the value of `server.instance` in SERVER_DEFAULTS."""

    def __init__(self, adapter: Any = cherrypy.server) -> None:
        limits = Limits(
            threads=adapter.thread_pool,
            backlog=adapter.socket_queue_size,
            queue=adapter.accepted_queue_size if adapter.accepted_queue_size > 0 else _LIMITS.queue,
            timeout=adapter.socket_timeout,
            shutdown=adapter.shutdown_timeout,
            header=adapter.max_request_header_size or _LIMITS.header,
            body=adapter.max_request_body_size,
        )
        super().__init__(
            adapter.bind_addr, cherrypy.tree, limits, tls=_context(adapter), log=_bus_log(adapter.bus)
        )
        adapter.bus.subscribe("drain", self.drain)

    def start(self) -> None:
        _conceal_as_configured()
        super().start()


def _context(adapter: Any) -> ssl.SSLContext | None:
    """Return the TLS that cherrypy.server's settings ask for."""
    context: ssl.SSLContext | None = adapter.ssl_context
    if context is None and adapter.ssl_certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(adapter.ssl_certificate, adapter.ssl_private_key)
    if context is not None:
        context.set_alpn_protocols(["http/1.1"])
    return context


def _bus_log(bus: Any) -> Any:
    return lambda message, level, traceback: bus.log(message, level=level, traceback=traceback)


def settle_memory() -> None:
    """Spare the garbage collector what was loaded before requests come: it stays, and is most of the heap.

    A request leaves no cycles worth a look each 700 objects, which is how often Python would look.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def error_page(status: str, message: str, traceback: str, version: str) -> str:
    """Return an error page as CherryPy's, but for CherryPy's version."""
    lines = f'<pre id="traceback">{traceback}</pre>' if traceback else ""
    return _PAGE.format(status, message, lines)


class DiscreetRequest(cherrypy.Application.request_class):
    """CherryPy's request, which shows no traceback and no version even where it fails before it has read its
    configuration."""

    show_tracebacks = False
    error_page: ClassVar[dict[str, Any]] = {"default": error_page}


def conceal(application: Any) -> None:
    """Have a CherryPy application, or those of a tree, unless they have a request class of their own, use
    DiscreetRequest. Any other WSGI application is left as it is."""
    tree = isinstance(application, type(cherrypy.tree))
    for each in application.apps.values() if tree else (application,):
        if getattr(each, "request_class", None) is cherrypy.Application.request_class:
            each.request_class = DiscreetRequest


def _conceal_as_configured() -> None:
    """Have `request.show_tracebacks` hold where a request fails before CherryPy reads it for a path, too."""
    if not cherrypy.config.get("request.show_tracebacks", True):
        conceal(cherrypy.tree)
