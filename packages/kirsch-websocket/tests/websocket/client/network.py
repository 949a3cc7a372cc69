"""Servers and proxies that tests of clients connect to: threads on the loopback interface."""

import contextlib
import socket
import ssl
import struct
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

from kirsch.websocket.core.handshake import Policy, accept
from kirsch.websocket.core.headers import HeadReader, Request
from kirsch.websocket.core.limits import Limits

Handler = Callable[[socket.socket], None]


class Listener:
    """A server whose every connection is given to `handler` in a thread of its own."""

    def __init__(self, listener: socket.socket, handler: Handler, tls: ssl.SSLContext | None) -> None:
        self.port: int = 0 if listener.family == socket.AF_UNIX else listener.getsockname()[1]
        self._listener = listener
        self._handler = handler
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with self._lock:
                    self._open.add(sock)
                thread = threading.Thread(target=self._serve, args=(sock,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            # What a client that goes away, or refuses our certificate, does to its server is no news here.
            with contextlib.suppress(OSError):
                if self._tls is None:
                    self._handler(sock)
                    return
                with self._tls.wrap_socket(sock.dup(), server_side=True) as tls:
                    self._handler(tls)
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def listen(
    handler: Handler, tls: ssl.SSLContext | None = None, unix: Path | None = None, host: str = "127.0.0.1"
) -> Iterator[Listener]:
    if unix is None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, 0), family=family, backlog=128)
    else:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(unix))
        sock.listen()
    listener = Listener(sock, handler, tls)
    try:
        yield listener
    finally:
        listener.close()


def read_head(sock: socket.socket) -> tuple[Request, bytes]:
    """A request's head and what came after it."""
    reader = HeadReader(Limits(), client=False)
    head = None
    while head is None:
        data = sock.recv(65536)
        if not data:
            raise ConnectionResetError
        head = reader.feed(data)
    assert isinstance(head, Request)
    return head, reader.rest


def echo(sock: socket.socket) -> None:
    """Open a WebSocket, say hello with the same packet, and send back whatever bytes come, frames or not."""
    request, data = read_head(sock)
    sock.sendall(accept(request, Policy()).response + b"hello " + data)
    copy(sock, sock)


def copy(source: socket.socket, sink: socket.socket) -> None:
    """Until the end of the stream, which is handed on."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class Proxy:
    """A proxy for CONNECT, SOCKS 4, 4a and 5, whatever comes; every name is 127.0.0.1 to it.

    Attributes:
        asked: HOST:PORT of every connection, as it was asked for.
        account: user and password that CONNECT and SOCKS 5 must come with, if any.
    """

    def __init__(self, account: tuple[str, str] | None = None) -> None:
        self.asked: list[str] = []
        self.account = account

    def __call__(self, sock: socket.socket) -> None:
        match sock.recv(1, socket.MSG_PEEK) if not isinstance(sock, ssl.SSLSocket) else b"C":
            case b"\x04":
                self._socks4(sock)
            case b"\x05":
                self._socks5(sock)
            case b"C":
                self._http(sock)

    def _http(self, sock: socket.socket) -> None:
        request, _ = read_head(sock)
        if self.account is not None:
            wanted = "Basic " + b64encode(":".join(self.account).encode()).decode()
            if request.headers.get("Proxy-Authorization") != wanted:
                sock.sendall(
                    b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
                )
                return
        host, _, port = request.target.rpartition(":")
        self._relay(
            sock, host, int(port), b"HTTP/1.1 200 Connection established\r\n\r\n", b"HTTP/1.1 502 No\r\n\r\n"
        )

    def _socks4(self, sock: socket.socket) -> None:
        with sock.makefile("rb", buffering=0) as file:
            _, _, port, address = struct.unpack(">BBH4s", file.read(8))
            _user = self._string(file)
            host = self._string(file) if address[:3] == bytes(3) else socket.inet_ntoa(address)
            self._relay(sock, host, port, b"\0\x5a" + bytes(6), b"\0\x5b" + bytes(6))

    def _string(self, file: object) -> str:
        data = b""
        while (byte := file.read(1)) not in (b"\0", b""):  # type: ignore[attr-defined]
            data += byte
        return data.decode()

    def _socks5(self, sock: socket.socket) -> None:
        with sock.makefile("rb", buffering=0) as file:
            methods = file.read(file.read(2)[1])
            if self.account is not None:
                if 2 not in methods:
                    sock.sendall(b"\x05\xff")
                    return
                sock.sendall(b"\x05\x02")
                user = file.read(file.read(2)[1]).decode()
                password = file.read(file.read(1)[0]).decode()
                good = (user, password) == self.account
                sock.sendall(b"\x01" + (b"\0" if good else b"\x01"))
                if not good:
                    return
            else:
                sock.sendall(b"\x05\0")
            kind = file.read(4)[3]
            if kind == 3:
                host = file.read(file.read(1)[0]).decode()
            else:
                size, family = (4, socket.AF_INET) if kind == 1 else (16, socket.AF_INET6)
                host = socket.inet_ntop(family, file.read(size))
            (port,) = struct.unpack(">H", file.read(2))
            address = b"\x01" + bytes(6)
            self._relay(sock, host, port, b"\x05\0\0" + address, b"\x05\x05\0" + address)

    def _relay(self, sock: socket.socket, host: str, port: int, yes: bytes, no: bytes) -> None:
        self.asked.append(f"{host}:{port}")
        try:
            there = socket.create_connection(("127.0.0.1", port))
        except OSError:
            sock.sendall(no)
            return
        with there:
            sock.sendall(yes)
            back = threading.Thread(target=copy, args=(there, sock))
            back.start()
            copy(sock, there)
            back.join()


def wait(sock: socket.socket) -> None:
    """Read to the end and say nothing."""
    while sock.recv(1000):
        pass


def hang_up(sock: socket.socket) -> None:
    """Say nothing and go."""
