"""Applications that answer with what they get, in each of the forms there are; and one that tells of it."""

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


def recording(put, methods):
    """An application class that gives `put` what happens to it; `methods` in place of its own."""

    class Recorder(WebSocket):
        def opened(self):
            put(("opened", self))

        def received_message(self, message):
            put(("message", message))

        def closed(self, code, reason):
            put(("closed", code, reason))

    for name, method in methods.items():
        setattr(Recorder, name, method)
    return Recorder
