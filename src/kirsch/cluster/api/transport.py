"""Ways to a kirschd: its Unix socket, or HTTPS with certificates to any of several machines that answers.

No module of TLS is loaded before a connection needs one: the command line starts fast.
"""

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import ssl

    from kirsch.cluster.model.certificates import Certificates

# Seconds in which a machine is to take a connection; then the next is tried.
ANSWER = 1.0


class Unreachable(Exception):
    """No kirschd answers there: one line."""


class Transport(Protocol):
    """A way to a kirschd, or to any one of several."""

    @property
    def host(self) -> str:
        """The Host field's value."""

    @property
    def several(self) -> bool:
        """True if there is another machine to ask where one cannot answer."""

    def connections(self) -> Iterator[socket.socket]:
        """A connection to each that takes one, the likeliest first. Raises Unreachable if none does."""

    def answered(self, connection: socket.socket) -> None:
        """An answer came by one of them: it is the likeliest then."""

    def stream_urls(self, target: str) -> Iterator[str]:
        """Yield the URLs of a WebSocket at each machine, the likeliest first. Raises Unreachable."""

    def context(self) -> "ssl.SSLContext | None":
        """Return the TLS context for streams, if any."""


@dataclass(slots=True)
class Unix:
    """Transport over a Unix socket."""

    path: Path
    host: str = "localhost"
    several: bool = False

    def connections(self) -> Iterator[socket.socket]:
        """Yield one connection. Raises Unreachable."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(self.path))
        except OSError as error:
            connection.close()
            raise Unreachable(self._why(error)) from None
        yield connection

    def answered(self, connection: socket.socket) -> None:
        """Do nothing: there is one place only."""

    def stream_urls(self, target: str) -> Iterator[str]:
        """Yield the one URL, ws+unix://PATH:TARGET."""
        from urllib.parse import quote

        yield f"ws+unix://{quote(str(self.path.absolute()))}:{target}"

    def context(self) -> None:
        """Return no context: a Unix socket uses no TLS."""

    def __str__(self) -> str:
        return str(self.path)

    def _why(self, error: OSError) -> str:
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return f"no kirschd answers at {self.path}: start one with `kirsch up`"
        if isinstance(error, PermissionError):
            return f"{self.path} is another user's kirschd: run kirsch as that user (root, by sudo)"
        return f"kirschd at {self.path}: {error}"


class Https:
    """Machines of one cluster, by address and port; `name` is how errors call them.

    `memory` is a file that holds which answered last: that is asked first.
    """

    def __init__(
        self,
        endpoints: Sequence[tuple[str, int]],
        certificates: "Certificates",
        name: str = "",
        memory: Path | None = None,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.several = len(self.endpoints) > 1
        self.certificates = certificates
        self.name = name
        self._memory = memory
        self._context: ssl.SSLContext | None = None
        self._last = self._remembered()
        self._places: WeakKeyDictionary[socket.socket, tuple[str, int]] = WeakKeyDictionary()

    @property
    def host(self) -> str:
        """The Host field's value."""
        return _place(self._last or self.endpoints[0])

    def connections(self) -> Iterator[socket.socket]:
        """Yield a connection to each machine that accepts one within a second. Raises Unreachable."""
        whys = {}
        for endpoint in self._in_order():
            try:
                connection = self._connect(endpoint)
            except OSError as error:
                whys[endpoint] = _reason(error)
                continue
            self._places[connection] = endpoint
            yield connection
        if whys:
            told = "; ".join(f"{_place(endpoint)}: {why}" for endpoint, why in whys.items())
            raise Unreachable(f"no machine of {self} answers: {told}")

    def answered(self, connection: socket.socket) -> None:
        """Remember the machine that answered, to ask it first."""
        if connection in self._places:
            self._remember(self._places[connection])

    def stream_urls(self, target: str) -> Iterator[str]:
        """Yield wss://HOST:PORT/TARGET for each machine."""
        return (f"wss://{_place(endpoint)}{target}" for endpoint in self._in_order())

    def context(self) -> "ssl.SSLContext":
        """Raises Unreachable for certificates that are none."""
        if self._context is None:
            try:
                self._context = self.certificates.client()
            except (OSError, ValueError) as error:
                files = (self.certificates.authority, self.certificates.certificate, self.certificates.key)
                if missing := [str(file) for file in files if not file.exists()]:
                    raise Unreachable(f"{', '.join(missing)}: there is no such file") from None
                told = ", ".join(map(str, files))
                raise Unreachable(f"{told}: cannot be used as certificates: {error}") from None
        return self._context

    def __str__(self) -> str:
        return self.name or "the cluster"

    def _in_order(self) -> list[tuple[str, int]]:
        first = [self._last] if self._last else []
        return list(dict.fromkeys([*first, *self.endpoints]))

    def _connect(self, endpoint: tuple[str, int]) -> socket.socket:
        plain = socket.create_connection(endpoint, ANSWER)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self.context().wrap_socket(plain, server_hostname=endpoint[0])
        except BaseException:
            plain.close()
            raise

    def _remembered(self) -> tuple[str, int] | None:
        try:
            place = self._memory.read_text().strip() if self._memory else ""
        except (OSError, UnicodeDecodeError):
            return None
        return next((endpoint for endpoint in self.endpoints if _place(endpoint) == place), None)

    def _remember(self, endpoint: tuple[str, int]) -> None:
        if self._memory is not None and endpoint != self._last and self.several:
            try:
                self._memory.parent.mkdir(parents=True, exist_ok=True)
                self._memory.write_text(_place(endpoint) + "\n")
            except OSError:
                pass  # it is found again
        self._last = endpoint


def _place(endpoint: tuple[str, int]) -> str:
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: Any) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing within {ANSWER:g} s"
    if getattr(error, "verify_message", None):
        return f"its certificate is not of this cluster's authority ({error.verify_message})"
    return str(getattr(error, "reason", None) or error.strerror or error)
