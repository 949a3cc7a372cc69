"""Opening a client's connection with blocking sockets: the system's for threads, gevent's for gevent."""

import os
import socket
import ssl as _ssl
import sys
import time
from functools import cache
from types import ModuleType
from typing import Any

from kirsch.websocket import socks
from kirsch.websocket.errors import HandshakeError
from kirsch.websocket.failure import failure
from kirsch.websocket.opening import (
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
from kirsch.websocket.proxy import Environment, Proxy
from kirsch.websocket.url import BadUrl, Url

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
    """A blocking socket (an SSLSocket for wss) on which a WebSocket is open.

    Args:
        url: where; may hold user and password.
        options: how; None for the defaults.
        ssl: the context for wss; None for the system's certificates.
        proxy_ssl: the context for a https:// proxy; None for the system's certificates.
        timeout: seconds for everything together; None for the limits' handshake_timeout. Only the
            system's resolver is not interrupted.
        sockets, tls: modules like socket and ssl: gevent.socket and gevent.ssl.

    Raises:
        TypeError: a context is not of the module `tls`.
        HandshakeError: there is no WebSocket, in one line; its `__cause__` is the OSError, if it was one.
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
        # Names that no resolver takes are UnicodeErrors.
        assert step is not None
        raise failure(step, error, deadline.timeout) from error
    finally:
        steps.close()
        if sock is not None:
            sock.close()


class _Deadline:
    """What is left of the time for everything."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout

    def left(self, shares: int = 1) -> float | None:
        """Seconds for one of so many things that are still to be tried; raises TimeoutError."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left / shares

    def on(self, sock: Any) -> Any:
        """The socket, for one call."""
        sock.settimeout(self.left())
        return sock


class _Network:
    """Connections by one pair of socket and ssl modules."""

    def __init__(self, deadline: _Deadline, sockets: Any, tls: Any) -> None:
        self._deadline = deadline
        self._sockets = sockets
        self._tls = tls

    def connect(self, host: str, port: int) -> Any:
        """A TCP connection to the first of the host's addresses that takes one, each in its share of time."""
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
        way = _Way(self, self._deadline)
        try:
            socks.client(proxy, way).connect(host, port)
        except BaseException as error:
            way.close()
            if not isinstance(error, Exception) or isinstance(error, OSError | HandshakeError):
                raise
            # Its own errors, and what it did not think of: either way the proxy said something wrong.
            raise socks.failure(proxy, host, error) from error
        return way.sock

    def _resolve_for(self, proxy: Proxy, host: str, port: int) -> str:
        family = self._sockets.AF_INET if proxy.scheme == "socks4" else 0
        try:
            return socks.address(self._sockets.getaddrinfo(host, port, family, self._sockets.SOCK_STREAM))
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


class _Way:
    """The way to a SOCKS proxy, as python-socks wants it: a proxy before the proxy, and its socket."""

    def __init__(self, network: _Network, deadline: _Deadline) -> None:
        self._network = network
        self._deadline = deadline
        self.sock: Any = None

    def connect(self, dest_host: str, dest_port: int, timeout: float | None = None) -> "_Way":
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
    """What the environment says of proxies, if the options ask for it."""
    if options.proxy != "environment":
        return None
    # urllib.request is slow to import, and on Linux only variables count.
    settings = sys.platform in ("darwin", "win32")
    if not settings and not any(name[-6:].lower() == "_proxy" for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    return Environment(getproxies(), proxy_bypass)


@cache
def default_context(tls: ModuleType = _ssl) -> _ssl.SSLContext:
    """The system's certificates; made once, for it takes milliseconds."""
    context: _ssl.SSLContext = tls.create_default_context()
    if not isinstance(context, tls.SSLContext):
        # gevent has this function of the standard library, whose contexts would block every greenlet.
        standard, context = context, tls.SSLContext(_ssl.PROTOCOL_TLS_CLIENT)
        context.load_default_certs()
        context.options, context.verify_flags = standard.options, standard.verify_flags
    context.set_alpn_protocols(["http/1.1"])
    return context
