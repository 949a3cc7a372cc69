"""The shell on the bus: it starts the connection, stops it, and ends when the bus does."""

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
    """Connects when the bus starts, and closes the connection when it stops."""

    def __init__(self, bus: Any, session: Session) -> None:
        super().__init__(bus)
        self._session = session

    def start(self) -> None:
        """Begin to connect."""
        self._session.begin()

    start.priority = PRIORITY  # type: ignore[attr-defined]

    def stop(self) -> None:
        """Close the connection."""
        self._session.close()

    stop.priority = 100 - PRIORITY  # type: ignore[attr-defined]


class Terminated(SystemExit):
    """SIGTERM or SIGHUP came, or another part of the process had the bus exit."""


class Shell:
    """A bus, and a shell in the main thread that ends it, or is ended by it.

    Other plugins can be put on `bus` while it runs. What Ctrl-D, exit or the end of a script does is
    bus.exit().
    """

    def __init__(self, session: Session, bus: Any = None) -> None:
        self.bus = Bus() if bus is None else bus
        self._main = threading.get_ident()
        self._leaving = False
        self._left = False
        ConnectionPlugin(self.bus, session).subscribe()
        self.bus.subscribe("exit", self._exit)

    def run(self, shell: Callable[[], int]) -> int:
        """Start the bus, run the shell, and end the bus; the shell's exit status."""
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
        """The bus exits: if it was not the shell that had it do so, the shell ends."""
        self._left = True
        if not self._leaving and threading.get_ident() != self._main:
            os.kill(os.getpid(), signal.SIGTERM)
        elif not self._leaving:
            raise Terminated(0)
