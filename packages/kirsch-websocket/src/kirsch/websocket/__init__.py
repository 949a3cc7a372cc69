"""The wire: RFC 6455 and 7692, and a provider for each way a Python program does I/O.

Providers are modules of their own, imported by name: `threaded`, `asyncio`, `tornado`, `gevent`, `cherrypy`
and `wsgi`. Names are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kirsch.websocket.application import WebSocket
    from kirsch.websocket.backoff import Backoff
    from kirsch.websocket.deflate import Deflate
    from kirsch.websocket.errors import Closed, HandshakeError, ProtocolError, Slow, WebSocketError
    from kirsch.websocket.handshake import Policy
    from kirsch.websocket.headers import Request, Response
    from kirsch.websocket.limits import Limits
    from kirsch.websocket.message import Chunk, Close, Event, Message, Ping, Pong, Prepared
    from kirsch.websocket.opening import ClientOptions
    from kirsch.websocket.room import Room
    from kirsch.websocket.speedups import Parser, Protocol
    from kirsch.websocket.url import BadUrl, Url

__all__ = [
    "Backoff",
    "BadUrl",
    "Chunk",
    "ClientOptions",
    "Close",
    "Closed",
    "Deflate",
    "Event",
    "HandshakeError",
    "Limits",
    "Message",
    "Parser",
    "Ping",
    "Policy",
    "Pong",
    "Prepared",
    "Protocol",
    "ProtocolError",
    "Request",
    "Response",
    "Room",
    "Slow",
    "Url",
    "WebSocket",
    "WebSocketError",
]

_MODULES = {
    "Backoff": "backoff",
    "BadUrl": "url",
    "Chunk": "message",
    "ClientOptions": "opening",
    "Close": "message",
    "Closed": "errors",
    "Deflate": "deflate",
    "Event": "message",
    "HandshakeError": "errors",
    "Limits": "limits",
    "Message": "message",
    "Parser": "speedups",
    "Ping": "message",
    "Policy": "handshake",
    "Pong": "message",
    "Prepared": "message",
    "Protocol": "speedups",
    "ProtocolError": "errors",
    "Request": "headers",
    "Response": "headers",
    "Room": "room",
    "Slow": "errors",
    "Url": "url",
    "WebSocket": "application",
    "WebSocketError": "errors",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
