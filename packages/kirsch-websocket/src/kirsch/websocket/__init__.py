"""WebSockets (RFC 6455 and 7692) with threads, asyncio, Tornado, gevent, CherryPy and WSGI.

Each provider is a module that is imported by its name: `threaded`, `asyncio`, `tornado`, `gevent`, `cherrypy`
and `wsgi`; `uvicorn` serves ASGI applications. The names below are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kirsch.websocket.core.application import WebSocket as WebSocket
    from kirsch.websocket.core.backoff import Backoff as Backoff
    from kirsch.websocket.core.deflate import Deflate as Deflate
    from kirsch.websocket.core.errors import Closed as Closed
    from kirsch.websocket.core.errors import HandshakeError as HandshakeError
    from kirsch.websocket.core.errors import ProtocolError as ProtocolError
    from kirsch.websocket.core.errors import Slow as Slow
    from kirsch.websocket.core.errors import WebSocketError as WebSocketError
    from kirsch.websocket.core.handshake import Policy as Policy
    from kirsch.websocket.core.handshake import refusal as refusal
    from kirsch.websocket.core.headers import Headers as Headers
    from kirsch.websocket.core.headers import HeadReader as HeadReader
    from kirsch.websocket.core.headers import Request as Request
    from kirsch.websocket.core.headers import Response as Response
    from kirsch.websocket.core.limits import Limits as Limits
    from kirsch.websocket.core.message import Chunk as Chunk
    from kirsch.websocket.core.message import Close as Close
    from kirsch.websocket.core.message import Event as Event
    from kirsch.websocket.core.message import Message as Message
    from kirsch.websocket.core.message import Ping as Ping
    from kirsch.websocket.core.message import Pong as Pong
    from kirsch.websocket.core.message import Prepared as Prepared
    from kirsch.websocket.core.opening import ClientOptions as ClientOptions
    from kirsch.websocket.core.room import Room as Room
    from kirsch.websocket.core.sending import State as State
    from kirsch.websocket.core.site import Site as Site
    from kirsch.websocket.core.speedups import Parser as Parser
    from kirsch.websocket.core.speedups import Protocol as Protocol
    from kirsch.websocket.core.url import BadUrl as BadUrl
    from kirsch.websocket.core.url import Proxy as Proxy
    from kirsch.websocket.core.url import Url as Url

# A test compares this with the imports above.
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
    "HeadReader": "headers",
    "Headers": "headers",
    "Limits": "limits",
    "Message": "message",
    "Parser": "speedups",
    "Ping": "message",
    "Policy": "handshake",
    "Pong": "message",
    "Prepared": "message",
    "Protocol": "speedups",
    "ProtocolError": "errors",
    "Proxy": "url",
    "Request": "headers",
    "Response": "headers",
    "Room": "room",
    "Site": "site",
    "Slow": "errors",
    "State": "sending",
    "Url": "url",
    "WebSocket": "application",
    "WebSocketError": "errors",
    "refusal": "handshake",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.core.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_MODULES)
