"""A stand-in for SL4A's server: its JSON-RPC as its documentation has it. Nobody has a phone here."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

HANDSHAKE = "5c1d-cherry"
GPS = {
    "provider": "gps",
    "latitude": 50.0899,
    "longitude": 14.4,
    "altitude": 255.5,
    "accuracy": 8.0,
    "speed": 1.5,
    "bearing": 90.0,
    "time": 1_769_860_800_000,
}
SECURITY = "java.lang.SecurityException: uid 10086 does not have android.permission.ACCESS_FINE_LOCATION"


class Sl4aStandIn:
    """Listens on 127.0.0.1; answers one call of a connection after the other, as SL4A does.

    Attributes:
        location: what readLocation returns: a location for each provider. last: getLastKnownLocation.
        answers: method -> what to say in its place: a function of the call's id, that returns bytes; None
            says nothing.
        calls: what was called, with its params.
    """

    def __init__(self, port: int = 0, piece: int = 0) -> None:
        self.piece = piece
        self.location: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        self.answers: dict[str, Callable[[int], bytes | None]] = {}
        self.calls: list[tuple[str, list[Any]]] = []
        self._moved = threading.Condition()
        self._closed = False
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def environment(self) -> dict[str, str]:
        return {"AP_HOST": "127.0.0.1", "AP_PORT": str(self.port), "AP_HANDSHAKE": HANDSHAKE}

    def move(self, **locations: Any) -> None:
        """The phone is elsewhere; who waits for the event is told."""
        with self._moved:
            self.location = locations
            self._moved.notify_all()

    def cut(self) -> None:
        """Connections end; others may come."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Nothing is here any more."""
        with self._moved:
            self._closed = True
            self._moved.notify_all()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> "Sl4aStandIn":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def called(self, method: str) -> int:
        return sum(name == method for name, _ in self.calls)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(sock)
            self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
            self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        known = False
        with sock, contextlib.suppress(OSError), sock.makefile("rb") as lines:
            for line in lines:
                call = json.loads(line)
                method, params = call["method"], call["params"]
                self.calls.append((method, params))
                if method in self.answers:
                    said = self.answers[method](call["id"])
                    if said is not None:
                        self._send(sock, said)
                        known = True
                    continue
                if method == "_authenticate":
                    known = params == [HANDSHAKE]
                if not known:
                    wrong = {"error": "java.lang.SecurityException: Authentication failed!", "result": None}
                    self._send(sock, line_of(call["id"], **wrong))
                    return
                self._send(sock, line_of(call["id"], result=self._result(method, params)))

    def _result(self, method: str, params: list[Any]) -> Any:
        if method == "_authenticate":
            return True
        if method == "readLocation":
            return self.location
        if method == "getLastKnownLocation":
            return self.last
        if method == "eventWaitFor":
            with self._moved:
                before = self.location
                moved = self._moved.wait_for(
                    lambda: self._closed or self.location is not before, params[1] / 1000
                )
                return {"name": "location", "data": self.location} if moved else None
        assert method in ("startLocating", "stopLocating", "eventClearBuffer"), method
        return None

    def _send(self, sock: socket.socket, data: bytes) -> None:
        if not self.piece:
            sock.sendall(data)
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), self.piece):
            sock.sendall(data[start : start + self.piece])


def line_of(number: int, result: Any = None, error: Any = None) -> bytes:
    """An answer as it goes over the wire."""
    return json.dumps({"error": error, "id": number, "result": result}).encode() + b"\n"
