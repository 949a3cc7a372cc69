"""kirsch.amqp's Bridge: `python kirsch_bridge.py asyncio|tornado|cherrypy [NAME]`; AMQP_URL is the broker."""

import asyncio
import sys

from cherrypy.process.wspbus import Bus

from kirsch.amqp import AMQPPlugin, Bridge, Limits

# One connection says all of it, more than a browser may.
LIMITS = Limits(rate=1e9, burst=1 << 30, bytes=1e12, bytes_burst=1 << 40, unconfirmed=1 << 20)


def made(loop: str) -> tuple[Bus, Bridge]:
    bus = Bus()
    amqp = AMQPPlugin(bus, loop=loop)
    name = sys.argv[2] if len(sys.argv) > 2 else "bench"
    bridge = Bridge(bus, amqp, name, limits=LIMITS, replay=1)
    amqp.subscribe()
    bridge.subscribe()
    bus.start()
    return bus, bridge


async def on_loop(provider: str) -> None:
    from kirsch.websocket import asyncio as loops

    if provider == "tornado":
        from kirsch.websocket import tornado as loops  # type: ignore[no-redef]
    _, bridge = made(provider)
    server = await loops.serve(
        bridge.connection, policy=bridge.policy, limits=bridge.websocket_limits, backlog=1024
    )
    print(f"listening on {server.address[1]}", flush=True)
    await asyncio.Event().wait()


def on_cherrypy() -> None:
    from kirsch.websocket.cherrypy import serve

    _, bridge = made("thread")
    with serve(bridge.connection, policy=bridge.policy, limits=bridge.websocket_limits) as server:
        print(f"listening on {server.address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "cherrypy":
        on_cherrypy()
    else:
        asyncio.run(on_loop(sys.argv[1]))
