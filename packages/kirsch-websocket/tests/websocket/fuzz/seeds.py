"""Where each target begins: what is well made, to be changed."""

from tests.websocket.implementations import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, made

from kirsch.websocket.core.deflate import Agreement
from kirsch.websocket.core.limits import Limits

_packed = Agreement().codec(client=True, limits=Limits()).compress(b'{"name": "value"}' * 20)

_CONVERSATIONS = [
    made(TEXT, b"Hello") + made(BINARY, bytes(130)),
    made(TEXT, "aä€𝄞".encode()[:3], final=False) + made(PING, b"p") + made(CONTINUATION, "aä€𝄞".encode()[3:]),
    made(BINARY, b"x" * 2000, final=False) + made(CONTINUATION, b"y" * 2000) + made(PONG),
    made(TEXT, _packed, bits=0x40) + made(TEXT, b"plain"),
    made(CLOSE, b"\x03\xe8bye") + made(TEXT, b"after"),
    made(CLOSE) + b"\xff",
    made(TEXT, b"a", final=False) + made(TEXT, b"b"),
    made(BINARY, length=1 << 63),
]
_SERVERS = [
    made(TEXT, b"Hello", key=None) + made(BINARY, bytes(130), key=None),
    made(TEXT, "ä€".encode()[:3], final=False, key=None) + made(CONTINUATION, "ä€".encode()[3:], key=None),
    made(TEXT, _packed, bits=0x40, key=None),
    made(PING, b"p", key=None) + made(CLOSE, b"\x0b\xb8", key=None),
]
_frames = [bytes((how,)) + data for how in (0, 1, 2, 8, 16, 25) for data in _CONVERSATIONS]
_frames += [bytes((how | 4,)) + data for how in (0, 1, 11, 16, 26) for data in _SERVERS]

_REQUEST = (
    b"GET /chat?a=b HTTP/1.1\r\nHost: example.com:80\r\nUpgrade: websocket\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n%s"
)
_FIELDS = [
    (b"", b""),
    (b"Origin: http://example.com\r\n", made(TEXT, b"Hello")),
    (b"Sec-WebSocket-Protocol: x, a\r\nSec-WebSocket-Protocol: b\r\n", b""),
    (b'Sec-WebSocket-Extensions: foo; a="b", permessage-deflate; client_max_window_bits\r\n', b""),
    (
        b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\nX: "
        + b"a" * 1500
        + b"\r\n",
        b"",
    ),
]
_RESPONSE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n%s\r\n"
)

SEEDS: dict[str, list[bytes]] = {
    "parser": _frames,
    "protocol": _frames,
    "mask": [b"abcd\x01" + bytes(range(100)), b"\xff\xfe\xfd\xfc\x00a"],
    "request": [
        *(bytes((how,)) + _REQUEST % fields for how in (0, 1, 6) for fields in _FIELDS),
        b"\x00POST / HTTP/1.0\r\nHost: a\r\n\r\n",
        b"\x03\x16\x03\x01",
    ],
    "response": [
        *(
            bytes((how,)) + _RESPONSE % fields
            for how in (0, 1)
            for fields in (
                b"",
                b"Sec-WebSocket-Protocol: a\r\n",
                b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n",
            )
        ),
        b"\x00HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 302 Found\r\nLocation: //other/path?q#f\r\n\r\n",
        b"\x02HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
    ],
    "deflate": [
        b"\x00" + _packed,
        b"\x01" + _packed,
        b"\x02\xca\x48\x04\x00",
        b"\x00\xf2\x48\xcd\xc9\xc9\x07\x00",
    ],
    "extensions": [
        b"permessage-deflate",
        b"permessage-deflate; client_max_window_bits; server_max_window_bits=10",
        b'foo; bar="a\\"b", permessage-deflate; server_no_context_takeover; client_no_context_takeover',
        b"permessage-deflate; client_max_window_bits=8, permessage-deflate",
    ],
    "url": [
        b"ws://example.com/",
        b"wss://user:p%40ss@[2001:db8::1%25eth0]:8443/a/../b?c=d",
        b"ws+unix:///run/a%20b.sock:/target?q",
        "ws://exämple.com:80/ä".encode(),
        b"http://example.com/#f",
        b"ws://xn--/",
    ],
}
