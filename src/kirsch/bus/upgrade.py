"""A connection leaves cheroot (11.1, pinned): after a 101 it speaks another protocol (RFC 9110, 7.8).

Any cheroot server's may, CherryPy's own too: nothing has to be set up.
"""

import socket
import ssl
import threading
from typing import Any

from cheroot.workers.threadpool import WorkerThread

from kirsch.bus.stream import keep_time


class _Ended:
    """What cheroot finds in the place of both directions: the end of the stream.

    It gives a connection that it would keep alive to a thread once more, which reads that there is no other
    request, and forgets it.
    """

    closed = True  # cheroot ends no connection by force that is closed

    def __init__(self, bytes_read: int, bytes_written: int) -> None:
        self.bytes_read = bytes_read
        self.bytes_written = bytes_written

    def has_data(self) -> bool:
        return True

    def peek_head(self, limit: int) -> bytes:
        return b""

    def read(self, size: int | None = -1) -> bytes:
        return b""

    def readline(self, size: int | None = -1) -> bytes:
        return b""

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def present_connection() -> Any:
    """The connection of the request that this thread answers; None where it is no thread of cheroot's.

    Also None where the connection cannot be had: with TLS by pyOpenSSL.
    """
    thread = threading.current_thread()
    connection = thread.conn if isinstance(thread, WorkerThread) else None
    return connection if connection is not None and isinstance(connection.socket, socket.socket) else None


def leave(connection: Any) -> tuple[socket.socket, bytes]:
    """Have cheroot forget a connection: its socket, and what was received on it after the request.

    For the thread that answers, after the response was given to the server: it is sent here. The socket
    blocks without a time limit. Raises OSError when the response cannot be sent, and the connection is
    cheroot's then.
    """
    reader, writer, sock = connection.rfile, connection.wfile, connection.socket
    writer.flush()
    received: bytes = reader.peek() if reader.has_data() else b""
    if isinstance(sock, ssl.SSLSocket):
        sock.settimeout(None)
        while pending := sock.pending():
            received += sock.recv(pending)
    else:
        keep_time(sock, None)
    selector = connection.server._connections._selector
    if hasattr(selector, "forget"):  # ours: cheroot's has forgotten it already
        selector.forget(sock.fileno())
    connection.linger = True  # cheroot leaves the socket open
    connection.rfile = connection.wfile = _Ended(reader.bytes_read, writer.bytes_written)
    return sock, received
