"""Client connections over blocking sockets: the system's for threads, gevent's for gevent.

Also what every client shares: proxies of the environment and SOCKS proxies, the default TLS context, error
messages, and reconnecting.
"""

import logging
import os
import socket
import ssl as _ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

from kirsch.install import pip_install
from kirsch.websocket.core.backoff import Backoff, may_succeed_later
from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.opening import (
    ClientOptions,
    Connect,
    ConnectSocks,
    ConnectUnix,
    Disconnect,
    Opened,
    Receive,
    Send,
    StartTLS,
    Step,
    opening,
)
from kirsch.websocket.core.url import BadUrl, Environment, Proxy, Url

log = logging.getLogger("kirsch.websocket")

C = TypeVar("C", bound=AbstractContextManager[Any])

_READ = 64 << 10


def dial(
    url: Url | str,
    options: ClientOptions | None = None,
    *,
    ssl: _ssl.SSLContext | None = None,
    proxy_ssl: _ssl.SSLContext | None = None,
    timeout: float | None = None,
    sockets: ModuleType = socket,
    tls: ModuleType = _ssl,
) -> tuple[socket.socket, Opened]:
    """Open a WebSocket; return its blocking socket (an SSLSocket for wss), and what was agreed on.

    Args:
        url: the address; may hold user and password.
        options: None for the defaults.
        ssl: the context for wss; None for the system's certificates.
        proxy_ssl: the context for a https:// proxy; None for the system's certificates.
        timeout: seconds for everything together; None for the limits' handshake_timeout. Only the
            system's resolver cannot be interrupted.
        sockets, tls: modules like socket and ssl: gevent.socket and gevent.ssl.

    Raises:
        TypeError: a context is not of the module `tls`.
        HandshakeError: the connection failed, with the reason in one line; `__cause__` is the OSError if any.
    """
    for context in (ssl, proxy_ssl):
        if context is not None and not isinstance(context, tls.SSLContext):
            raise TypeError(f"a context for {tls.__name__} is a {tls.__name__}.SSLContext")
    options = options or ClientOptions()
    deadline = _Deadline(options.limits.handshake_timeout if timeout is None else timeout)
    steps = opening(url, options, environment(options))
    network = _Network(deadline, sockets, tls)
    sock: Any = None
    step: Step | None = None
    answer: bytes | None = None
    try:
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as stop:
                sock.settimeout(None)
                done, sock = sock, None
                return done, stop.value
            answer = None
            match step:
                case Connect(host, port):
                    sock = network.connect(host, port)
                case ConnectUnix(path):
                    sock = network.connect_unix(path)
                case ConnectSocks(proxy, host, port):
                    sock = network.connect_socks(proxy, host, port)
                case StartTLS(hostname, of_proxy):
                    sock = network.start_tls(sock, hostname, proxy_ssl if of_proxy else ssl)
                case Send(data):
                    deadline.on(sock).sendall(data)
                case Receive():
                    answer = deadline.on(sock).recv(_READ)
                case Disconnect():
                    sock.close()
    except (OSError, UnicodeError) as error:
        # A name that no resolver takes raises UnicodeError.
        assert step is not None
        raise failure(step, error, deadline.timeout) from error
    finally:
        steps.close()
        if sock is not None:
            sock.close()


class _Deadline:
    """Time limit for all steps together."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout

    def left(self, shares: int = 1) -> float | None:
        """Return the seconds for one of `shares` remaining attempts. Raises TimeoutError if none are left."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left / shares

    def on(self, sock: Any) -> Any:
        """Return the socket with the remaining time as its timeout."""
        sock.settimeout(self.left())
        return sock


