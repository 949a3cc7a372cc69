"""A provider of one's own: blocking sockets, a thread for each connection. It serves an echo."""

import contextlib
import select
import socket
import sys
import threading
import time

from kirsch.websocket import HandshakeError, HeadReader, Request, Site, WebSocket, refusal


class Wire:
    """What a WebSocket writes through."""

    buffered = 0  # sendall() keeps nothing back

    def __init__(self, sock: socket.socket, websocket: WebSocket) -> None:
        self.sock, self.websocket, self.writing = sock, websocket, threading.RLock()
        self.gone = threading.Event()
        websocket.guard = threading.Lock()

    def wake(self) -> None:
        try:
            with self.writing:
                while self.websocket.pending:
                    for piece in self.websocket.take():
                        self.sock.sendall(piece)
        except OSError:
            self.abort()

    def drain(self, timeout: float | None) -> None:
        """Nothing waits: send() itself has waited."""

    def wait_closed(self, timeout: float | None) -> bool:
        return self.gone.wait(timeout)

    def abort(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


def shake_hands(sock: socket.socket, peer: str, site: Site) -> tuple[WebSocket, bytes] | None:
    """The connection and what came after its request; None if there is none."""
    reader, request = HeadReader(site.limits, client=False), None
    try:
        while not isinstance(request, Request):
            data = sock.recv(65536)
            if not data:
                return None
            request = reader.feed(data)
        websocket, response = site.open(request, peer)
    except HandshakeError as error:
        sock.sendall(refusal(error))
        return None
    sock.sendall(response)
    return websocket, reader.rest


def carry(sock: socket.socket, websocket: WebSocket, rest: bytes) -> None:
    """Bytes in, and out what they brought about; once a second a look at the clock."""
    wire = Wire(sock, websocket)
    websocket.start(wire)
    websocket.feed(rest)
    wire.wake()
    while not websocket.finished:
        if select.select([sock], [], [], 1)[0]:
            data = sock.recv(65536)
            if not data:
                return
            websocket.feed(data)
            wire.wake()
        websocket.tick(time.monotonic())


def serve(sock: socket.socket, peer: str, site: Site) -> None:
    """One connection, from its first byte to its last."""
    with sock, contextlib.suppress(OSError):
        sock.settimeout(site.limits.handshake_timeout)
        opened = shake_hands(sock, peer, site)
        if opened is not None:
            websocket, rest = opened
            sock.settimeout(site.limits.ping_timeout)
            try:
                carry(sock, websocket, rest)
            finally:
                websocket.ended()
                websocket.wire.gone.set()


class Echo(WebSocket):
    """Sends back what comes."""

    def received_message(self, message: str | bytes | memoryview) -> None:
        self.send(message)


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
    site = Site(Echo)
    with socket.create_server(("127.0.0.1", port)) as listener, contextlib.suppress(KeyboardInterrupt):
        print(f"listening on ws://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
        while True:
            # Not without an end: a Ctrl-C that comes just before a wait is seen only after it.
            if not select.select([listener], [], [], 1)[0]:
                continue
            sock, address = listener.accept()
            peer = f"{address[0]}:{address[1]}"
            threading.Thread(target=serve, args=(sock, peer, site), daemon=True).start()


if __name__ == "__main__":
    main()
