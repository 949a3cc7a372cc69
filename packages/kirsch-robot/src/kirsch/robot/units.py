"""Units' states as kirschd tells them: the stream of events, followed in a thread."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.application import resolve

Line = Mapping[str, Any]

# Seconds before a stream that has ended is asked for again.
AGAIN = 0.2


class UnitStates:
    """The last that was said of each unit."""

    def __init__(self, client: Client) -> None:
        self._lines: dict[str, Line] = {}
        self._news = threading.Condition()
        threading.Thread(target=self._follow, args=(client,), name="units", daemon=True).start()

    def wait_for(self, name: str, condition: Callable[[Line], bool], timeout: float) -> Line | None:
        """Return a unit's line once it is so, None once time is up. The name's type may be left out."""
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                line = find(self._lines, name)
                if line is not None and condition(line):
                    return line
                if not self._news.wait(max(0.0, deadline - time.monotonic())):
                    return None

    def last(self, name: str) -> str:
        """Return the last known state of a unit, in words."""
        with self._news:
            line = find(self._lines, name)
        return describe(line) if line else "unknown"

    def _follow(self, client: Client) -> None:
        # Of several machines another one goes on telling.
        while True:
            try:
                for event in client.stream("/kirsch/v1/events"):
                    with self._news:
                        for line in event["units"]:
                            self._lines[line["name"]] = {} if line.get("gone") else line
                        self._news.notify_all()
            except ClientError:
                pass
            if not client.transport.several:
                return  # kirschd is gone; who waits for a unit waits in vain, and says so
            time.sleep(AGAIN)


def find(lines: Mapping[str, Line], name: str) -> Line | None:
    """A unit's line, by a name as people type it; None if there is none. Raises ApplicationError when
    several units are called so."""
    known = [key for key, line in lines.items() if line]
    stems = {key.rpartition(".")[0] for key in known}
    return lines.get(resolve(name, known)) if name in stems or name in known else None


def is_in(line: Line, state: str) -> bool:
    """Return True if a unit is in a state: systemd's active or sub state, or `ready`."""
    if state == "ready":
        return bool(line["ready"] and line["settled"])
    return state in (line["active"], line["sub"])


def describe(line: Line) -> str:
    """A unit's state in words: active (running), ready."""
    ready = ", ready" if line["ready"] else ""
    reasons = "".join(f"; {reason}" for reason in line["reasons"])
    return f"{line['active']} ({line['sub']}){ready}{reasons}"
