"""websockets.broadcast and aio-pika."""

import asyncio
import os

import aio_pika
from websockets.asyncio.server import broadcast, serve

connections = set()


async def main():
    connection = await aio_pika.connect(os.environ["AMQP_URL"])
    channel = await connection.channel(publisher_confirms=False)
    exchange = await channel.declare_exchange("bench", aio_pika.ExchangeType.FANOUT)
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind(exchange)

    async def came(message):
        broadcast(connections, message.body.decode())

    await queue.consume(came, no_ack=True)

    async def talk(ws):
        connections.add(ws)
        try:
            async for message in ws:
                await exchange.publish(aio_pika.Message(message.encode()), "")
        finally:
            connections.discard(ws)

    # The client asks for no compression, of nobody.
    async with serve(talk, "127.0.0.1", 0, ping_interval=None, compression=None, backlog=1024) as server:
        print(f"listening on {server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


asyncio.run(main())
