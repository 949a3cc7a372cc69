"""The balancer on the bus: HAProxy's servers follow the endpoints."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from cherrypy.process.plugins import SimplePlugin

from kirsch.bus import Exit
from kirsch.cluster.balancer.config import Servers, alerts_in
from kirsch.cluster.balancer.endpoints import EndpointsFollower
from kirsch.cluster.balancer.haproxy import HAProxyError, RuntimeAPI, Server, add_server, delete_server
from kirsch.cluster.balancer.plan import (
    DRAIN_SECONDS,
    SERVER_OPTIONS,
    Backend,
    BalancerError,
    plan,
    superfluous,
    timed,
    wanted,
    without_port,
)
from kirsch.cluster.balancer.report import write_report
from kirsch.cluster.model import Endpoint

PROCESS = "haproxy"
# While a server is on its way out, or HAProxy on its way in, there is nothing that would tell us: ask.
ASK_AGAIN = 0.1
LISTENING_AGAIN = 0.02
PROBE = "kirsch-probe"


class BalancerPlugin(SimplePlugin):
    """Adds, drains and deletes servers of a HAProxy that a ProcessPlugin named "haproxy" runs.

    `on_servers` is called with all servers each time that they change: a HAProxy that is started then is to
    begin with them. `on_ready` is called once, when HAProxy listens and the first endpoints were applied;
    `on_failed`, with why, when this cannot go on. `unit` is the name under which it reports what backends do.
    """

    def __init__(
        self,
        bus: Any,
        api: RuntimeAPI,
        backends: Sequence[Backend],
        endpoints: str,
        *,
        unit: str = "",
        options: str = SERVER_OPTIONS,
        drain: float = DRAIN_SECONDS,
        on_servers: Callable[[Servers], None] = lambda servers: None,
        on_ready: Callable[[], None] = lambda: None,
        on_failed: Callable[[str], None] = lambda reason: None,
    ) -> None:
        super().__init__(bus)
        self._api = api
        self._backends = backends
        self._unit = unit
        self._options = options
        self._drain = drain
        self._on_servers = on_servers
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._follower = EndpointsFollower(endpoints, self._set_endpoints, self._warn)
        self._thread = threading.Thread(target=self._work, name="balancer", daemon=True)
        self._news = threading.Condition()
        # Under the condition: what other threads tell the balancer's.
        self._stopping = False
        self._changed = False
        self._pid = 0
        # None: not known yet.
        self._endpoints: tuple[Endpoint, ...] | None = None if backends else ()
        # The balancer's own.
        self._attached = 0
        self._static: frozenset[tuple[str, str]] = frozenset()
        self._fixed: frozenset[tuple[str, str]] = frozenset()
        self._servers_told: Servers = {}
        self._ever: set[tuple[str, str]] = set()
        # When each server that is not ready began to be so.
        self._since: Mapping[tuple[str, str], float] = {}
        self._ready = False
        self._report_due = 0.0
        # True where HAProxy did not take a command of the last round.
        self._refused = False
        self._told: set[str] = set()
        self._lines: deque[str] = deque(maxlen=50)

    def subscribe(self) -> None:
        super().subscribe()
        self.bus.subscribe("process-started", self._haproxy_started)
        self.bus.subscribe("process-line", self._haproxy_said)
        self.bus.subscribe("process-exited", self._haproxy_exited)
        self.bus.subscribe("process-failed", self._haproxy_failed)

    def follow(self, patience: float) -> None:
        """Begin to follow the endpoints; return once the first are there, or after `patience` seconds."""
        if not self._backends:
            self._tell_servers({})
            return
        self._follower.start()
        with self._news:
            self._news.wait_for(lambda: self._endpoints is not None, patience)
            endpoints = self._endpoints or ()
        self._tell_servers(wanted(endpoints, self._backends))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._backends:
            self._follower.stop()
        self._tell(stopping=True)
        self._thread.join()

    def _tell(self, **news: Any) -> None:
        with self._news:
            for name, value in news.items():
                setattr(self, f"_{name}", value)
            self._changed = True
            self._news.notify()

    def _set_endpoints(self, endpoints: tuple[Endpoint, ...]) -> None:
        self._tell(endpoints=endpoints)

    def _haproxy_started(self, name: str, pid: int) -> None:
        self._tell(pid=pid)

    def _haproxy_said(self, name: str, stream: str, line: str) -> None:
        self._lines.append(line)

    def _haproxy_exited(self, name: str, how: Exit) -> None:
        self._tell(pid=0)
        # It never listened: starting it again and again would not help, a person has to.
        if not self._attached and not self._stopping:
            self._haproxy_failed(name, str(how))

    def _haproxy_failed(self, name: str, reason: str) -> None:
        self._on_failed("\n".join([f"HAProxy {reason}", *alerts_in(list(self._lines))]))

    def _work(self) -> None:
        wait: float | None = None
        while True:
            with self._news:
                self._news.wait_for(lambda: self._changed, wait)
                self._changed = False
                if self._stopping:
                    return
                pid, endpoints = self._pid, self._endpoints
            if not pid:
                wait = None
                continue
            try:
                wait = self._report(self._step(pid, endpoints))
            except OSError:
                # HAProxy does not listen yet, or no more: news of its end are on their way.
                wait = LISTENING_AGAIN
            except (BalancerError, HAProxyError) as error:
                self._on_failed(str(error))
                return

    def _step(self, pid: int, endpoints: tuple[Endpoint, ...] | None) -> float | None:
        """Take HAProxy one round nearer to the endpoints; returns the seconds until the next, or None."""
        if pid != self._attached:
            self._attach()
            self._attached = pid
        if endpoints is None:
            return None
        unfinished = self._apply(endpoints)
        if not self._refused and self._backends:
            self._follower.applied(endpoints)
        if not self._ready:
            self._ready = True
            self._on_ready()
        return ASK_AGAIN if unfinished else None

    def _report(self, wait: float | None) -> float | None:
        """Tell kirschd what the backends did, where it wants that; return the seconds until the next step, or
        None."""
        interval = self._follower.report_interval
        if not interval or not self._unit:
            return wait
        now = time.monotonic()
        if now >= self._report_due:
            self._report_due = now + interval
            with suppress(HAProxyError):
                self._follower.report(write_report(self._unit, self._api.counts()))
        left = self._report_due - now
        return left if wait is None else min(wait, left)

    def _attach(self) -> None:
        """Meet a new HAProxy: are the backends there, do they take servers, which have they from the file?"""
        known = self._api.backends()
        for backend in self._backends:
            if backend.name not in known:
                has = ", ".join(known) or "none"
                raise BalancerError(f"HAProxy's configuration has no backend {backend.name} (it has: {has})")
            self._probe(backend)
        there = frozenset((server.backend, server.name) for server in self._servers())
        self._static, self._fixed = there - self._ever, there & self._ever
        self._since = {}
        self._told.clear()

    def _probe(self, backend: Backend) -> None:
        try:
            self._api.run(add_server(backend.name, PROBE, "127.0.0.1", 1, self._options))
            self._api.run(delete_server(backend.name, PROBE))
        except HAProxyError as error:
            raise BalancerError(
                f"backend {backend.name} takes no servers with '{self._options}', HAProxy says: {error}"
            ) from None

    def _apply(self, endpoints: tuple[Endpoint, ...]) -> bool:
        """One round of the plan; whether another is to follow: a server is left that has to go, or HAProxy
        has refused something."""
        for line in without_port(endpoints, self._backends):
            self._warn_once(line)
        target = wanted(endpoints, self._backends)
        if target != self._servers_told:
            self._tell_servers(target)
        found = [s for s in self._servers() if (s.backend, s.name) not in self._static]
        servers, self._since = timed(found, self._since, time.monotonic())
        self._refused = False
        for command in plan(
            endpoints, servers, self._backends, self._options, self._drain, fixed=self._fixed
        ):
            try:
                self._api.run(command)
            except HAProxyError as error:
                self._refused = True
                self._warn_once(f"HAProxy refused '{command.line}': {error}")
        return self._refused or superfluous(servers, target, self._fixed)

    def _tell_servers(self, servers: Servers) -> None:
        self._servers_told = servers
        self._ever |= servers.keys()
        self._on_servers(servers)

    def _servers(self) -> tuple[Server, ...]:
        return self._api.servers({backend.name: None for backend in self._backends})

    def _warn_once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._warn(line)

    def _warn(self, line: str) -> None:
        self.bus.log(line, level=30)
