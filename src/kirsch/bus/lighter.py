"""What CherryPy (18.10) works out anew for each request though it comes out the same.

The classes here are CherryPy's own, with the same results; `lighten()` puts them where CherryPy looks, so
that every application of the process has them. A test fails when CherryPy's code changes.
"""

import time
from collections.abc import Mapping
from functools import lru_cache
from http.cookies import SimpleCookie
from typing import Any

import cherrypy
from cherrypy._cprequest import HookMap, Request, Response, hookpoints
from cherrypy.lib import httputil
from cherrypy.lib.reprconf import NamespaceSet

_NAMES = 1000
_encoded: dict[str, bytes] = {}


class Namespaces(NamespaceSet):
    """From a request's configuration to what each of its entries does."""

    def __call__(self, config: Mapping[str, Any]) -> None:
        """Hand each entry to its namespace's handler, which may be a context manager."""
        entries: dict[str, list[tuple[str, Any]]] = {}
        for key, value in config.items():
            namespace, name = _split(key)
            if namespace in self:
                entries.setdefault(namespace, []).append((name, value))
        for namespace, handler in self.items():
            if hasattr(handler, "__exit__"):
                with handler as handle:
                    for name, value in entries.get(namespace, ()):
                        handle(name, value)
            else:
                for name, value in entries.get(namespace, ()):
                    handler(name, value)


class Hooks(HookMap):
    """Hooks by the point where they run; at most points there are none."""

    def run(self, point: str) -> None:
        """Run a point's hooks by priority."""
        if self[point]:
            super().run(point)


class Headers(httputil.HeaderMap):
    """A response's header fields."""

    def output(self) -> list[tuple[bytes, bytes]]:
        """As they are sent."""
        found = []
        for name, value in self.items():
            encoded = _encoded.get(name) or _encode_name(name)
            text = value if isinstance(value, str | bytes) else str(value)
            if isinstance(text, str) and text.isascii() and text.isprintable():
                found.append((encoded, text.encode()))
            else:
                found.append((encoded, self.encode_header_item(text)))
        return found


class LighterResponse(Response):
    """A response, with the date worked out once a second."""

    def __init__(self) -> None:
        self.status = None
        self.header_list = None
        self._body: Any = []
        self.time = time.time()
        self.headers = Headers()
        fields = {"Content-Type": "text/html", "Server": _SERVER, "Date": _date(int(self.time))}
        dict.update(self.headers, fields)
        self.cookie = SimpleCookie()


_SERVER = f"CherryPy/{cherrypy.__version__}"


def lighten() -> None:
    """Have every CherryPy application of this process use these classes, unless it has its own."""
    if type(Request.hooks) is HookMap:
        hooks = Hooks(hookpoints)
        hooks.update(Request.hooks)
        Request.hooks = hooks
    if type(Request.namespaces) is NamespaceSet:
        Request.namespaces = Namespaces(**Request.namespaces)
    if cherrypy.Application.response_class is Response:
        cherrypy.Application.response_class = LighterResponse


@lru_cache(_NAMES)
def _split(key: str) -> tuple[str, str]:
    namespace, dot, name = key.partition(".")
    return (namespace, name) if dot else ("", "")


@lru_cache(2)
def _date(second: int) -> str:
    return str(httputil.HTTPDate(second))


def _encode_name(name: str) -> bytes:
    encoded: bytes = httputil.HeaderMap.encode_header_item(name)
    if len(_encoded) < _NAMES:
        _encoded[name] = encoded
    return encoded
