"""Exceptions of this package."""

import logging


class WebSocketError(Exception):
    """Base class of this package's exceptions."""


class ProtocolError(WebSocketError):
    """The peer broke RFC 6455 or 7692, or a limit of ours.

    `code` is the close code (RFC 6455, 7.4), `reason` one line for logs and the close frame.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} (close code {code})")
        self.code = code
        self.reason = reason


class HandshakeError(WebSocketError):
    """The handshake failed: HTTP status, reason and header fields of the response.

    A server sends that response, with the reason as its body if `body` is None; a client has received it;
    `status` is 0 where there was none.
    """

    def __init__(
        self, status: int, reason: str, headers: tuple[tuple[str, str], ...] = (), body: bytes | None = None
    ) -> None:
        super().__init__(f"{reason} (HTTP status {status})" if status else reason)
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body

    @property
    def level(self) -> int:
        """Level of logging: a page that was asked for is no failure."""
        return logging.INFO if 200 <= self.status < 400 else logging.WARNING


class Closed(WebSocketError):
    """The connection is closing or closed: its close code and reason (RFC 6455, 7.1.5 and 7.1.6)."""

    def __init__(self, code: int, reason: str = "") -> None:
        # The reason comes from the peer: it must not break the line or control the terminal.
        shown = reason if reason.isprintable() else reason.encode("unicode_escape").decode()
        super().__init__(f"the connection is closed: {code} {shown}".rstrip())
        self.code = code
        self.reason = reason


class Slow(WebSocketError):
    """The peer reads more slowly than messages are sent. Nothing was queued; `drain()` waits for room."""

    def __init__(self, buffered: int, limit: int) -> None:
        super().__init__(f"{buffered} bytes wait to be sent, the limit is {limit}: drain() first")
        self.buffered = buffered
        self.limit = limit