class _Network:
    """Connections made with one pair of socket and ssl modules."""

    def __init__(self, deadline: _Deadline, sockets: Any, tls: Any) -> None:
        self._deadline = deadline
        self._sockets = sockets
        self._tls = tls

    def connect(self, host: str, port: int) -> Any:
        """Connect to the first of the host's addresses that accepts, each in its share of the time."""
        sockets = self._sockets
        found = sockets.getaddrinfo(host, port, 0, sockets.SOCK_STREAM)
        first: OSError | None = None
        for index, (family, kind, protocol, _, address) in enumerate(found):
            try:
                return self._connect(family, kind, protocol, address, len(found) - index)
            except OSError as error:
                first = first or error
        assert first is not None
        raise first

    def connect_unix(self, path: str) -> Any:
        return self._connect(self._sockets.AF_UNIX, self._sockets.SOCK_STREAM, 0, path, 1)

    def connect_socks(self, proxy: Proxy, host: str, port: int) -> Any:
        if not proxy.resolves:
            host = self._resolve_for(proxy, host, port)
        route = _Route(self, self._deadline)
        try:
            socks_client(proxy, route).connect(host, port)
        except BaseException as error:
            route.close()
            if not isinstance(error, Exception) or isinstance(error, OSError | HandshakeError):
                raise
            # python-socks raises errors of its own, and others where the proxy answers nonsense.
            raise socks_failure(proxy, host, error) from error
        return route.sock

    def _resolve_for(self, proxy: Proxy, host: str, port: int) -> str:
        family = self._sockets.AF_INET if proxy.scheme == "socks4" else 0
        try:
            return socks_address(self._sockets.getaddrinfo(host, port, family, self._sockets.SOCK_STREAM))
        except OSError as error:
            raise failure(Connect(host, port), error, self._deadline.timeout) from error

    def start_tls(self, sock: Any, hostname: str, context: _ssl.SSLContext | None) -> Any:
        if isinstance(sock, self._tls.SSLSocket):
            sock.close()
            raise BadUrl("a blocking client speaks no TLS inside of TLS: use an http:// proxy for wss://")
        inner = (context or default_context(self._tls)).wrap_socket(
            sock, server_hostname=hostname, do_handshake_on_connect=False
        )
        try:
            self._deadline.on(inner).do_handshake()
        except BaseException:
            inner.close()
            raise
        return inner

    def _connect(self, family: int, kind: int, protocol: int, address: Any, shares: int) -> Any:
        sock = self._sockets.socket(family, kind, protocol)
        try:
            if family != self._sockets.AF_UNIX:
                sock.setsockopt(self._sockets.IPPROTO_TCP, self._sockets.TCP_NODELAY, 1)
            sock.settimeout(self._deadline.left(shares))
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock


class _Route:
    """Connection to a SOCKS proxy in the form that python-socks asks for: a proxy before the proxy."""

    def __init__(self, network: _Network, deadline: _Deadline) -> None:
        self._network = network
        self._deadline = deadline
        self.sock: Any = None

    def connect(self, dest_host: str, dest_port: int, timeout: float | None = None) -> "_Route":
        self.sock = self._network.connect(dest_host, dest_port)
        return self

    def sendall(self, data: bytes) -> None:
        self._deadline.on(self.sock).sendall(data)

    def recv(self, size: int) -> bytes:
        data: bytes = self._deadline.on(self.sock).recv(size)
        return data

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()


