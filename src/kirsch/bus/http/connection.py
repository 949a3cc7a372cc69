"""One client's connection: its socket, what it waits for, and what waits for it.

At any time one thread has it: whichever epoll(7) woke, for it is watched with EPOLLONESHOT.
"""

import contextlib
import fcntl
import select
import socket
import ssl
import struct
import sys
import termios
import time
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from kirsch.bus.http.limits import Limits, Phase
from kirsch.bus.http.output import FilePart, Output, Spool
from kirsch.bus.http.request import Reader, Refused, Request
from kirsch.bus.http.response import CONTINUE
from kirsch.bus.http.stream import Stream
from kirsch.bus.http.wsgi import Environ, Handover, close_input

IN, OUT = select.EPOLLIN, select.EPOLLOUT
_PIECE = 1 << 16
_REASONS = {
    "HTTP_REQUEST": "the client speaks HTTP without TLS",
    "WRONG_VERSION_NUMBER": "the client does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "the client's TLS is too old",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client has no certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not know the authority of the server's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client does not accept the server's certificate",
}


class HandshakeError(Exception):
    """A TLS handshake that failed; the message says why."""


class Gone(Exception):
    """The client is gone, or takes its answer too slowly: nothing more can be sent."""


class Connection:
    """A connection whose socket does not block. Methods raise OSError, and Gone where they send an answer."""

    __slots__ = (
        "armed", "close_after", "environ", "events", "fd", "handover", "host", "limits", "moved", "output",
        "phase", "reader", "request", "since", "socket", "streams", "taken", "waited",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        host: str,
        limits: Limits,
        spool: Spool,
        streams: "Callable[[Connection, Request], bool]" = lambda connection, request: False,
    ) -> None:
        self.socket = sock
        self.fd = sock.fileno()
        # The client's address, without its port; empty on a Unix socket.
        self.host = host
        self.limits = limits
        self.reader = Reader(limits)
        self.output = Output(limits.memory, spool)
        self.environ: Environ = {}
        # A complete request that nobody has answered yet.
        self.request: Request | None = None
        self.phase = Phase.SILENT
        self.since = time.monotonic()
        # Of an answer that waits: bytes that the client has taken, and when that grew last.
        self.taken = 0
        self.moved = self.since
        # True while epoll watches it, and no thread has it.
        self.armed = False
        self.events = IN
        # True where it ends with the answer that waits.
        self.close_after = False
        # What takes it over after the answer that waits, a 101.
        self.handover: Handover | None = None
        # Asked once a head has come whose body has not: True where the application reads that itself.
        self.streams = streams
        # Seconds that the application has waited for the body that is streamed.
        self.waited = 0.0

    def late(self, now: float) -> bool:
        """True once its client has had its time, or has taken nothing of an answer for a while."""
        if self.phase is not Phase.ANSWER:
            return self.limits.deadline(self.phase, self.since, self.reader.received) < now
        taken = self.output.sent - _unsent(self.socket)
        if taken > self.taken:
            self.taken, self.moved = taken, now
        stalled = now - self.moved > self.limits.timeout
        return stalled or self.limits.deadline(self.phase, self.since, taken) < now

    def enter(self, phase: Phase, events: int = IN) -> None:
        """Wait for something else from now on."""
        self.phase = phase
        self.events = events
        self.since = self.moved = time.monotonic()
        self.taken = 0

    def handshake(self) -> bool:
        """Go on with TLS's handshake: True once it is done. Raises HandshakeError."""
        assert isinstance(self.socket, ssl.SSLSocket)
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            self.events = IN
            return False
        except ssl.SSLWantWriteError:
            self.events = OUT
            return False
        except ssl.SSLCertVerificationError as error:
            raise HandshakeError(
                f"the client's certificate is not accepted, {error.verify_message}"
            ) from None
        except ssl.SSLEOFError:
            raise ConnectionResetError from None
        except ssl.SSLError as error:
            reason = error.reason or str(error)
            raise HandshakeError(_REASONS.get(reason, reason.replace("_", " ").lower())) from None
        self.environ.update(_tls_environ(self.socket))
        self.enter(Phase.SILENT)
        return True

    def receive(self) -> Request | None:
        """Read what has come: the next request once it is complete. Raises Refused, EOFError."""
        data = self._read()
        if data is None:
            return None
        self.reader.feed(data)
        return self.next()

    def _read(self) -> bytes | None:
        """Read what has come, None where nothing has. Raises Refused, EOFError."""
        try:
            data = self.socket.recv(_PIECE)
            if isinstance(self.socket, ssl.SSLSocket):
                while pending := self.socket.pending():
                    data += self.socket.recv(pending)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except ssl.SSLError as error:
            raise ConnectionResetError(error.reason) from None
        if not data:
            self.reader.end()
            raise EOFError
        return data

    def next(self) -> Request | None:
        """Take the next request of what was read; what is waited for follows from that. Raises Refused."""
        reader = self.reader
        request = self.request = reader.take()
        if request is not None:
            return request
        coming = reader.coming
        if coming is not None and self.phase is not Phase.BODY:
            self.enter(Phase.BODY)
            if self.streams(self, coming):
                return self._stream(coming)
        self._continue()
        if coming is not None:
            return None
        if reader.started and self.phase is not Phase.HEAD:
            # The first request of a connection has its time since it was accepted.
            since = self.since
            silent = self.phase is Phase.SILENT
            self.enter(Phase.HEAD)
            self.since = since if silent else self.since
        return None

    def _continue(self) -> None:
        if self.reader.continues:
            self.reader.continues = False
            self.output.put(CONTINUE)
            self.output.send(self.socket)  # a client that has just begun takes as little at once

    def _stream(self, request: Request) -> Request:
        """Return a request whose body is read from the connection while it comes."""
        self.request = request
        self.waited = 0.0
        if "transfer-encoding" in request.fields:
            request.length = None
        request.body = cast(BinaryIO, Stream(request.body, self._more))
        return request

    def _more(self) -> bool:
        """Wait for more of a body that is streamed; True at its end. Raises Refused, OSError."""
        self._continue()
        while (data := self._read()) is None:
            left = self.limits.deadline(Phase.BODY, -self.waited, self.reader.received)
            if left <= 0:
                raise Refused(408, "The request's body came too slowly.")
            began = time.monotonic()
            poll = select.poll()
            poll.register(self.fd, select.POLLIN)
            poll.poll(left * 1000)
            self.waited += time.monotonic() - began
        self.reader.feed(data)
        return self.reader.take() is not None

    def write(self, data: bytes) -> None:
        """Send bytes of an answer, or keep them until the client takes them.

        Beyond `Limits.spool` this waits. Raises Gone; Full where too many wait already.
        """
        output = self.output
        try:
            if not output:
                count = self._send(data)
                if count == len(data):
                    return
                self.enter(Phase.ANSWER, OUT)
                data = data[count:]
            output.put(data)
            if not output.send(self.socket) and output.crowded(self.limits.answer):
                with output.waiting():
                    self._relieve()
        except OSError as error:
            raise Gone from error

    def write_file(self, part: FilePart, head: bytes) -> None:
        """Send part of a file after a head. The part is the connection's from now on. Raises Gone."""
        try:
            self.output.put(head)
            self.output.put_file(part)
            if not self.output.send(self.socket) and self.phase is not Phase.ANSWER:
                self.enter(Phase.ANSWER, OUT)
        except OSError as error:
            raise Gone from error

    def _send(self, data: bytes) -> int:
        try:
            count = self.socket.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        self.output.sent += count
        return count

    def _relieve(self) -> None:
        """Wait until the client has taken half of its share, or there is room again."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        while self.output.crowded(self.limits.answer // 2):
            if self.late(time.monotonic()):
                raise TimeoutError("the client takes the answer too slowly")
            poll.poll(min(self.limits.timeout, 1.0) * 1000)
            self.output.send(self.socket)

    def finish(self) -> bool:
        """End the sending side, once all is sent: True where the client is to be waited for."""
        with contextlib.suppress(OSError):
            if isinstance(self.socket, ssl.SSLSocket) and self.phase is not Phase.HANDSHAKE:
                with contextlib.suppress(ssl.SSLError, ValueError):
                    self.socket.unwrap()
            self.socket.shutdown(socket.SHUT_WR)
            self.enter(Phase.CLOSING)
            return self.drop()
        return False

    def drop(self) -> bool:
        """Read and drop what still comes: False once nothing does."""
        try:
            # A few pieces at a time, for others wait too.
            for _ in range(16):
                if not self.socket.recv(_PIECE):
                    return False
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close it and drop what waits."""
        try:
            self.output.close()
            self.reader.close()
            if self.request is not None:
                close_input(self.request.body)
        finally:
            with contextlib.suppress(OSError):
                self.socket.close()


