"""Whoever started a kirschd, where that is to be told."""

import json
import logging
import socket
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Parent:
    """Whoever started this kirschd, at the other end of a socket; nobody if `fd` is None."""

    def __init__(self, fd: int | None) -> None:
        self.socket = socket.socket(fileno=fd) if fd is not None else None
        if self.socket:
            self.socket.set_inheritable(False)

    def tell(self, **message: object) -> None:
        """Say that we are ready, or why not."""
        if self.socket:
            try:
                self.socket.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                log.warning("whoever started kirschd is gone already")

    def when_gone(self, act: Callable[[], object]) -> None:
        """Act once the other end closes, also by kill -9."""

        def wait() -> None:
            if self.socket:
                self.socket.recv(1)
                log.info("whoever started kirschd is gone")
                act()

        threading.Thread(target=wait, name="parent", daemon=True).start()
