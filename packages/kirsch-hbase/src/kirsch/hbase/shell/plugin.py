"""Shell on the bus: the connection starts and stops with it."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from cherrypy.process.plugins import SimplePlugin
from cherrypy.process.wspbus import Bus

from kirsch.hbase.shell.session import Session

# After what a person's own plugins need, and before it when the bus stops.
PRIORITY = 60


class ConnectionPlugin(SimplePlugin):
    """Connection as a part of the bus."""

    def __init__(self, bus: Any, session: Session) -> None:
        super().__init__(bus)
        self._session = session

    def start(self) -> None:
        """Connect in the background when the bus starts."""
        self._session.begin()

    start.priority = PRIORITY  # type: ignore[attr-defined]

    def stop(self) -> None:
        """Close the connection when the bus stops."""
        self._session.close()

    stop.priority = 100 - PRIORITY  # type: ignore[attr-defined]


class Terminated(SystemExit):
    """The process got SIGTERM or SIGHUP, or another part of it stopped the bus."""


class Shell:
    """A bus, and a shell in the main thread; each ends the other.

    Other plugins can subscribe to `bus` while it runs. Ctrl-D, exit and the end of a script call bus.exit().
    """

    def __init__(self, session: Session, bus: Any = None) -> None:
        self.bus = Bus() if bus is None else bus
        self._main = threading.get_ident()
        self._leaving = False
        self._left = False
        ConnectionPlugin(self.bus, session).subscribe()
        self.bus.subscribe("exit", self._exit)

    def run(self, shell: Callable[[], int]) -> int:
        """Start the bus, run the shell, and stop the bus. Return the shell's exit status."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._terminate)
        self.bus.start()
        try:
            return shell()
        except SystemExit as error:
            code = error.code
            if code is None or isinstance(code, int):
                return code or 0
            print(code)
            return 1
        finally:
            self._leaving = True
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            if self.bus.state not in (self.bus.states.EXITING,):
                self.bus.exit()
            self.bus.block(interval=0.02)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        raise Terminated(0 if self._left else 128 + number)

    def _exit(self) -> None:
        """End the shell when another part of the process stopped the bus."""
        self._left = True
        if not self._leaving and threading.get_ident() != self._main:
            os.kill(os.getpid(), signal.SIGTERM)
        elif not self._leaving:
            raise Terminated(0)
