"""The page and the files it is made of, read once at start-up and served from memory."""

# ruff: noqa: N802  CherryPy dispatches to methods named as HTTP names them.

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cherrypy

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".css": "text/css;charset=utf-8",
    ".html": "text/html;charset=utf-8",
    ".js": "text/javascript;charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file's bytes, its media type, and the entity tag every instance gives it."""

    data: bytes
    media_type: str
    tag: str

    @classmethod
    def read(cls, path: Path) -> "File":
        """What is at `path`."""
        data = path.read_bytes()
        return cls(data, MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(data).hexdigest()[:20]}"')

    def serve(self) -> bytes | None:
        """The response: 304 if the client has these bytes."""
        response = cherrypy.serving.response
        response.headers["ETag"] = self.tag
        # Asked for again each time: two instances may be of different releases during a roll-out.
        response.headers["Cache-Control"] = "no-cache"
        if cherrypy.serving.request.headers.get("If-None-Match") == self.tag:
            response.status = 304
            return None
        response.headers["Content-Type"] = self.media_type
        return self.data


class Page:
    """/: the one page there is."""

    exposed = True

    def __init__(self) -> None:
        self._file = File.read(STATIC / "index.html")

    def GET(self) -> bytes | None:
        """The page."""
        return self._file.serve()


class Static:
    """/static/…: the style sheet, the modules, the picture."""

    exposed = True

    def __init__(self) -> None:
        self._files = {path.name: File.read(path) for path in STATIC.iterdir() if path.suffix in MEDIA_TYPES}

    def GET(self, *path: str) -> bytes | None:
        """The file at `path`."""
        file = self._files.get("/".join(path))
        if file is None:
            raise cherrypy.NotFound
        return file.serve()
