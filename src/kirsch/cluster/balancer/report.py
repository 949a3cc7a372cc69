"""Reports of a balancer on the endpoints socket: a line of JSON with what its backends did. Pure."""

import json
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

from kirsch.cluster.balancer.haproxy import BackendCounts

# By backend and server; "" for a backend as a whole.
Counts = Mapping[tuple[str, str], BackendCounts]

# More backends and servers than these of one balancer are left out.
MOST = 2000
# A number that is larger is none that HAProxy counts.
LARGEST = 1e15


def write_report(unit: str, counts: Counts) -> bytes:
    """Return the line of a unit's report."""
    rows = [
        [*key, each.requests, each.errors, each.latency, each.queue]
        for key, each in list(counts.items())[:MOST]
    ]
    return json.dumps({"unit": unit, "backends": rows}).encode() + b"\n"


def read_report(line: bytes) -> tuple[str, Counts]:
    """Read a report: the unit, and its counts. Raises ValueError where it is none."""
    try:
        values: Any = json.loads(line)
        counts = {
            (str(backend), str(server)): BackendCounts(int(requests), int(errors), float(latency), int(queue))
            for backend, server, requests, errors, latency, queue in values["backends"][:MOST]
        }
        for each in counts.values():
            if not all(0 <= number <= LARGEST for number in astuple(each)):
                raise ValueError(each)
        return str(values["unit"]), counts
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a balancer's report: {error!r}") from error


def report_interval(line: bytes) -> float:
    """Return how often kirschd wants a report, in seconds, as a line of endpoints says; 0 for never."""
    try:
        return max(float(json.loads(line).get("figures", 0)), 0.0)
    except (AttributeError, TypeError, ValueError, RecursionError):
        return 0.0
