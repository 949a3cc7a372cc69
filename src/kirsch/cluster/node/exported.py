"""Metrics that units export themselves, Metrics= of [X-Kirsch]: read over HTTP, and totalled by name."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from kirsch.unit import Health

TIMEOUT = 2.0
MOST_BYTES = 1 << 18
# So many names of a unit are kept.
MOST_NAMES = 20
# Families of Prometheus' client libraries about the process, which the unit's own figures have.
PROCESS = ("process_", "python_", "go_", "promhttp_")


@dataclass(frozen=True, slots=True)
class Exported:
    """Values of a unit's metrics at `clock`, in seconds that only grow; `counters` are those that do too."""

    clock: float
    values: Mapping[str, float]
    counters: frozenset[str]


def parse_exposition(text: str) -> tuple[dict[str, float], frozenset[str]]:
    """Read Prometheus' text format: for each name the sum over all labels, and the names of counters. Of
    histograms and summaries there is the count. Raises ValueError."""
    values: dict[str, float] = {}
    counters = set()
    for family in text_string_to_metric_families(text):
        suffix = {"counter": "_total", "histogram": "_count", "summary": "_count"}.get(family.type, "")
        found = [sample.value for sample in family.samples if sample.name == family.name + suffix]
        if not found or family.name.startswith(PROCESS) or len(values) == MOST_NAMES:
            continue
        values[family.name + suffix] = sum(found)
        if suffix:
            counters.add(family.name + suffix)
    return values, frozenset(counters)


async def read_exported(metrics: Health, address: str) -> Exported | None:
    """Ask a unit; None where it does not answer in time, or not as Prometheus expects."""
    try:
        async with asyncio.timeout(TIMEOUT):
            text = await _get(metrics, address)
        # The parser is slow Python: the loop has more to do.
        values, counters = await asyncio.to_thread(parse_exposition, text)
    except (OSError, ValueError, TimeoutError):
        return None
    return Exported(time.monotonic(), values, counters)


async def _get(metrics: Health, address: str) -> str:
    reader, writer = await asyncio.open_connection(address, metrics.port)
    with closing(writer):
        request = (
            f"GET {metrics.path} HTTP/1.0\r\nHost: {address}:{metrics.port}\r\nAccept: text/plain\r\n\r\n"
        )
        writer.write(request.encode())
        answer = b""
        while part := await reader.read(1 << 16):
            answer += part
            if len(answer) > MOST_BYTES:
                raise ValueError("the answer is too long")
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(None, 2)[1:2] != [b"200"]:
        raise ValueError("the answer is no list of metrics")
    return body.decode(errors="replace")
