"""kirsch.js, the browser's side: its file, and an application that serves it."""

import hashlib
from importlib.resources import files
from typing import Any

SCRIPT = files("kirsch.amqp").joinpath("static/kirsch.js")


def script() -> bytes:
    """Return the text of kirsch.js, an ES module without dependencies."""
    return SCRIPT.read_bytes()


def mount(tree: Any, path: str = "/kirsch.js") -> None:
    """Serve kirsch.js from a tree of applications, such as cherrypy.tree."""
    tree.graft(application(script()), path)


def application(body: bytes) -> Any:
    """Return a WSGI application that serves a script; browsers revalidate it by its ETag."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'

    def serve(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Length", "0")])
            return []
        headers = [("Content-Type", "text/javascript; charset=utf-8"), ("ETag", tag)]
        headers += [("Cache-Control", "no-cache"), ("X-Content-Type-Options", "nosniff")]
        if environ.get("HTTP_IF_NONE_MATCH") == tag:
            start_response("304 Not Modified", headers)
            return []
        start_response("200 OK", [*headers, ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return serve
