"""Overview of a Bridge's rooms for whoever runs it: a page behind a password, and the figures it shows."""

import hmac
import html
import json
import time
from base64 import b64decode
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from kirsch.amqp.bridge import Bridge
from kirsch.web import HEADERS, LOOK, Guesses

STATIC = files("kirsch.amqp") / "static"
SHORTEST = 12  # characters of a password
MOST = 500  # rooms that are shown
FILES = {
    "/look.css": (LOOK / "look.css", "text/css; charset=utf-8"),
    "/rooms.css": (STATIC / "rooms.css", "text/css; charset=utf-8"),
    "/rooms.js": (STATIC / "rooms.js", "text/javascript; charset=utf-8"),
}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'self'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
FIELDS = tuple({**HEADERS, "Content-Security-Policy": POLICY, "Cache-Control": "no-store"}.items())


class RoomsPage:
    """WSGI application that shows rooms, who is in them, rates, gaps and slow readers.

        RoomsPage(bridge, os.environ["ROOMS_PASSWORD"]).mount(cherrypy.tree)

    A browser asks for the password (HTTP Basic, RFC 7617; any user name), so serve it by TLS. Members are
    those of all processes; who is behind is told by the process that answers. Raises ValueError for a
    password of fewer than 12 characters.
    """

    def __init__(self, bridge: Bridge, password: str) -> None:
        if len(password) < SHORTEST:
            raise ValueError(f"the password of the rooms' page has {SHORTEST} characters at least")
        self._bridge = bridge
        self._password = password.encode()
        self._page = (STATIC / "rooms.html").read_text("utf-8")
        self._guesses = Guesses()

    def mount(self, tree: Any, path: str = "/rooms") -> None:
        """Serve it from a tree of applications, such as cherrypy.tree."""
        tree.graft(self, path)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        status, headers, body = self._answer(environ)
        start_response(status, [*headers, *FIELDS, ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _text("405 Method Not Allowed", "this page is read only", ("Allow", "GET, HEAD"))
        forwarded = environ.get("HTTP_X_FORWARDED_FOR", "")
        address = self._bridge.proxies.origin(environ.get("REMOTE_ADDR", ""), [forwarded])
        now = time.monotonic()
        if wait := self._guesses.wait(address, now):
            again = ("Retry-After", str(int(wait) + 1))
            return _text("429 Too Many Requests", "there were too many wrong passwords", again)
        given = _password(environ.get("HTTP_AUTHORIZATION", ""))
        if given is None or not hmac.compare_digest(given, self._password):
            if given is not None:
                self._guesses.count(address, now)
            ask = ("WWW-Authenticate", 'Basic realm="Rooms", charset="UTF-8"')
            return _text("401 Unauthorized", "the password of this page is needed", ask)
        path = environ.get("PATH_INFO", "")
        if path == "/data":
            data = json.dumps(self._bridge.overview(MOST)).encode()
            return "200 OK", [("Content-Type", "application/json")], data
        if path in ("", "/"):
            base = html.escape(environ.get("SCRIPT_NAME", ""))
            return (
                "200 OK",
                [("Content-Type", "text/html; charset=utf-8")],
                self._page.replace("BASE", base).encode(),
            )
        if path in FILES:
            file, kind = FILES[path]
            return "200 OK", [("Content-Type", kind)], file.read_bytes()
        return _text("404 Not Found", "there is no such page")


def _text(status: str, text: str, *more: tuple[str, str]) -> tuple[str, list[tuple[str, str]], bytes]:
    return status, [("Content-Type", "text/plain; charset=utf-8"), *more], f"{text}\n".encode()


def _password(field: str) -> bytes | None:
    """Return the password of an Authorization field; None without one."""
    scheme, _, credentials = field.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return b64decode(credentials.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return b""
