"""Prices that change: send the name of a fruit, and hear what it costs from then on."""

import asyncio
import contextlib
import random
import sys

from kirsch.websocket import Room
from kirsch.websocket.asyncio import Connection, serve

PAUSE = 0.5
PRICES = {"apples": 2.0, "cherries": 7.0, "pears": 3.0}
rooms = {name: Room() for name in PRICES}


async def subscribe(ws: Connection) -> None:
    """One client, from its first message to its last."""
    try:
        async for message in ws:
            if message in rooms:
                rooms[message].add(ws)
            else:
                ws.send(f"there are {', '.join(rooms)}")
    finally:
        for room in rooms.values():
            room.discard(ws)


async def trade() -> None:
    """Change the prices for ever. Whoever reads too slowly misses some."""
    while True:
        await asyncio.sleep(PAUSE)
        for name, price in PRICES.items():
            PRICES[name] = price * random.uniform(0.97, 1.03)  # noqa: S311 - no secret
            rooms[name].send(f"{name} {PRICES[name]:.2f}")


async def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
    async with serve(subscribe, port=port) as server:
        print(f"listening on {server.url}", flush=True)
        await trade()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
