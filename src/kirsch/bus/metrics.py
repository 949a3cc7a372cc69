"""Figures for Prometheus: requests by method, route and status, the process, and what others add."""

import time
from collections.abc import Callable
from typing import Any

import cherrypy
from cherrypy.process import plugins
from prometheus_client import CollectorRegistry, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Seconds: from a page served from memory to a request that waited for a connection of the pool.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class MetricsPlugin(plugins.SimplePlugin):
    """Counts and times the requests of every CherryPy application on the bus, in a registry of its own.

    `http_request_duration_seconds` is a histogram by method, route and status; its `_count` counts requests.
    A route is the path of the resource that answered, as MethodDispatcher found it, where a segment that is a
    value is `{}`: there are as many series as an application has resources, whatever is asked for.
    """

    def __init__(self, bus: Any) -> None:
        super().__init__(bus)
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._durations = Histogram(
            "http_request_duration_seconds",
            "Time from a request's head to the end of its response",
            ("method", "route", "status"),
            registry=self.registry,
            buckets=BUCKETS,
        )
        # labels() makes text of its arguments and takes a lock, each time.
        self._series: dict[tuple[str, str, bytes], Any] = {}

    def subscribe(self) -> None:
        """Take part in the bus, and hear of every request."""
        super().subscribe()
        self.bus.subscribe("after_request", self.observe)

    def unsubscribe(self) -> None:
        """Count no more requests."""
        super().unsubscribe()
        self.bus.unsubscribe("after_request", self.observe)

    def add(self, collector: Collector) -> None:
        """Have these figures told too. Raises ValueError when there are some of that name."""
        self.registry.register(collector)

    def mount(self, tree: Any) -> None:
        """Serve /metrics from a tree of applications, as cherrypy.tree."""
        tree.graft(self.metrics, "/metrics")

    def observe(self) -> None:
        """CherryPy is done with a request, with a streamed response too (the bus's 'after_request')."""
        request, response = cherrypy.serving.request, cherrypy.serving.response
        route = getattr(request, "route", "")
        key = (request.method, route, (getattr(response, "output_status", None) or b"500")[:3])
        series = self._series.get(key)
        if series is None:
            method = request.method if request.method in METHODS else "other"
            series = self._durations.labels(method, route or "other", key[2].decode())
            if method == request.method:
                self._series[key] = series
        series.observe(max(time.time() - response.time, 0.0))

    def counted(self, application: Callable[..., Any]) -> Callable[..., Any]:
        """Return a WSGI application that does the same, and is counted: its route is always `*`."""

        def run(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            began, method = time.perf_counter(), environ["REQUEST_METHOD"]

            def observe(status: str) -> None:
                labels = (method if method in METHODS else "other", "*", status[:3])
                self._durations.labels(*labels).observe(time.perf_counter() - began)

            def start(status: str, headers: Any, exc_info: Any = None) -> Any:
                observe(status)
                return start_response(status, headers, exc_info)

            try:
                return application(environ, start)
            except Exception:
                observe("500")
                raise

        return run

    def metrics(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """A WSGI application: every figure, in the format that the client asks for."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Length", "0")])
            return []
        encode, media_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        body = encode(self.registry)
        headers = [("Content-Type", media_type), ("Content-Length", str(len(body)))]
        start_response("200 OK", [*headers, ("Cache-Control", "no-store")])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
