"""What was promised of kirsch, beside what was measured."""

from collections.abc import Iterator
from typing import Any

from .report import number

B64, KIB, KIB64, MIB = "64 B", "1 KiB", "64 KiB", "1 MiB"
FLIGHT = "echo, 100 in flight, "
LARGE, IDLE, PARSING = "256 MiB in one message, ", "5,000 idle connections, ", "parsing in memory, "

# What, of whom, how many times whose figure at least.
TIMES = [
    *((FLIGHT + size, "kirsch-asyncio", 0.85, "raw") for size in (B64, KIB)),
    *(
        (FLIGHT + size, f"kirsch-{name}", 0.7, "raw")
        for name in ("threaded", "cherrypy")
        for size in (B64, KIB)
    ),
    (FLIGHT + KIB64, "kirsch-asyncio", 0.95, "raw"),
    (FLIGHT + KIB64, "kirsch-asyncio", 1.2, "picows"),
    (FLIGHT + MIB, "kirsch-asyncio", 1, "picows"),
    *(
        (f"echo, 1 in flight, {size}", name, 1, "picows")
        for name in ("kirsch-asyncio", "kirsch-asyncio-for")
        for size in (B64, KIB, KIB64, MIB)
    ),
    *(
        (FLIGHT + size, "kirsch-uvicorn", 1, other)
        for other in ("uvicorn-websockets", "uvicorn-wsproto")
        for size in (B64, KIB, KIB64)
    ),
    (FLIGHT + B64, "kirsch-threaded", 5, "websockets-sync"),
    (FLIGHT + B64, "kirsch-tornado", 10, "tornado"),
    *((FLIGHT + B64, f"kirsch-{name}", 10, "ws4py") for name in ("gevent", "cherrypy", "wsgi")),
    *((FLIGHT + size, "kirsch-pure", 1, "websockets") for size in (B64, KIB)),
    *((f"masking in memory, {size}", "kirsch-compiled", 1, "aiohttp") for size in (KIB, KIB64, MIB)),
    *((f"masking in memory, {size}", "kirsch-pure", 1, "aiohttp-pure") for size in (KIB, KIB64, MIB)),
    *((PARSING + size, "kirsch-pure", 1, "aiohttp-pure") for size in (B64, KIB64)),
    (IDLE + "rate", "kirsch-asyncio", 1, "picows"),
    ("broadcast, 1 KiB to 1,000", "kirsch-asyncio", 1.2, "picows"),
    ("permessage-deflate, 100 in flight, 1 KiB of JSON", "kirsch-asyncio", 1, "aiohttp"),
]
# What, of whom, how much at least.
LEAST = [(PARSING + B64, "kirsch-compiled", 10e6), (PARSING + KIB64, "kirsch-compiled", 15e3)]
# What, of whom, how much at most: MiB, KiB.
MOST = [
    (LARGE + "growth in a frame", "kirsch-asyncio", 1.01 * 256),
    (LARGE + "growth in fragments", "kirsch-asyncio", 1.1 * 256),
    (LARGE + "growth streamed", "kirsch-asyncio", 5),
    (IDLE + "memory", "kirsch-asyncio", 4),
]


def targets(found: dict[str, Any]) -> Iterator[str]:
    """A line for each whose figures are there."""
    values = {(row["what"], row["subject"]): row["value"] for row in found["rows"]}
    lines = []
    for what, name, times, other in TIMES:
        value, peer = values.get((what, name)), values.get((what, other))
        if value is not None and peer:
            lines.append(
                (value >= times * peer, f"{what}: {name} {value / peer:.2f} x {other}, at least {times:g} x")
            )
    for what, name, limit in LEAST:
        if (value := values.get((what, name))) is not None:
            lines.append((value >= limit, f"{what}: {name} {number(value)}, at least {number(limit)}"))
    for what, name, limit in MOST:
        if (value := values.get((what, name))) is not None:
            lines.append((value <= limit, f"{what}: {name} {number(value)}, at most {number(limit)}"))
    if lines:
        yield "\ntargets:"
    for met, line in lines:
        yield f"- {'met' if met else 'MISSED'}: {line}"
