"""A client that is only a socket and a Protocol: it says what a test wants, when it wants."""

import socket

from kirsch.websocket import Protocol

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PATIENCE = 20


class Peer:
    """The other end of `sock`, once the handshake is over."""

    def __init__(self, sock, stream=False):
        sock.settimeout(PATIENCE)
        self.sock = sock
        self.protocol = Protocol(client=True, stream=stream)
        self.events = []

    def send(self, *messages):
        """All in one piece."""
        said = b""
        for message in messages:
            self.protocol.send(message)
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

    def next(self):
        """The next event; None at the end of the stream."""
        while not self.events:
            data = self.sock.recv(1 << 18)
            if not data:
                return None
            self.events += self.protocol.receive(data)
        return self.events.pop(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


def dial(address, request=REQUEST, stream=False):
    """A Peer of a server, its handshake done; plain TCP or a Unix socket. `stream`: it is told of chunks."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    sock.connect(address)
    sock.sendall(request)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101 "), head
    return Peer(sock, stream)
