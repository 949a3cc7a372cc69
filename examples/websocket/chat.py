"""A chat where everybody hears everybody: `kirsch ws 'localhost:8765/?name=ada'`."""

import contextlib
import sys
from urllib.parse import parse_qs

from kirsch.websocket import Limits, Room, WebSocket
from kirsch.websocket.threaded import serve

everybody = Room()


class Chat(WebSocket):
    """One person."""

    name = "somebody"

    def opened(self) -> None:
        if self.request is not None:
            self.name = parse_qs(self.request.query).get("name", [self.name])[0]
        everybody.add(self)
        tell(f"* {self.name} is here")

    def received_message(self, message: str | bytes | memoryview) -> None:
        if isinstance(message, str):
            tell(f"{self.name}: {message}")
        else:
            self.close(1003, "text, please")

    def closed(self, code: int, reason: str) -> None:
        everybody.discard(self)
        tell(f"* {self.name} is gone")


def tell(line: str) -> None:
    """Say something to all, and goodbye to those who have not read a mebibyte of it."""
    for slow in everybody.send(line):
        slow.close(1008, "you do not read")


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
    with serve(Chat, port=port, limits=Limits(message=4096)) as server:
        print(f"listening on {server.url}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
