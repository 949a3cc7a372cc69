"""Many connections: how fast they open, what each costs when idle, and a broadcast to all of them."""

import json
import subprocess
import time
from functools import partial

from .row import Figure, Row, Run
from .servers import Skipped, client, client_command, serving
from .subjects import KIRSCH_SUBJECTS

IDLE, QUICK_IDLE = 5000, 1000
AUDIENCE = 1000
PEERS = ("picows", "picows-uvloop", "picows-websockets", "aiohttp", "websockets", "tornado", "ws4py")


def idle(count: int, name: str, run: Run) -> tuple[float, float]:
    with serving(name, "echo") as server:
        client("idle", server, connections=1, limit=10)
        before = server.memory("VmRSS")
        with subprocess.Popen(
            client_command("idle", server, connections=count, limit=60),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as holding:
            try:
                said = holding.stdout.readline()
                if not said:
                    raise Skipped(holding.stderr.read().strip())
                rate = run.rate(json.loads(said))
                time.sleep(0.5)  # what is done with a connection after its handshake
                each = (server.memory("VmRSS") - before) / count
            finally:
                holding.stdin.close()
    return rate, each


def broadcast(name: str, run: Run) -> tuple[float]:
    with serving(name, "broadcast") as server:
        rate, _ = run.messages("broadcast", server, connections=AUDIENCE, size=1024, flight=2)
    return (rate,)


def rows(quick: bool) -> list[Row]:
    count = QUICK_IDLE if quick else IDLE
    table = f"{count:,} idle connections"
    figures = (Figure(table, "rate", "connections/s"), Figure(table, "memory", "KiB each", less=True))
    kirsch = tuple(subject.name for subject in KIRSCH_SUBJECTS)
    own = tuple(name for name in kirsch if name.split("-")[1] in ("asyncio", "uvloop", "pure"))
    return [
        Row("idle", figures, (*PEERS, *kirsch), partial(idle, count)),
        Row("broadcast", (Figure("broadcast", "1 KiB to 1,000", "messages/s"),), (*PEERS, *own), broadcast),
    ]
