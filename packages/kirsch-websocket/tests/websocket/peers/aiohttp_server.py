"""aiohttp's server: prints its URL, ends by SIGTERM. It cannot send a message in fragments."""

import asyncio
import signal

from aiohttp import WSMsgType, web
from facts import CHOSEN, SERVER_CLOSE, SERVER_PING


async def talk(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(protocols=(CHOSEN,), autoping=False, max_msg_size=0, compress=True)
    await ws.prepare(request)
    async for message in ws:
        if message.type is WSMsgType.PING:
            await ws.pong(message.data)
        elif message.type is WSMsgType.PONG:
            await ws.send_str(f"ponged {message.data.decode()}")
        elif message.type is WSMsgType.BINARY:
            await ws.send_bytes(message.data)
        elif message.data == "ping":
            await ws.ping(SERVER_PING)
        elif message.data == "close":
            code, reason = SERVER_CLOSE
            await ws.close(code=code, message=reason.encode())
        else:
            await ws.send_str(message.data)
    return ws


async def main() -> None:
    application = web.Application()
    application.router.add_get("/", talk)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    print(f"listening on ws://{host}:{port}/", flush=True)
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    await ending.wait()
    await runner.cleanup()


asyncio.run(main())
