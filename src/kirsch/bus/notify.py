"""Telling the service manager how the bus is: the protocol of sd_notify(3), without its library."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from cherrypy.process.plugins import SimplePlugin


def notify(address: str, message: str) -> None:
    """Send one datagram to a NOTIFY_SOCKET: a path, or an abstract name after '@'. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.sendall(message.encode())


def watchdog_interval(environment: Mapping[str, str], pid: int) -> float | None:
    """Seconds between two signs of life, half of what sd_watchdog_enabled(3) allows; None: not asked for."""
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    try:
        allowed = int(environment.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return allowed / 2_000_000 if allowed > 0 else None


class NotifyPlugin(SimplePlugin):
    """READY=1 when the bus has started, STOPPING=1 when it stops, RELOADING=1 and READY=1 around graceful,
    and WATCHDOG=1 in between when that is asked for, as long as `live` says so.

    `held`: READY=1 waits for release(), too. Without NOTIFY_SOCKET in the environment it does nothing.
    """

    def __init__(self, bus: Any, live: Callable[[], bool] = lambda: True, *, held: bool = False) -> None:
        super().__init__(bus)
        self._missing = {"start", "release"} if held else {"start"}
        self._lock = threading.Lock()
        self._live = live
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._interval = watchdog_interval(os.environ, os.getpid())
        self._stopped = threading.Event()

    def subscribe(self) -> None:
        if not self._address:
            return
        super().subscribe()
        self.bus.subscribe("graceful", self._reloaded, 100)

    def unsubscribe(self) -> None:
        super().unsubscribe()
        self.bus.unsubscribe("graceful", self._reloaded)

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send("STATUS=" + text.replace("\n", " "))

    def extend(self, seconds: float) -> None:
        """Have the service manager wait so much longer for READY=1."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def release(self) -> None:
        """Say READY=1, once the bus has started."""
        self._come("release")

    def _come(self, what: str) -> None:
        """Something that READY=1 waits for has come."""
        with self._lock:
            self._missing.discard(what)
            if not self._missing:
                self._send("READY=1")

    def start(self) -> None:
        self._come("start")
        if self._interval is not None:
            self._stopped.clear()
            threading.Thread(target=self._watchdog, name="watchdog", daemon=True).start()

    start.priority = 100  # type: ignore[attr-defined] # when everything else has started

    def stop(self) -> None:
        self._stopped.set()
        if self.bus.execv:  # the same process comes back
            self._reloading()
        else:
            self._send("STOPPING=1")

    stop.priority = 0  # type: ignore[attr-defined]

    def graceful(self) -> None:
        self._reloading()

    graceful.priority = 0  # type: ignore[attr-defined]

    def _reloading(self) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def _reloaded(self) -> None:
        self._send("READY=1")

    def _watchdog(self) -> None:
        while not self._stopped.is_set():
            if self._live():
                self._send("WATCHDOG=1")
            self._stopped.wait(self._interval)

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            notify(self._address, message)
        except OSError as error:
            self.bus.log(f"Cannot notify {self._address}: {error.strerror}", level=logging.WARNING)
