"""Waiting until units are as they are wanted."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kirsch.cli.errors import Failure
from kirsch.cli.tables import reasons_of
from kirsch.cluster.client import Client

Line = Mapping[str, Any]

# As many names go into a URL; who waits for more is told of all units.
MANY = 200
# Seconds before another machine is asked.
AGAIN = 0.2
NOBODY = "nobody says why"


def changes(client: Client, names: Sequence[str], timeout: float) -> Iterator[Sequence[Line]]:
    """The lines of units as they are, then those that changed, until `timeout` seconds have passed; again as
    they are where another machine goes on telling. Raises Failure when nobody does."""
    for _, event in _events(client, names, timeout):
        yield event["units"]


def pictures(
    client: Client, names: Sequence[str], timeout: float
) -> Iterator[Mapping[str, Mapping[str, Line]]]:
    """All lines of units as they are, by name and machine, again at each change; as `changes` ends and
    raises."""
    known: dict[str, dict[str, Line]] = {}
    for first, event in _events(client, names, timeout):
        if first:
            known = {name: {} for name in names}
        for line in event.get("left", ()):
            if line["name"] in known:
                known[line["name"]].pop(line["machine"], None)
        for line in event["units"]:
            if line["name"] in known and line.get("gone"):
                known[line["name"]].clear()
            elif line["name"] in known:
                known[line["name"]][line["machine"]] = line
        yield known


def _events(client: Client, names: Sequence[str], timeout: float) -> Iterator[tuple[bool, Line]]:
    """Messages of the stream, each with whether it is a machine's first, which has all lines."""
    query = {"unit": list(names)} if len(names) <= MANY else {}
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        first = True
        for event in client.stream("/kirsch/v1/events", timeout=left, **query):
            yield first, event
            first = False
        if time.monotonic() < deadline:
            if not client.reach.several:
                raise Failure("kirschd ended meanwhile; what was asked of it may be done")
            time.sleep(AGAIN)


def wait(
    client: Client,
    names: Sequence[str],
    done: Callable[[Line], bool],
    timeout: float,
    hopeless: Callable[[Line], str] = lambda line: "",
) -> list[Line]:
    """The units' lines once all are as wanted.

    Raises Failure when one cannot be, which `hopeless` may know more of in words, or time is up."""
    waiting, finished = set(names), []
    lines: dict[str, Line] = {}
    for changed in changes(client, names, timeout) if names else ():
        for line in changed:
            name = line["name"]
            lines[name] = line
            if name not in waiting:
                continue
            if line.get("gone") or done(line):
                waiting.discard(name)
                if not line.get("gone"):
                    finished.append(line)
            elif reason := _hopeless(line) or hopeless(line):
                raise Failure(f"{name} {reason}: {reasons_of(line)}")
        if not waiting:
            break
    if waiting:
        name = min(waiting)
        reasons = reasons_of(lines[name]) if name in lines else ""
        raise Failure(f"{name} is not there after {timeout:g} s: {reasons or NOBODY}")
    return finished


def _hopeless(line: Line) -> str:
    """Why there is nothing to wait for."""
    if line["active"] == "failed" and line["settled"] and line["desired"] == "launched":
        return "failed"
    return "cannot be scheduled" if line["refused"] else ""


def is_up(line: Line) -> bool:
    """Up is active, and stays so where no Health= tells: a program that ends at once is not up."""
    runs = line["active"] in ("active", "reloading") and (line["ready"] or line["checked"])
    return bool(line["settled"] and (runs or line["finished"]))
