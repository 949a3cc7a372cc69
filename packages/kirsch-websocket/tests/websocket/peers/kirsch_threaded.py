"""kirsch.websocket.threaded's client finds the facts: `kirsch_threaded.py URL URL URL`."""

import base64
import json
import os
import sys
from typing import Any

from facts import BINARY, CLOSE, COMPRESSIBLE, OFFERED, PARTS, PING, SIZE, TEXT

from kirsch.websocket.core.errors import Closed
from kirsch.websocket.core.opening import ClientOptions
from kirsch.websocket.threaded import connect


def echoed(url: str) -> dict[str, Any]:
    with connect(url) as ws:
        facts: dict[str, Any] = {}
        ws.send(TEXT)
        facts["text"] = ws.recv()
        ws.send("")
        facts["empty"] = ws.recv()
        ws.send(BINARY)
        facts["binary"] = base64.b64encode(ws.recv()).decode()
        large = os.urandom(SIZE)
        ws.send(large)
        facts["large"] = ws.recv() == large
        ws.send(iter(PARTS))
        facts["fragmented"] = ws.recv()
        # The answer to a ping comes before the answer to what was said after it.
        ws.ponged = lambda data: facts.update(ping=data.decode())
        ws.ping(PING)
        ws.send("over")
        ws.recv()
        ws.close(*CLOSE)
        facts["close"] = end(ws)
    return facts


def commanded(url: str) -> dict[str, Any]:
    with connect(url, options=ClientOptions(subprotocols=OFFERED)) as ws:
        facts: dict[str, Any] = {"subprotocol": ws.subprotocol}
        ws.send("fragments")
        facts["server fragments"] = ws.recv()
        ws.send("ping")
        facts["server ping"] = ws.recv()
        ws.send("close")
        facts["server close"] = end(ws)
    return facts


def counted(url: str) -> dict[str, Any]:
    with connect(url) as ws:
        ws.send(COMPRESSIBLE)
        return {"compressible": ws.recv() == COMPRESSIBLE}


def end(ws: Any) -> Any:
    """How the connection was closed; or what came instead."""
    try:
        return ws.recv()
    except Closed as closed:
        return [closed.code, closed.reason]


if __name__ == "__main__":
    echo, command, count = sys.argv[1:]
    print(json.dumps(echoed(echo) | commanded(command) | counted(count)))
