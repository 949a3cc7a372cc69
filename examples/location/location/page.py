"""The page and the files it is made of, read once at start-up, from an archive too."""

# ruff: noqa: N802  CherryPy dispatches to methods named as HTTP names them.

import hashlib
from dataclasses import dataclass
from importlib.resources import files

import cherrypy

MEDIA_TYPES = {
    "css": "text/css;charset=utf-8",
    "html": "text/html;charset=utf-8",
    "js": "text/javascript;charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file's bytes, its media type, and its entity tag."""

    data: bytes
    media_type: str
    tag: str

    def serve(self) -> bytes | None:
        """The response: 304 if the client has these bytes."""
        response = cherrypy.serving.response
        response.headers["ETag"] = self.tag
        response.headers["Cache-Control"] = "no-cache"
        if cherrypy.serving.request.headers.get("If-None-Match") == self.tag:
            response.status = 304
            return None
        response.headers["Content-Type"] = self.media_type
        return self.data


class Page:
    """The one page there is."""

    exposed = True

    def __init__(self) -> None:
        self._file = _files()["index.html"]

    def GET(self) -> bytes | None:
        """The page."""
        return self._file.serve()


class Static:
    """/static/…: the style sheet, the modules, the picture."""

    exposed = True

    def __init__(self) -> None:
        self._files = _files()

    def GET(self, *path: str) -> bytes | None:
        """The file at `path`."""
        file = self._files.get("/".join(path))
        if file is None:
            raise cherrypy.NotFound
        return file.serve()


def _files() -> dict[str, File]:
    # Not by paths: what runs on a phone may be one archive.
    found = {}
    for each in files(__package__).joinpath("static").iterdir():
        kind = MEDIA_TYPES.get(each.name.rpartition(".")[2])
        if kind:
            data = each.read_bytes()
            found[each.name] = File(data, kind, f'"{hashlib.sha256(data).hexdigest()[:20]}"')
    return found
