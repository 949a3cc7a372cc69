"""Clients and a witness: requests through the published port, and which processes there are."""

import http.client
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from tests.faults.application import MARK

# Seconds after which somebody tries again.
IMPATIENCE = 2.0
# Seconds between two requests of one client, and between two looks at the processes.
PACE = 0.02
LOOK = 0.05


class Client:
    """One request after another, in a thread; the times at which one was answered well."""

    def __init__(self, port: int, request: Callable[[], tuple[str, str]]) -> None:
        self.answered: list[float] = [time.monotonic()]
        self.acknowledged: set[str] = set()
        self._port = port
        self._request = request
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def longest_gap(self, since: float) -> float:
        """The longest time without a good answer since a moment."""
        times = [since, *(at for at in self.answered if at > since)]
        return max((after - before for before, after in pairwise(times)), default=0.0)

    def answers_since(self, moment: float) -> bool:
        return self.answered[-1] > moment

    def close(self) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(PACE):
            method, path = self._request()
            if ask(self._port, method, path) is not None:
                self.acknowledged.add(path.rpartition("/")[2])
                self.answered.append(time.monotonic())


def ask(port: int, method: str, path: str, patience: float = IMPATIENCE) -> bytes | None:
    """The body of a good answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class Witness:
    """All processes of this computer, and so those of its machines: which of `once@` ran twice, and how long.

    A process of a paused machine does nothing, and does not count.
    """

    def __init__(self) -> None:
        self.paused: set[str] = set()
        self.twice: dict[str, float] = defaultdict(float)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._done.wait(LOOK):
            now = time.monotonic()
            for mark, places in running().items():
                if len(places - self.paused) > 1:
                    self.twice[mark] += now - last
            last = now


def running() -> dict[str, set[str]]:
    """For each unit of `once@` the PID namespaces, and so the machines, that run it."""
    found: dict[str, set[str]] = defaultdict(set)
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if len(words) > 1 and words[1].startswith(MARK.encode()):
                found[words[1].decode()].add(namespace(folder.name))
        except OSError:
            continue
    return found


def namespace(pid: str) -> str:
    """The PID namespace of a process."""
    return os.readlink(f"/proc/{pid}/ns/pid")
