"""Applications that answer with what they get, in each of the forms there are."""

from kirsch.websocket import WebSocket


class Echo(WebSocket):
    def received_message(self, message):
        self.send(message)


def echo(ws):
    for message in ws:
        ws.send(message)


async def echo_async(ws):
    async for message in ws:
        ws.send(message)