def _unsent(sock: socket.socket) -> int:
    """Return the bytes that the kernel has of an answer and the client has not taken."""
    size = fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(size, sys.byteorder)


def peer_environ(sock: socket.socket) -> Environ:
    """Return what the kernel knows of the client of a Unix socket: its process, user and group."""
    size = struct.calcsize("3i")
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return {"X_REMOTE_PID": str(pid), "X_REMOTE_UID": str(uid), "X_REMOTE_GID": str(gid)}


def _tls_environ(sock: ssl.SSLSocket) -> Environ:
    """Return what a connection's TLS says, by the names that Apache's mod_ssl gave it."""
    cipher = sock.cipher()
    environ: Environ = {
        "HTTPS": "on",
        "SSL_PROTOCOL": sock.version() or "",
        "SSL_CIPHER": cipher[0] if cipher else "",
        "SSL_CLIENT_VERIFY": "NONE",
    }
    certificate: dict[str, Any] | None = sock.getpeercert()
    encoded = sock.getpeercert(binary_form=True)
    if certificate and encoded:
        names = [pair for part in certificate.get("subject", ()) for pair in part]
        environ |= {
            "SSL_CLIENT_VERIFY": "SUCCESS",
            "SSL_CLIENT_CERT": ssl.DER_cert_to_PEM_cert(encoded),
            "SSL_CLIENT_M_SERIAL": certificate.get("serialNumber", ""),
            "SSL_CLIENT_S_DN": ",".join(f"{name}={value}" for name, value in names),
            "SSL_CLIENT_S_DN_CN": _named(names, "commonName"),
            "SSL_CLIENT_S_DN_O": _named(names, "organizationName"),
            "SSL_CLIENT_I_DN_CN": _named(
                [pair for part in certificate.get("issuer", ()) for pair in part], "commonName"
            ),
        }
    return environ


def _named(names: list[tuple[str, str]], wanted: str) -> str:
    """Return the first value of a name in a certificate; empty if there is none."""
    return next((value for name, value in names if name == wanted), "")
