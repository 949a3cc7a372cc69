"""The ASGI application of uvicorn_server.py."""

from ready import ROLE


async def app(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        data = event.get("bytes")
        if ROLE == "length":
            await send({"type": "websocket.send", "text": str(len(data or event["text"]))})
        elif data is not None:
            await send({"type": "websocket.send", "bytes": data})
        else:
            await send({"type": "websocket.send", "text": event["text"]})
