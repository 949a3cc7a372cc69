"""TLS for cheroot (11.1, pinned): handshakes that hold no thread and keep nobody waiting, however slow.

cheroot's own is done where connections are accepted: whoever says nothing then keeps everybody else out. Here
each is a step whenever bytes have come, and a connection is the server's once it is through.
"""

import logging
import select
import socket
import ssl
from collections.abc import Callable

from cheroot.ssl.builtin import BuiltinSSLAdapter

_PIECE = 1 << 16
_REASONS = {
    "HTTP_REQUEST": "it speaks HTTP without TLS",
    "WRONG_VERSION_NUMBER": "it speaks no TLS",
    "UNSUPPORTED_PROTOCOL": "its TLS is too old",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has no certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know our certificate's authority",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept our certificate",
}


class TLS(BuiltinSSLAdapter):
    """TLS as a context says; cheroot's own adapters want to read certificates from files.

    The handshake is a Handshake's, or done with the first read. So environ tells no more than that there is
    TLS.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    def wrap(self, sock: socket.socket) -> tuple[ssl.SSLSocket, dict[str, str]]:
        wrapped = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return wrapped, {"wsgi.url_scheme": "https", "HTTPS": "on"}


class Handshake:
    """One connection's handshake, from when it is accepted; its socket does not block meanwhile.

    `events` are those of epoll(7) to wait for before the next step. After a failure, which is one line for
    `log`, the rest of what the client says is read and dropped, so that it gets to read why.
    """

    def __init__(self, sock: ssl.SSLSocket, peer: str, log: Callable[[str, int], object]) -> None:
        sock.setblocking(False)
        self.events = select.EPOLLIN
        self._socket = sock
        self._peer = peer
        self._log = log
        self._failed = False

    def step(self) -> bool | None:
        """Go on: True once it is done, None while it is not, False when the connection is to be closed."""
        try:
            if self._failed:
                return self._drain()
            self._socket.do_handshake()
            return True
        except ssl.SSLWantReadError:
            self.events = select.EPOLLIN
        except ssl.SSLWantWriteError:
            self.events = select.EPOLLOUT
        except ssl.SSLEOFError:
            return False
        except ssl.SSLError as error:
            self._log(f"{self._peer}: no TLS handshake: {_reason(error)}", logging.INFO)
            return self._fail()
        except OSError:
            return False
        return None

    def _fail(self) -> bool | None:
        self._failed = True
        self.events = select.EPOLLIN
        try:
            socket.socket.shutdown(self._socket, socket.SHUT_WR)
            return self._drain()
        except OSError:
            return False

    def _drain(self) -> bool | None:
        try:
            while socket.socket.recv(self._socket, _PIECE):
                pass
        except BlockingIOError:
            return None
        return False


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted, {error.verify_message}"
    return _REASONS.get(error.reason or "", (error.reason or str(error)).replace("_", " ").lower())