def environment(options: ClientOptions) -> Environment | None:
    """Return the environment's proxy settings, if the options ask for them and there are any."""
    if options.proxy != "environment":
        return None
    # urllib.request is slow to import, and on Linux only variables matter.
    settings = sys.platform in ("darwin", "win32")
    if not settings and not any(name[-6:].lower() == "_proxy" for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    return Environment(getproxies(), proxy_bypass)


@cache
def default_context(tls: ModuleType = _ssl) -> _ssl.SSLContext:
    """Return a context with the system's certificates; made once, since that takes milliseconds."""
    context: _ssl.SSLContext = tls.create_default_context()
    if not isinstance(context, tls.SSLContext):
        # gevent re-exports the standard library's function, whose contexts would block every greenlet.
        standard, context = context, tls.SSLContext(_ssl.PROTOCOL_TLS_CLIENT)
        context.load_default_certs()
        context.options, context.verify_flags = standard.options, standard.verify_flags
    context.set_alpn_protocols(["http/1.1"])
    return context


def failure(step: Step, error: Exception, timeout: float | None) -> HandshakeError:
    """Return the error to raise, in one line, for a step that failed; `timeout` is that of all steps."""
    peer = "" if isinstance(step, Disconnect) else step.peer
    match error:
        case _ssl.SSLCertVerificationError():
            reason = f"the certificate of {peer} is not accepted: {error.verify_message.rstrip('.')}"
        case _ssl.SSLEOFError() | ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            reason = f"{peer} closed the connection before it answered"
        case _ssl.SSLError():
            message = (error.reason or str(error.args[-1])).replace("_", " ").lower()
            reason = f"no TLS with {peer}: {message}"
        case TimeoutError():
            reason = f"{peer} did not answer" + ("" if timeout is None else f" within {timeout:g} seconds")
        case socket.gaierror():
            reason = f"the address of {peer.rpartition(':')[0]} is not known: {error.strerror}"
        case ConnectionRefusedError():
            reason = f"nothing listens on {peer}"
        case FileNotFoundError():
            reason = f"there is no socket {peer}"
        case _:
            reason = f"{peer} is not reached: {getattr(error, 'strerror', None) or error}"
    return HandshakeError(0, " ".join(reason.split()))


# SOCKS, by python-socks, which is imported when a proxy needs it.


def socks_client(proxy: Proxy, forward: object, *, asyncio: bool = False) -> Any:
    """Return python-socks's client of a proxy, which it reaches by `forward.connect(host, port, timeout)`.

    Raises BadUrl where python-socks is not installed.
    """
    try:
        kinds = import_module("python_socks").ProxyType
        make = import_module("python_socks.async_.asyncio" if asyncio else "python_socks.sync").Proxy
    except ImportError as error:
        raise BadUrl(f"a SOCKS proxy needs python-socks: {pip_install('kirsch-websocket[socks]')}") from error
    kind = kinds.SOCKS4 if proxy.scheme.startswith("socks4") else kinds.SOCKS5
    # The proxy may be given a name: where we are to resolve it, it is an address by now.
    return make(kind, proxy.host, proxy.port, proxy.username, proxy.password, True, forward=forward)


def socks_address(found: list[Any]) -> str:
    """Return the address of getaddrinfo's that is given to a proxy: IPv4 first, since not all have IPv6."""
    best: str = min(found, key=lambda info: info[0])[4][0]
    return best


def socks_failure(proxy: Proxy, host: str, error: Exception) -> HandshakeError:
    """Return the error to raise, in one line, for a SOCKS proxy that did not connect."""
    reason = " ".join(str(error).split()) or "it does not speak SOCKS"
    return HandshakeError(0, f"the proxy {proxy.place} makes no way to {host}: {reason}")


def reconnections(
    connect: Callable[[], C], wait: Callable[[float], object], backoff: Backoff | None
) -> Iterator[C]:
    """Yield connections, each when the one before has ended; `wait(seconds)` waits between.

    Raises HandshakeError: one that will not go away by waiting, or the last one when `backoff` ends.
    """
    backoff = backoff or Backoff()
    failed: HandshakeError | None = None
    while True:
        try:
            connection = connect()
        except HandshakeError as error:
            if not may_succeed_later(error):
                raise
            failed = error
        else:
            failed, since = None, time.monotonic()
            with connection:
                yield connection
            backoff.lasted(time.monotonic() - since)
        delay = next(backoff, None)
        if delay is None:
            if failed is not None:
                raise failed
            return
        if failed is not None:
            log.info("%s: trying again in %.1f s", failed, delay)
        wait(delay)
