"""A client that is only a socket and a Protocol: it says what a test wants, when it wants."""

import contextlib
import select
import socket
import ssl
import struct
import threading

from kirsch.websocket import Limits, Protocol
from kirsch.websocket.core.frame import header, mask

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PATIENCE = 20


def masked(payload, first=0x82):
    return header(first, len(payload), True) + b"abcd" + mask(payload, b"abcd")


def closing(code, reason=b""):
    return masked(code.to_bytes(2) + reason, 0x88)


class Peer:
    """The other end of `sock`, once the handshake is over."""

    def __init__(self, sock, stream=False):
        sock.settimeout(PATIENCE)
        self.sock = sock
        self.protocol = Protocol(client=True, stream=stream, limits=Limits(message=None, queue=1 << 30))
        self.events = []

    def send(self, *messages):
        """All in one piece."""
        said = b""
        for message in messages:
            self.protocol.send(message)
            while self.protocol.pending:
                said += b"".join(self.protocol.take())
        self.sock.sendall(said)

    def flush(self):
        self.sock.sendall(b"".join(self.protocol.take()))

    def ping(self, data=b""):
        self.protocol.ping(data)
        self.flush()

    def close(self, code=1000, reason=""):
        self.protocol.close(code, reason)
        self.flush()

    def answer(self, event):
        self.protocol.answer(event)
        self.flush()

    def next(self):
        """The next event; None at the end of the stream."""
        while not self.events:
            data = self.sock.recv(1 << 18)
            if not data:
                return None
            self.events += self.protocol.receive(data)
        return self.events.pop(0)

    def ended(self):
        """Whether the server has ended the connection, after all that is there."""
        with contextlib.suppress(ConnectionResetError, ssl.SSLError):
            while self.sock.recv(1 << 18):
                pass
        return True

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send_until_stuck(self, data):
        """How many bytes went out before the server stopped to read."""
        left = memoryview(data)
        self.sock.settimeout(0)
        while left and select.select((), (self.sock,), (), 0.3)[1]:
            left = left[self.sock.send(left[: 1 << 18]) :]
        self.sock.settimeout(PATIENCE)
        return len(data) - len(left)

    @contextlib.contextmanager
    def sending(self, data):
        """Send in a thread, which has to be done in the end."""
        thread = threading.Thread(target=self.sock.sendall, args=(data,))
        thread.start()
        yield thread
        thread.join(PATIENCE)
        assert not thread.is_alive()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


def connected(address, *, ssl=None, small=False):
    """A socket of a server's; `small`: one that takes little."""
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    if small:
        for name in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, name, 1 << 16)
    sock.connect(address)
    return sock if ssl is None else ssl.wrap_socket(sock, server_hostname="127.0.0.1")


def head(sock):
    """The head of a response."""
    said = b""
    while not said.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, said
        said += byte
    return said


def dial(address, request=REQUEST, stream=False, **options):
    """A Peer of a server, its handshake done; by TCP or a Unix socket. `stream`: it is told of chunks."""
    sock = connected(address, **options)
    sock.sendall(request)
    said = head(sock)
    assert said.startswith(b"HTTP/1.1 101 "), said
    return Peer(sock, stream)
