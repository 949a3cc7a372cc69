"""A child process as a citizen of the bus."""

import logging
import threading
import time
from signal import SIGHUP, SIGTERM
from typing import Any, Literal

from cherrypy.process.plugins import SimplePlugin

from kirsch.bus.process.child import Child, ChildError, Command, Exit
from kirsch.bus.process.restart import Again, Backoff, Failed, History, Limit, Policy, after_exit


class ProcessPlugin(SimplePlugin):
    """Starts a command with the bus, keeps it running, and stops it with the bus.

    It publishes, each with its `name` first: 'process-started' (pid); 'process-line' (stream "out" or "err",
    line); 'process-exited' (Exit), once nothing of it is left; 'process-failed' (reason), when it will not be
    started again. Listeners run in the child's thread, and its output waits for them.

    `restart` says after which ends it is started again: "always", "on-failure" (as systemd.service(5)
    Restart=) or "no"; `backoff` and `limit` when and how often; a run of `settled` seconds starts the backoff
    anew. On stop the process gets `stop_signal`, and what is left after `grace` seconds SIGKILL. On graceful
    it gets `reload_signal`, if that is not None.

    `priority` orders plugins on the bus: lower starts earlier and stops later. The default is before
    CherryPy's servers (75) and after its Daemonizer (65). Processes of one priority stop side by side.
    """

    def __init__(
        self,
        bus: Any,
        name: str,
        command: Command,
        *,
        restart: Literal["always", "on-failure", "no"] = "on-failure",
        backoff: Backoff = Backoff(),  # noqa: B008 - a frozen value
        limit: Limit | None = Limit(),  # noqa: B008 - a frozen value
        settled: float = 10.0,
        grace: float = 10.0,
        stop_signal: int = SIGTERM,
        reload_signal: int | None = SIGHUP,
        priority: float = 70,
    ) -> None:
        super().__init__(bus)
        self.name = name
        self.command = command
        self.policy = Policy(restart, backoff, limit, settled)
        self.grace = grace
        self.stop_signal = stop_signal
        self.reload_signal = reload_signal
        self.priority = priority
        self._lock = threading.RLock()
        self._wanted = False
        self._child: Child | None = None
        self._timer: threading.Timer | None = None
        self._history = History()

    @property
    def pid(self) -> int:
        """The main process; 0 when it does not run."""
        child = self._child
        return child.pid if child and child.running and child.main_exit is None else 0

    def subscribe(self) -> None:
        self.bus.subscribe("start", self.start, self.priority)
        # All processes of one priority are asked to stop before the first is waited for.
        self.bus.subscribe("stop", self.stop, 130 - self.priority)
        self.bus.subscribe("stop", self.wait, 130 - self.priority + 0.5)
        self.bus.subscribe("graceful", self.graceful)

    def unsubscribe(self) -> None:
        self.bus.unsubscribe("start", self.start)
        self.bus.unsubscribe("stop", self.stop)
        self.bus.unsubscribe("stop", self.wait)
        self.bus.unsubscribe("graceful", self.graceful)

    def start(self) -> None:
        """Start the process. One that cannot be executed has failed; the bus goes on."""
        with self._lock:
            if self._wanted:
                return
            self._wanted = True
            self._history = History()
        self._start_child()

    def stop(self) -> None:
        """Ask the process to stop, and see to it that it is killed after the grace period."""
        with self._lock:
            self._wanted = False
            if self._timer is not None:
                self._timer.cancel()
            if self._child is not None:
                self._child.stop(self.stop_signal, self.grace)

    def wait(self) -> None:
        """Wait until nothing of the process is left."""
        child = self._child
        if child is not None:
            child.wait()

    def graceful(self) -> None:
        """Ask the process to reload."""
        with self._lock:
            if self._child is not None and self.reload_signal is not None:
                self._child.signal(self.reload_signal)

    def _start_child(self) -> None:
        with self._lock:
            if not self._wanted:
                return
            self._history = self._history.started(time.monotonic(), self.policy)
            child = Child(
                self.command, self._on_line, self._on_exit, on_start=self._on_start, grace=self.grace
            )
            try:
                child.start()
            except ChildError as error:
                reason = error.message
            else:
                self._child = child
                return
        self._fail(reason)

    def _on_start(self, pid: int) -> None:
        self.bus.log(f"Started {self.name} (pid {pid})")
        self.bus.publish("process-started", self.name, pid)

    def _on_line(self, stream: str, line: str) -> None:
        self.bus.publish("process-line", self.name, stream, line)

    def _on_exit(self, how: Exit) -> None:
        with self._lock:
            wanted = self._wanted
        self.bus.log(f"{self.name} {how}", level=logging.WARNING if wanted and not how.ok else logging.INFO)
        try:
            self.bus.publish("process-exited", self.name, how)
        finally:
            self._decide(how)

    def _decide(self, how: Exit) -> None:
        with self._lock:
            if not self._wanted:
                return
            decision = after_exit(self.policy, self._history, how, time.monotonic())
            if isinstance(decision, Again):
                self._history = decision.history
                self._timer = threading.Timer(decision.delay, self._start_child)
                self._timer.daemon = True
                self._timer.start()
        if isinstance(decision, Failed):
            self._fail(decision.reason)

    def _fail(self, reason: str) -> None:
        self.bus.log(f"{self.name} failed: {reason}", level=logging.ERROR)
        self.bus.publish("process-failed", self.name, reason)
