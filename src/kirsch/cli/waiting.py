"""Waiting until units are as they are wanted."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from kirsch.cli.errors import Failure
from kirsch.cli.names import machine_names, reasons_of
from kirsch.cluster.api.client import Client

Line = Mapping[str, Any]

# As many names go into a URL; who waits for more is told of all units.
MANY = 200
# Seconds before another machine is asked.
AGAIN = 0.2
NOBODY = "nobody says why"


def changes(client: Client, names: Sequence[str], timeout: float) -> Iterator[Sequence[Line]]:
    """The lines of units as they are, then those that changed, until `timeout` seconds have passed; again as
    they are where another machine goes on telling. Raises Failure when nobody does."""
    for _, event in events(client, names, timeout):
        yield event["units"]


def pictures(
    client: Client, names: Sequence[str], timeout: float
) -> Iterator[tuple[Mapping[str, Mapping[str, Line]], Collection[str]]]:
    """All lines of units as they are, by name and machine, and the names of those that are news; again at
    each change. One that is no more is not among them; one that nothing is known of yet has no lines. As
    `changes` ends and raises."""
    known: dict[str, dict[str, Line]] = {}
    asked = frozenset(names)
    for first, event in events(client, names, timeout):
        if first:
            known = {name: {} for name in names}
        news = set(known if first else ())
        for line in (*event.get("left", ()), *event["units"]):
            if (name := line["name"]) in asked:
                news.add(name)
                if line.get("gone"):
                    known.pop(name, None)
                elif "active" in line:
                    known.setdefault(name, {})[line["machine"]] = line
                else:
                    known.setdefault(name, {}).pop(line["machine"], None)
        yield known, news


def events(client: Client, names: Sequence[str], timeout: float) -> Iterator[tuple[bool, Line]]:
    """Messages of the stream, each with whether it is a machine's first, which has all lines."""
    query = {"unit": list(names)} if len(names) <= MANY else {}
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        first = True
        for event in client.stream("/kirsch/v1/events", timeout=left, **query):
            yield first, event
            first = False
        if time.monotonic() < deadline:
            if not client.transport.several:
                raise Failure("kirschd ended meanwhile; what was asked of it may be done")
            time.sleep(AGAIN)


def wait(
    client: Client,
    names: Sequence[str],
    done: Callable[[Line], bool],
    timeout: float,
    hopeless: Callable[[Line], str] = lambda line: "",
) -> list[Line]:
    """The units' lines once all are as wanted, of a Global one on all of its machines.

    Raises Failure when one cannot be, which `hopeless` may know more of in words, or time is up."""
    waiting, finished = set(names), []
    lines: Mapping[str, Mapping[str, Line]] = {}
    for lines, news in pictures(client, names, timeout) if names else ():
        for name in sorted(waiting.intersection(news)):
            told = list(lines[name].values()) if name in lines else None
            if told is None or (told and all(map(done, told))):
                waiting.discard(name)
                finished += told or []
                continue
            for line in told:
                if reason := _hopeless(line) or hopeless(line):
                    raise Failure(f"{name} {reason}: {reasons_of(line, machine_names(client))}")
        if not waiting:
            break
    if waiting:
        name = min(waiting)
        late = next((line for line in lines.get(name, {}).values() if not done(line)), None)
        reasons = reasons_of(late, machine_names(client)) if late else ""
        raise Failure(f"{name} is not there after {timeout:g} s: {reasons or NOBODY}")
    return finished


def _hopeless(line: Line) -> str:
    """Why there is nothing to wait for."""
    if line["active"] == "failed" and line["settled"] and line["desired"] == "launched":
        return "failed"
    return "cannot be scheduled" if line["refused"] else ""


def is_up(line: Line) -> bool:
    """Up is active and ready, as its Health= says; without one that it stays active: a program that ends at
    once is not up."""
    runs = line["active"] in ("active", "reloading") and line["ready"]
    return bool(line["settled"] and (runs or line["finished"]))
