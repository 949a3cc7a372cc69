"""Follows the ticker, and connects again when that has gone: `follow.py URL cherries`."""

import contextlib
import sys

from kirsch.websocket import Backoff, Closed, HandshakeError
from kirsch.websocket.threaded import reconnect


def follow(url: str, names: list[str]) -> None:
    """Print what comes, for ever. Raises HandshakeError for what time does not heal."""
    for ws in reconnect(url, backoff=Backoff(start=0.2, maximum=5)):
        print(f"connected to {ws.peer}", flush=True)
        try:
            for name in names:
                ws.send(name)
            for message in ws:
                print(message, flush=True)
            print("the server has closed", flush=True)
        except Closed as closed:
            print(f"lost: {closed.code} {closed.reason}".rstrip(), flush=True)


def main() -> None:
    url, *names = sys.argv[1:] or ["ws://localhost:8765/"]
    with contextlib.suppress(KeyboardInterrupt):
        try:
            follow(url, names or ["cherries"])
        except HandshakeError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
