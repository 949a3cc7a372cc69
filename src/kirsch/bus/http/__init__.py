"""HTTP server: for CherryPy, and for any WSGI application."""

from kirsch.bus.http.adapter import (
    SERVER_DEFAULTS,
    ApplicationServer,
    HTTPAdapter,
    http_server,
    settle_memory,
)
from kirsch.bus.http.limits import Limits
from kirsch.bus.http.listener import ServerError
from kirsch.bus.http.server import Server

__all__ = [
    "SERVER_DEFAULTS",
    "ApplicationServer",
    "HTTPAdapter",
    "Limits",
    "Server",
    "ServerError",
    "http_server",
    "settle_memory",
]
