"""Is this process alive, is it ready, and how it leaves without losing a request."""

import json
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from kirsch.bus.exit import ExitPlugin

Check = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Result:
    """Result of one named check; `reason` is empty when it is well. Readiness depends on it if `required`."""

    name: str
    reason: str = ""
    required: bool = True

    @property
    def ok(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True)
class Health:
    """Readiness, and the result of each check. `reason` is the process's own."""

    reason: str = ""
    checks: tuple[Result, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.reason and all(check.ok or not check.required for check in self.checks)

    def to_json(self) -> str:
        checks = {
            check.name: {"ok": check.ok, "reason": check.reason}
            | ({} if check.required else {"required": False})
            for check in self.checks
        }
        return json.dumps({"ready": self.ok, "reason": self.reason, "checks": checks})


class HealthPlugin(ExitPlugin):
    """Live and ready, for balancers and service managers, and the drain between SIGTERM and the bus's exit.

    `add(name, check)` names a callable that says whether something this process needs is there: it raises or
    returns False when it is not. A check that takes more than `check_timeout` seconds has failed; it is not
    run twice at a time.

    On SIGTERM the process stops being ready, publishes 'drain', and exits `drain` seconds later, so that a
    balancer can notice before the socket closes; a bus that is starting does so first. A second SIGTERM, or
    Ctrl-C, ends the wait. For signals, see ExitPlugin.
    """

    def __init__(
        self,
        bus: Any,
        drain: float = 5.0,
        check_timeout: float = 2.0,
        signals: Any = None,
    ) -> None:
        super().__init__(bus, signals)
        self.drain_seconds = drain  # not named after a channel, for the bus would take it for a listener
        self.check_timeout = check_timeout
        self._checks: dict[str, _Runner] = {}
        self._draining = threading.Event()

    @property
    def draining(self) -> bool:
        return self._draining.is_set()

    def stop(self) -> None:
        self._draining.clear()

    stop.priority = 0  # type: ignore[attr-defined]

    def add(self, name: str, check: Check, *, required: bool = True) -> None:
        """Have readiness depend on a check; one of the same name is replaced.

        One that is not `required` is shown, and decides nothing.
        """
        self._checks[name] = _Runner(name, check, required)

    def live(self) -> bool:
        """Return True while the process is worth keeping: its bus starts, runs or drains."""
        return self.bus.state in (self.bus.states.STARTING, self.bus.states.STARTED)

    def ready(self) -> Health:
        """Return readiness. Runs every check, side by side."""
        if self.draining:
            return Health("draining")
        if self.bus.state is not self.bus.states.STARTED:
            return Health(f"the bus is {self.bus.state.name}")
        return Health(checks=tuple(_run(self._checks.values(), self.check_timeout)))

    def mount(self, tree: Any) -> None:
        """Serve /healthz and /readyz from a tree of applications, as cherrypy.tree."""
        tree.graft(self.healthz, "/healthz")
        tree.graft(self.readyz, "/readyz")

    def healthz(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """A WSGI application: 200 while live, else 503. It asks nobody and waits for nothing."""
        live = self.live()
        return _respond(environ, start_response, live, json.dumps({"live": live}))

    def readyz(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """A WSGI application: 200 when ready, else 503; the body names the checks and their reasons."""
        health = self.ready()
        return _respond(environ, start_response, health.ok, health.to_json())

    def terminate(self) -> None:
        """Handle SIGTERM: drain, then exit; while draining, exit now."""
        if self.drain_seconds <= 0 or self.draining:
            self()
        elif not self.asked:
            self._draining.set()
            threading.Thread(target=self._drain, name="drain", daemon=True).start()

    def interrupt(self) -> None:
        """Handle Ctrl-C: exit now; once more, KeyboardInterrupt ends what that waits for."""
        if self.asked:
            raise KeyboardInterrupt
        self()

    def _drain(self) -> None:
        self.bus.wait((self.bus.states.STARTED, self.bus.states.EXITING))
        if not self.draining:
            return
        self.bus.log(f"Draining for {self.drain_seconds:g} s")
        try:
            self.bus.publish("drain")
        finally:
            self._asked.wait(self.drain_seconds)
            if self.draining:
                self()


class _Runner:
    """Runs one check in a thread of its own, for one that hangs must hang alone."""

    def __init__(self, name: str, check: Check, required: bool) -> None:
        self.name = name
        self.required = required
        self._check = check
        self._lock = threading.Lock()
        self._running: Future[Result] | None = None
        self.since = 0.0

    def begin(self) -> "Future[Result]":
        """The result to be: of the run under way, if there is one."""
        with self._lock:
            if self._running is None or self._running.done():
                self._running = Future()
                self.since = time.monotonic()
                threading.Thread(
                    target=self._run, args=(self._running,), name=f"check {self.name}", daemon=True
                ).start()
            return self._running

    def _run(self, result: "Future[Result]") -> None:
        try:
            said = self._check()
        except Exception as error:
            result.set_result(Result(self.name, str(error) or type(error).__name__, self.required))
        else:
            result.set_result(Result(self.name, "not well" if said is False else "", self.required))


def _run(runners: Iterable[_Runner], timeout: float) -> Iterable[Result]:
    begun = [(runner, runner.begin()) for runner in list(runners)]
    wait([future for _, future in begun], timeout)
    for runner, future in begun:
        if future.done():
            yield future.result()
        else:
            late = f"no answer within {time.monotonic() - runner.since:.1f} s"
            yield Result(runner.name, late, runner.required)


def _respond(environ: dict[str, Any], start_response: Callable[..., Any], ok: bool, text: str) -> list[bytes]:
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        start_response("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Length", "0")])
        return []
    body = text.encode() + b"\n"
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    start_response("200 OK" if ok else "503 Service Unavailable", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
