"""One large message: how much the server's peak memory grows, and how long it takes.

The server holds the message as a whole and answers with its length; `streamed`, it takes it in pieces.
"""

from functools import partial

from .row import Figure, Row, Run, size
from .servers import Skipped, client, serving

SIZE, QUICK = 256 << 20, 64 << 20
FRAGMENT = 64 << 10
WHOLE = ("picows-websockets", "aiohttp", "websockets", "websockets-sync", "tornado")


def large(role: str, bytes: int, fragment: int, name: str, run: Run) -> tuple[float, float]:
    with serving(name, role) as server:
        # What is imported or made only once, is then there.
        client("large", server, size=1000, fragment=0, limit=10)
        server.forget_peak()
        before = server.memory("VmRSS")
        took = client("large", server, size=bytes, fragment=fragment, limit=90)
        growth = (server.memory("VmHWM") - before) / 1024
    if not took["answered"] < 100:
        raise Skipped("the server did not answer with a length")
    return growth, took["seconds"]


def rows(quick: bool) -> list[Row]:
    bytes = QUICK if quick else SIZE

    def figures(how: str) -> tuple[Figure, Figure]:
        table = f"{size(bytes)} in one message"
        return Figure(table, f"growth {how}", "MiB", less=True), Figure(table, f"time {how}", "s", less=True)

    kirsch = ("kirsch-asyncio", "kirsch-asyncio-for", "kirsch-uvloop", "kirsch-pure")
    frame, fragments = partial(large, "length", bytes, 0), partial(large, "length", bytes, FRAGMENT)
    streamed = partial(large, "stream", bytes, 0)
    return [
        Row("large-frame", figures("in a frame"), ("picows", *WHOLE, "ws4py", *kirsch), frame),
        # picows hands over fragments one by one: it has no whole message. ws4py needs minutes.
        Row("large-fragments", figures("in fragments"), (*WHOLE, *kirsch), fragments),
        Row(
            "large-streamed",
            figures("streamed"),
            tuple(name for name in kirsch if not name.endswith("-for")),
            streamed,
        ),
    ]
