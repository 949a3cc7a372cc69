"""A connection's two directions: cheroot's are made of Python's pure io module, and ask poll(2) each time.

Here the kernel keeps the time (SO_RCVTIMEO, SO_SNDTIMEO, socket(7)), so that receiving and sending are one
system call each, and what is written in pieces leaves in one. With TLS Python's own limit holds (settimeout).
"""

import errno
import socket
import ssl
import struct
import time
from typing import Any

_PIECE = 1 << 16
# Bytes that a peer is to send in a second, beyond its timeout, for a request not to be given up.
_RATE = 500


def keep_time(sock: socket.socket, seconds: float | None) -> None:
    """Have the kernel end what waits for the peer longer than `seconds` (None: never)."""
    sock.settimeout(None)
    whole, part = divmod(seconds or 0, 1)
    value = struct.pack("ll", int(whole), int(part * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)


class Reader:
    """Reads from a socket as a file does. Raises TimeoutError, and OSError as the socket does.

    For all of a request there are `timeout` seconds (None: any time), and one more for every 500 bytes
    that came: a peer that sends a byte now and then keeps nobody for long.
    """

    def __init__(self, sock: socket.socket, timeout: float | None = None) -> None:
        self._socket = sock
        self._timeout = timeout
        self._waited = 0.0
        self._received = 0
        self._buffer = b""
        self.bytes_read = 0
        self.closed = False

    def has_data(self) -> bool:
        """Whether there are bytes that were received and not read."""
        return bool(self._buffer)

    def peek(self) -> bytes:
        """The bytes that were received and not read; nothing is read by that."""
        return self._buffer

    def peek_head(self, limit: int) -> bytes:
        """What a request begins with, up to its empty line if that was received; nothing is read by that.

        Waits for bytes if there are none, and for no more: a head that comes in pieces has no end yet.
        """
        self._waited, self._received = 0.0, 0
        if not self._buffer:
            self._receive()
        end = self._buffer.find(b"\r\n\r\n", 0, limit)
        return self._buffer[: end + 4] if end >= 0 else b""

    def skip(self, size: int) -> None:
        """Read `size` bytes that were peeked at."""
        self._buffer = self._buffer[size:]
        self.bytes_read += size

    def read(self, size: int | None = -1) -> bytes:
        """`size` bytes, fewer only where the stream ends; without a size, all there are up to its end."""
        if size is None or size < 0:
            size = -1
        if len(self._buffer) < size or size < 0:
            pieces = [self._buffer]
            missing = size - len(self._buffer)
            self._buffer = b""
            while (missing > 0 or size < 0) and (piece := self._receive_piece()):
                pieces.append(piece)
                missing -= len(piece)
            self._buffer = b"".join(pieces)
        return self._take(size if size >= 0 else len(self._buffer))

    def readline(self, size: int | None = -1) -> bytes:
        """Bytes up to and with the next newline, or `size` of them, or up to the stream's end."""
        limit = size if size is not None and size >= 0 else None
        searched = 0
        while (end := self._buffer.find(b"\n", searched, limit)) < 0:
            searched = len(self._buffer)
            if (limit is not None and searched >= limit) or not self._receive():
                return self._take(searched if limit is None else limit)
        return self._take(end + 1)

    def close(self) -> None:
        """Read no more; the socket is closed by whoever opened it."""
        self.closed = True
        self._buffer = b""

    def _take(self, size: int) -> bytes:
        data = self._buffer[:size]
        self._buffer = self._buffer[size:]
        self.bytes_read += len(data)
        return data

    def _receive(self) -> bool:
        piece = self._receive_piece()
        self._buffer = self._buffer + piece if self._buffer else piece
        return bool(piece)

    def _receive_piece(self) -> bytes:
        if self._timeout is not None and self._waited > self._timeout + self._received / _RATE:
            raise TimeoutError("timed out")
        began = time.monotonic()
        try:
            piece = self._socket.recv(_PIECE)
            self._waited += time.monotonic() - began
            self._received += len(piece)
            return piece
        except BlockingIOError:
            raise TimeoutError("timed out") from None
        except ssl.SSLError as error:
            raise _gone(error) from None


class Writer:
    """Writes to a socket. Raises TimeoutError, and OSError as the socket does."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._held = b""
        self.bytes_written = 0
        self.closed = False

    def hold(self, data: bytes) -> None:
        """Have these bytes leave with the next."""
        self._held += data

    def write(self, data: bytes) -> int:
        """Send what is held, then `data`. Raises OSError; TimeoutError when the client takes nothing."""
        sent = self._held + data if self._held else data
        self._held = b""
        try:
            self._socket.sendall(sent)
        except BlockingIOError:
            raise TimeoutError("timed out") from None
        except ssl.SSLError as error:
            raise _gone(error) from None
        self.bytes_written += len(sent)
        return len(data)

    def flush(self) -> None:
        """Send what is held."""
        if self._held:
            self.write(b"")

    def close(self) -> None:
        """Write no more."""
        self.closed = True


def _gone(error: ssl.SSLError) -> ConnectionResetError:
    """The peer speaks no TLS, or does not like ours: as good as gone, and that needs no line in the log."""
    return ConnectionResetError(errno.ECONNRESET, error.reason or str(error))


def file_maker(timeout: float | None) -> Any:
    """What makes a Reader or a Writer, as cheroot asks for them; `timeout` as in Reader."""

    def make_file(sock: Any, mode: str = "r", size: int = 0) -> Any:
        return Reader(sock, timeout) if "r" in mode else Writer(sock)

    return make_file
