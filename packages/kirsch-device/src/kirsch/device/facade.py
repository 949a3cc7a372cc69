"""A connection to SL4A's facade: calls, one at a time, from any thread."""

import contextlib
import socket
import time
from threading import Lock
from typing import Any

from kirsch.device.error import BadAnswer, LocationError, PermissionDenied
from kirsch.device.rpc import Answer, Answers, request

CONNECT = 5.0  # seconds, for the connection and its handshake
_READ = 64 * 1024


class Late(LocationError):
    """A call had no answer in its time. The answer may still come; it is dropped then."""


class Facade:
    """An authenticated connection. What is raised ends it, but for Late and what SL4A says itself."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._answers = Answers()
        self._ready: list[Answer] = []
        self._lock = Lock()
        # Held while one waits for the lock, which would else go to the thread that has just released it.
        self._turn = Lock()
        self._last = 0
        self.broken = False

    @classmethod
    def connect(cls, host: str, port: int, handshake: str, timeout: float = CONNECT) -> "Facade":
        """Connect and authenticate. Raises LocationError."""
        try:
            sock = socket.create_connection((host, port), timeout)
        except (OSError, UnicodeError) as error:
            raise LocationError(f"SL4A does not answer at {host}:{port}: {_why(error)}") from None
        facade = cls(sock)
        try:
            facade.call("_authenticate", handshake, timeout=timeout)
        except LocationError as error:
            refused = not facade.broken and not isinstance(error, Late)
            facade.close()
            why = "AP_HANDSHAKE is not the one it gave" if refused else str(error)
            raise LocationError(f"SL4A does not take the handshake: {why}") from None
        return facade

    def call(self, method: str, *params: Any, timeout: float) -> Any:
        """Call a method and return its result.

        Raises LocationError: PermissionDenied if Android does not allow it, Late after `timeout` seconds,
        BadAnswer, or that the connection is gone.
        """
        deadline = time.monotonic() + timeout
        if not self._acquire(deadline):
            raise Late(f"SL4A was busy for {timeout:g} s")
        try:
            self._last += 1
            self._send(request(self._last, method, *params), deadline)
            answer = self._receive(self._last, deadline)
        except Late:
            raise Late(f"SL4A did not answer {method} within {timeout:g} s") from None
        except OSError as error:
            self.broken = True
            raise LocationError(f"SL4A has gone: {_why(error)}") from None
        except BadAnswer:
            self.broken = True
            raise
        finally:
            self._lock.release()
        if answer.error:
            raise _failure(method, answer.error)
        return answer.result

    def close(self) -> None:
        """End the connection; a call that waits fails."""
        self.broken = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _acquire(self, deadline: float) -> bool:
        """Take the lock in turn; return False where it is not free by the deadline."""
        if not self._turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return False
        try:
            return self._lock.acquire(timeout=max(0.0, deadline - time.monotonic()))
        finally:
            self._turn.release()

    def _send(self, data: bytes, deadline: float) -> None:
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        self._socket.sendall(data)

    def _receive(self, number: int, deadline: float) -> Answer:
        while True:
            while self._ready:
                answer = self._ready.pop(0)
                if answer.id == number:
                    return answer
                if answer.id > number:
                    raise BadAnswer(f"SL4A answers call {answer.id}, which was not made")
                # Of a call that was given up.
            left = deadline - time.monotonic()
            if left <= 0:
                raise Late
            self._socket.settimeout(left)
            try:
                received = self._socket.recv(_READ)
            except TimeoutError:
                raise Late from None
            if not received:
                raise ConnectionResetError(0, "it closed the connection")
            self._ready += self._answers.feed(received)


def _failure(method: str, error: str) -> LocationError:
    said = error.lower()
    if "securityexception" in said or "permission" in said:
        return PermissionDenied(f"SL4A may not use the location: allow it in Android's settings ({error})")
    return LocationError(f"SL4A's {method} failed: {error}")


def _why(error: OSError | UnicodeError) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
