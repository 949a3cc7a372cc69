"""No sockets: frames parsed, and payloads masked, from memory."""

from functools import partial

from .row import Figure, Row, Run, short, size
from .servers import in_memory

PARSERS = (
    "picows",
    "aiohttp",
    "aiohttp-pure",
    "websockets",
    "wsproto",
    "ws4py",
    "kirsch-compiled",
    "kirsch-pure",
)
MASKS = ("memcpy", "aiohttp", "aiohttp-pure", "websockets", "kirsch-compiled", "kirsch-pure")


def measure(kind: str, bytes: int, unit: float, name: str, run: Run) -> tuple[float]:
    found = in_memory(kind, name, bytes, min(run.seconds, 1.0), pure=name == "kirsch-pure")
    return (found["rate"] * unit,)


def rows() -> list[Row]:
    found = []
    for count, unit, factor in ((64, "frames/s", 1.0), (64 << 10, "MB/s", (64 << 10) / 1e6)):
        figure = Figure("parsing in memory", size(count), unit)
        found.append(
            Row(f"parse-{short(count)}", (figure,), PARSERS, partial(measure, "parse", count, factor))
        )
    for count in (1 << 10, 64 << 10, 1 << 20):
        figure = Figure("masking in memory", size(count), "GB/s")
        found.append(
            Row(f"mask-{short(count)}", (figure,), MASKS, partial(measure, "mask", count, count / 1e9))
        )
    return found
