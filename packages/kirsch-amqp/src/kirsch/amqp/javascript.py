"""kirsch.js, the browser's side: where it lies, and how to serve it."""

import hashlib
from importlib.resources import files
from typing import Any

SCRIPT = files("kirsch.amqp").joinpath("static/kirsch.js")


def script() -> bytes:
    """The text of kirsch.js: an ES module without dependencies."""
    return SCRIPT.read_bytes()


def mount(tree: Any, path: str = "/kirsch.js") -> None:
    """Serve it from a tree of applications, as cherrypy.tree."""
    tree.graft(application(script()), path)


def application(body: bytes) -> Any:
    """A WSGI application that answers with a script; browsers ask whether it has changed."""
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
