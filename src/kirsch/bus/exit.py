"""Exit of a process: once, in order, from the main thread, whoever asks."""

import threading
from typing import Any

from cherrypy.process.plugins import SignalHandler, SimplePlugin


class ExitPlugin(SimplePlugin):
    """Has the bus exit when it is called, or on SIGTERM or Ctrl-C: from any thread, any number of times.

    The main thread does it, in bus.block(), once the bus has started. CherryPy's bus.exit() does it at once,
    in the caller's thread, and while the bus is starting it ends the process: os._exit(70).

    Signals go through `signals` (the bus's own `signal_handler`, or a new one), in the place of bus.exit;
    subscribe from the main thread, where alone they can be handled.
    """

    def __init__(self, bus: Any, signals: Any = None) -> None:
        super().__init__(bus)
        self._signals = signals or getattr(bus, "signal_handler", None) or SignalHandler(bus)
        self._asked = threading.Event()

    @property
    def asked(self) -> bool:
        """True once the bus has been asked to exit."""
        return self._asked.is_set()

    def __call__(self) -> None:
        """Have the bus exit; returns at once."""
        self._asked.set()

    def subscribe(self) -> None:
        super().subscribe()
        self.bus.unsubscribe("SIGTERM", self.bus.exit)
        handlers = {"SIGTERM": self.terminate, "SIGINT": self.interrupt}
        self._signals.handlers.update(handlers)
        if threading.current_thread() is threading.main_thread():
            for name, handler in handlers.items():
                self._signals.set_handler(name, handler)

    def terminate(self) -> None:
        self()

    def interrupt(self) -> None:
        self()

    def main(self) -> None:
        """Exit once asked; bus.block() calls this ten times a second."""
        if self.asked and self.bus.state in (self.bus.states.STARTED, self.bus.states.STOPPED):
            self.bus.exit()
