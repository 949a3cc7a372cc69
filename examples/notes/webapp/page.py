"""The page and the files it is made of, read once at start-up and served from memory."""

# ruff: noqa: N802  CherryPy dispatches to methods named as HTTP names them.

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cherrypy

from .etag import TagError, Tags

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".css": "text/css;charset=utf-8",
    ".html": "text/html;charset=utf-8",
    ".js": "text/javascript;charset=utf-8",
    ".svg": "image/svg+xml",
}
_PURE = '<link rel="stylesheet" href="/static/vendor/pure-min.css">'


@dataclass(frozen=True, slots=True)
class File:
    """A file's bytes, its media type, and the entity tag every instance gives it."""

    data: bytes
    media_type: str
    tag: str

    @classmethod
    def of(cls, data: bytes, name: str) -> "File":
        """The file `name` with these bytes."""
        return cls(data, MEDIA_TYPES[Path(name).suffix], f'"{hashlib.sha256(data).hexdigest()[:20]}"')

    def serve(self) -> bytes | None:
        """The response: 304 if the client has these bytes."""
        response = cherrypy.serving.response
        response.headers["ETag"] = self.tag
        # Asked for again each time, by tag: two instances may be of different releases during a roll-out.
        response.headers["Cache-Control"] = "no-cache"
        if self._is_held(cherrypy.serving.request.headers.get("If-None-Match", "")):
            response.status = 304
            return None
        response.headers["Content-Type"] = self.media_type
        return self.data

    def _is_held(self, field: str) -> bool:
        try:
            held = Tags.parse(field)
        except TagError:
            return False
        return held.any or self.tag in {tag.removeprefix("W/") for tag in held.tags}


class Page:
    """/: the one page there is."""

    exposed = True

    def __init__(self, folder: Path = STATIC) -> None:
        text = (folder / "index.html").read_text("utf-8")
        if not (folder / "vendor" / "pure-min.css").exists():
            text = text.replace(_PURE, "")
        self._file = File.of(text.encode(), "index.html")

    def GET(self) -> bytes | None:
        """The page."""
        return self._file.serve()


class Static:
    """/static/…: style sheets, modules, pictures."""

    exposed = True

    def __init__(self, folder: Path = STATIC) -> None:
        self._files = {
            path.relative_to(folder).as_posix(): File.of(path.read_bytes(), path.name)
            for path in folder.rglob("*")
            if path.suffix in MEDIA_TYPES
        }

    def GET(self, *path: str) -> bytes | None:
        """The file at `path`."""
        file = self._files.get("/".join(path))
        if file is None:
            raise cherrypy.NotFound
        return file.serve()
