"""`python in_memory.py parse|mask SUBJECT BYTES SECONDS`: messages or payloads a second, as JSON.

Every parser is fed whole reads of 256 KiB of masked binary frames (ws4py the bytes it asks for), and gives
each message as an object that owns its bytes. Masking is in place where the subject has it in place. Seconds
are of the process's own time: other load matters little.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence

READ = 256 << 10
KEY = b"\x12\xa7\x5c\xe9"
Parse = Callable[[bytes], Sequence[object]]


def payload(size: int) -> bytes:
    return bytes(ord("a") + n % 23 for n in range(size))


def frame(size: int) -> bytes:
    length = (
        size.to_bytes(1)
        if size < 126
        else b"\x7e" + size.to_bytes(2)
        if size < 65536
        else b"\x7f" + size.to_bytes(8)
    )
    masked = bytes(a ^ b for a, b in zip(payload(size), KEY * (size // 4 + 1), strict=False))
    return bytes((0x82, 0x80 | length[0])) + length[1:] + KEY + masked


# Each gives a function that parses one read and returns the messages in it.


def parse_kirsch(pure: bool) -> Parse:
    if pure:
        from kirsch.websocket.core.protocol import Protocol
    else:
        from kirsch.websocket.compiled.protocol import Protocol
    return Protocol(client=False).receive


def parse_aiohttp(pure: bool) -> Parse:
    import asyncio

    if pure:
        from aiohttp._websocket import helpers
        from aiohttp._websocket import reader_py as module

        module.websocket_mask = helpers._websocket_mask_python
    else:
        from aiohttp._websocket import reader_c as module
    from aiohttp.base_protocol import BaseProtocol

    loop = asyncio.new_event_loop()
    queue = module.WebSocketDataQueue(BaseProtocol(loop), 1 << 30, loop=loop)
    reader = module.WebSocketReader(queue, 1 << 30, compress=False, decode_text=True)

    def parse(data: bytes) -> list[object]:
        reader.feed_data(data)
        messages = []
        for _ in range(len(queue._buffer)):
            try:
                queue.read().send(None)  # as `await` would: it never waits
            except StopIteration as read:
                messages.append(read.value.data)
        return messages

    return parse


def parse_websockets() -> Parse:
    from websockets.protocol import OPEN, Protocol, Side

    protocol = Protocol(Side.SERVER, state=OPEN, max_size=None)

    def parse(data: bytes) -> list[object]:
        protocol.receive_data(data)
        return [event.data for event in protocol.events_received()]

    return parse


def parse_wsproto() -> Parse:
    from wsproto.connection import Connection, ConnectionType

    connection = Connection(ConnectionType.SERVER)

    def parse(data: bytes) -> list[object]:
        connection.receive_data(data)
        return [event.data for event in connection.events()]

    return parse


def parse_ws4py() -> Parse:
    from ws4py.websocket import WebSocket

    messages: list[object] = []

    class Keeping(WebSocket):
        def received_message(self, message: object) -> None:
            messages.append(message.data)

    socket = Keeping(None)

    def parse(data: bytes) -> list[object]:
        messages.clear()
        at = 0
        while at < len(data):
            wanted = socket.reading_buffer_size
            socket.process(data[at : at + wanted])
            at += wanted
        return messages

    return parse


def parse_picows() -> Parse:
    """Its protocol behind a real handshake; a read is copied to the buffer it gives, as recv_into would."""
    import asyncio
    import socket

    from picows import WSFrame, WSListener, WSTransport, ws_create_server

    class Keeping(WSListener):
        def on_ws_connected(self, transport: WSTransport) -> None:
            opened.set_result(transport)

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            messages.append(frame.get_payload_as_bytes())

    async def open_one() -> object:
        server = await ws_create_server(lambda request: Keeping(), "127.0.0.1", 0, max_frame_size=1 << 30)
        client = socket.create_connection(server.sockets[0].getsockname())
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        kept.append(client)
        return (await opened).underlying_transport.get_protocol()

    messages: list[bytes] = []
    kept: list[object] = []
    loop = asyncio.new_event_loop()
    opened = loop.create_future()
    protocol = loop.run_until_complete(open_one())

    def parse(data: bytes) -> list[object]:
        messages.clear()
        at = 0
        while at < len(data):
            buffer = protocol.get_buffer(-1)
            part = data[at : at + len(buffer)]
            buffer[: len(part)] = part
            protocol.buffer_updated(len(part))
            at += len(part)
        return messages

    return parse


PARSERS: dict[str, Callable[[], Parse]] = {
    "kirsch-compiled": lambda: parse_kirsch(False),
    "kirsch-pure": lambda: parse_kirsch(True),
    "aiohttp": lambda: parse_aiohttp(False),
    "aiohttp-pure": lambda: parse_aiohttp(True),
    "websockets": parse_websockets,
    "wsproto": parse_wsproto,
    "ws4py": parse_ws4py,
    "picows": parse_picows,
}


def masker(name: str, size: int) -> Callable[[], object]:
    data = bytearray(size)
    if name == "memcpy":
        return lambda: bytes(data)
    if name.startswith("aiohttp"):
        from aiohttp._websocket import helpers, mask

        pure = helpers._websocket_mask_python
        in_place = pure if name == "aiohttp-pure" else mask._websocket_mask_cython
        return lambda: in_place(KEY, data)
    if name == "websockets":
        from websockets.speedups import apply_mask

        whole = bytes(data)
        return lambda: apply_mask(whole, KEY)
    if name == "kirsch-compiled":
        from kirsch.websocket.compiled import mask

        return lambda: mask(data, KEY)
    from kirsch.websocket.core.frame import mask as pure_mask

    return lambda: pure_mask(data, KEY)


def parse_rate(name: str, size: int, seconds: float) -> float:
    one, expected = frame(size), payload(size)
    count = max(1, READ // len(one)) if size < READ // 4 else 4
    read = one * count
    parse = PARSERS[name]()
    for _ in range(3):
        messages = list(parse(read))
        if messages != [expected] * count or len(set(map(id, messages))) != count:
            sys.exit("the messages are not what was sent")
    done, start = 0, time.process_time()
    while (elapsed := time.process_time() - start) < seconds:
        done += len(parse(read))
    return done / elapsed


def mask_rate(name: str, size: int, seconds: float) -> float:
    apply = masker(name, size)
    batch = max(1, (1 << 20) // size)
    done, start = 0, time.process_time()
    while (elapsed := time.process_time() - start) < seconds:
        for _ in range(batch):
            apply()
        done += batch
    return done / elapsed


if __name__ == "__main__":
    kind, name, size, seconds = sys.argv[1:]
    rate = {"parse": parse_rate, "mask": mask_rate}[kind](name, int(size), float(seconds))
    print(json.dumps({"rate": rate}))
