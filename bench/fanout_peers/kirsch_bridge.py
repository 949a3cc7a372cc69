"""kirsch.amqp's Bridge: `python kirsch_bridge.py PROVIDER [NAME]`; AMQP_URL is the broker."""

import asyncio
import sys
from importlib import import_module

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


def on_threads(provider: str) -> None:
    """CherryPy's, or gevent's greenlets."""
    serve = import_module(f"kirsch.websocket.{provider}").serve
    _, bridge = made("gevent" if provider == "gevent" else "thread")
    with serve(bridge.connection, policy=bridge.policy, limits=bridge.websocket_limits) as server:
        print(f"listening on {server.address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] in ("cherrypy", "gevent"):
        on_threads(sys.argv[1])
    else:
        asyncio.run(on_loop(sys.argv[1]))
