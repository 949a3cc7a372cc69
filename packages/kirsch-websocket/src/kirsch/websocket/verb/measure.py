"""Measurements of a WebSocket: the round trips of pings, and the rate of an echo."""

import statistics
import time
from collections import deque
from collections.abc import Mapping

from kirsch.cli.errors import Failure
from kirsch.cli.verb import Options
from kirsch.websocket import Closed
from kirsch.websocket.core.url import Url
from kirsch.websocket.verb.pipe import Client, line

TIMEOUT = 10.0


def ping(ws: Client, url: Url, options: Options) -> int:
    """Round trips, each a line, and what they come to, as ping(8) has it."""
    size = options.size or 8
    interval = options.interval or 1.0
    patience = options.timeout or TIMEOUT
    trips: list[float] = []
    sent, begun = 0, time.monotonic()
    # Pongs wait among the messages.
    ws.ponged = lambda data: ws.received_message(_Pong(data))  # type: ignore[method-assign]
    if not options.json:
        print(f"PING {url}: {size} bytes", flush=True)
    try:
        while not options.ping or sent < options.ping:
            sent += 1
            data = str(sent).encode()[-size:].rjust(size, b"0")
            due, at = time.monotonic() + interval, time.perf_counter()
            ws.ping(data)
            pong = _receive(ws, data, time.monotonic() + patience)
            if pong is None:
                print(line({"seq": sent, "ms": None}) if options.json else f"no pong: seq={sent}", flush=True)
            else:
                trips.append((pong.at - at) * 1000)
                shown = f"{size} bytes from {ws.peer}: seq={sent} time={trips[-1]:.3f} ms"
                print(line({"seq": sent, "ms": round(trips[-1], 3)}) if options.json else shown, flush=True)
            if sent != options.ping:
                _receive(ws, None, due)
    except (KeyboardInterrupt, Closed):
        pass
    ws.close()
    _sum_up(url, options, sent, trips, (time.monotonic() - begun) * 1000)
    return 0 if trips else 1


class _Pong(bytes):
    """A pong, and when it came."""

    def __init__(self, _: bytes) -> None:
        self.at = time.perf_counter()


def _receive(ws: Client, data: bytes | None, end: float) -> _Pong | None:
    """Receive until the pong for `data` comes, or the time has. Raises Closed."""
    try:
        while (left := end - time.monotonic()) > 0:
            message = ws.recv(left)
            if isinstance(message, _Pong) and message == data:
                return message
    except TimeoutError:
        pass
    return None


def _sum_up(url: Url, options: Options, sent: int, trips: list[float], total: float) -> None:
    best, mean, worst, spread = (
        (min(trips), statistics.fmean(trips), max(trips), statistics.pstdev(trips)) if trips else [None] * 4
    )
    if options.json:
        names = ("min_ms", "avg_ms", "max_ms", "mdev_ms")
        values = zip(names, (best, mean, worst, spread), strict=True)
        rounded = {name: value if value is None else round(value, 3) for name, value in values}
        print(line({"pings": sent, "pongs": len(trips), **rounded}), flush=True)
        return
    lost = 100 * (sent - len(trips)) / sent if sent else 0.0
    print(f"\n--- {url} ping statistics ---")
    print(f"{sent} pings, {len(trips)} pongs, {lost:.4g}% lost, time {total:.0f} ms")
    if trips:
        print(f"rtt min/avg/max/mdev = {best:.3f}/{mean:.3f}/{worst:.3f}/{spread:.3f} ms", flush=True)


def bench(ws: Client, url: Url, options: Options) -> int:
    """So many messages on their way all the time; how many come back in a second, and how soon."""
    size, flight = options.size or 64, options.in_flight or 100
    message: str | bytes = b"k" * size if options.binary else "k" * size
    # Round trips by microseconds: they stay small however long this takes.
    trips: dict[int, int] = {}
    sent: deque[float] = deque()
    clock, patience = time.perf_counter, options.timeout or TIMEOUT
    now = begun = clock()
    end = begun + options.bench
    count = 0
    try:
        for _ in range(flight):
            ws.send(message)
            sent.append(clock())
        while sent:
            if ws.recv(patience) != message:
                raise Failure(f"{url} is no echo: something else came back")
            now = clock()
            trip = int((now - sent.popleft()) * 1e6)
            trips[trip] = trips.get(trip, 0) + 1
            count += 1
            if now < end:
                ws.send(message)
                sent.append(now)
    except TimeoutError:
        raise Failure(f"{url} is no echo: nothing came back within {patience:g} s") from None
    except Closed:
        if not ws.close_received:
            raise
        from kirsch.cli.journal import printable

        code, reason = ws.close_received.code, printable(ws.close_received.reason)
        raise Failure(f"the connection was closed: {code} {reason}".rstrip()) from None
    seconds = now - begun
    rate, median, slow = count / seconds, _quantile(trips, 0.5), _quantile(trips, 0.99)
    if options.json:
        print(line({"messages": count, "size": size, "in_flight": flight, "seconds": round(seconds, 3),
                    "rate": round(rate, 1), "p50_ms": median, "p99_ms": slow}))  # fmt: skip
    else:
        print(f"{count} messages of {size} bytes came back in {seconds:.2f} s, {flight} in flight")
        print(f"{rate:,.0f}/s ({rate * size / 1e6:,.1f} MB/s), p50 {median:.3f} ms, p99 {slow:.3f} ms")
    return 0


def _quantile(trips: Mapping[int, int], share: float) -> float:
    """Milliseconds that so much of the round trips took at most."""
    left = share * sum(trips.values())
    for trip in sorted(trips):
        left -= trips[trip]
        if left <= 0:
            return trip / 1000
    return 0.0
