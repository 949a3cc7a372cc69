"""Autobahn's echo client on kirsch.websocket.threaded: `echo_threaded.py URL AGENT`."""

import sys

from kirsch.websocket.core.errors import Closed
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.opening import ClientOptions
from kirsch.websocket.threaded import connect

# The largest message is one of 16 MiB.
OPTIONS = ClientOptions(limits=Limits(message=32 << 20))


def count(url: str) -> int:
    with connect(f"{url}/getCaseCount") as ws:
        return int(next(iter(ws)))


def echo(url: str) -> None:
    """Send back what comes until the server has broken the rules or had enough."""
    with connect(url, options=OPTIONS) as ws:
        try:
            for message in ws:
                ws.drain()
                ws.send(message)
        except Closed:
            pass


if __name__ == "__main__":
    url, agent = sys.argv[1:]
    for case in range(1, count(url) + 1):
        echo(f"{url}/runCase?case={case}&agent={agent}")
