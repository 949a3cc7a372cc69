"""What can go wrong on a WebSocket, each kind a class."""


class WebSocketError(Exception):
    """Any of this package's errors."""


class ProtocolError(WebSocketError):
    """The peer broke RFC 6455 or 7692, or a limit of ours.

    `code` is the close code that says so (RFC 6455, 7.4), `reason` one line for logs and the close frame.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} (close code {code})")
        self.code = code
        self.reason = reason


class HandshakeError(WebSocketError):
    """There will be no WebSocket: the HTTP status that says so, the reason, and header fields to go with it.

    On a server it is what is answered, on a client what came back; `status` is 0 where no response came.
    """

    def __init__(self, status: int, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"{reason} (HTTP status {status})" if status else reason)
        self.status = status
        self.reason = reason
        self.headers = headers


class Closed(WebSocketError):
    """The connection is closing or closed: its close code and reason (RFC 6455, 7.1.5 and 7.1.6)."""

    def __init__(self, code: int, reason: str = "") -> None:
        # The peer's words: none of them is to begin a line, or to move a cursor.
        shown = reason if reason.isprintable() else reason.encode("unicode_escape").decode()
        super().__init__(f"the connection is closed: {code} {shown}".rstrip())
        self.code = code
        self.reason = reason


class Slow(WebSocketError):
    """The peer reads more slowly than messages are sent: nothing was queued; `drain()` waits for room."""

    def __init__(self, buffered: int, limit: int) -> None:
        super().__init__(f"{buffered} bytes wait to be sent, the limit is {limit}: drain() first")
        self.buffered = buffered
        self.limit = limit
