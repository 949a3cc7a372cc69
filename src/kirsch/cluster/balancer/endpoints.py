"""The client's side of the endpoints socket: one JSON line with all endpoints, again at each change."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_address

from kirsch.cluster.balancer.report import report_interval
from kirsch.cluster.model import Endpoint
from kirsch.unit import Port

FIRST_DELAY = 0.05  # seconds between two attempts to connect, doubled up to:
MOST_DELAY = 1.0


def parse_endpoints(line: str | bytes) -> tuple[int, tuple[Endpoint, ...]]:
    """Read one line: its number, 0 where it has none, and all endpoints. Raises ValueError when it is none of
    the endpoints socket's."""
    try:
        values = json.loads(line)
        return int(values.get("number", 0)), tuple(
            Endpoint(
                service=str(values["service"]),
                unit=str(values["unit"]),
                slot=str(values["slot"]),
                machine="",
                # Anything else might be taken for a command of HAProxy's.
                address=str(ip_address(values["address"])),
                ports=tuple(Port(int(p["number"]), str(p["protocol"]), p["name"]) for p in values["ports"]),
                ready=values["ready"] is True,
                role=str(values.get("role", "")),
                leads=values.get("leads", True) is True,
            )
            for values in values["endpoints"]
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"not a line of endpoints: {error!r}") from error


class EndpointsFollower:
    """Reads the socket in a thread of its own, and connects again whenever it is gone.

    `on_endpoints` gets all endpoints at each change; `on_trouble` one line each time the socket is lost.
    While it is away the last endpoints hold: what runs goes on running.
    """

    def __init__(
        self,
        path: str,
        on_endpoints: Callable[[tuple[Endpoint, ...]], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self.path = path
        self._on_endpoints = on_endpoints
        self._on_trouble = on_trouble
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        # Seconds between two reports that kirschd wants; 0: none.
        self.report_interval = 0.0
        # The number of the last line, and its endpoints.
        self._number = 0
        self._endpoints: tuple[Endpoint, ...] | None = None
        self._thread = threading.Thread(target=self._follow, name="endpoints", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the socket go; returns once no callback is to come."""
        self._stopping.set()
        with self._lock:
            if self._connection is not None:
                with suppress(OSError):  # its other end may be gone already
                    self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def applied(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Say that servers are as these endpoints: what stops may go on with that."""
        with self._lock:
            if self._connection is not None and self._number and endpoints is self._endpoints:
                with suppress(OSError):
                    self._connection.sendall(b"%d\n" % self._number)

    def report(self, line: bytes) -> None:
        """Send what the backends did; it does not matter if kirschd is away."""
        with self._lock:
            if self._connection is not None:
                with suppress(OSError):
                    self._connection.sendall(line)

    def _follow(self) -> None:
        delay = FIRST_DELAY
        told = False
        while not self._stopping.is_set():
            try:
                for line in self._lines():
                    number, endpoints = parse_endpoints(line)
                    with self._lock:
                        self._number, self._endpoints = number, endpoints
                        self.report_interval = report_interval(line)
                    self._on_endpoints(endpoints)
                    delay, told = FIRST_DELAY, False
                trouble = "closed"
            except OSError as error:
                trouble = error.strerror or str(error)
            except ValueError as error:
                trouble = str(error)
            if not told and not self._stopping.is_set():
                self._on_trouble(f"No endpoints from {self.path}: {trouble}; trying again")
                told = True
            self._stopping.wait(delay)
            delay = min(delay * 2, MOST_DELAY)

    def _lines(self) -> Iterator[bytes]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.path)
            with self._lock:
                # From here on stop() finds the connection to end; before, the flag.
                if self._stopping.is_set():
                    return
                self._connection = connection
            try:
                with connection.makefile("rb") as lines:
                    yield from lines
            finally:
                with self._lock:
                    self._connection, self._endpoints = None, None
