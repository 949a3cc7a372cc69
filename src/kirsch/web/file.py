"""A page and the files it is made of, read once at start-up, from an archive too, and served from memory."""

# ruff: noqa: N802  CherryPy dispatches to methods named as HTTP names them.

import hashlib
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

import cherrypy

from kirsch.web.etag import is_held

MEDIA_TYPES = {
    ".css": "text/css;charset=utf-8",
    ".html": "text/html;charset=utf-8",
    ".js": "text/javascript;charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file's bytes, its media type, and the entity tag that every instance gives it."""

    data: bytes
    media_type: str
    tag: str

    @classmethod
    def of(cls, data: bytes, name: str) -> "File":
        """The file `name` with these bytes. Raises KeyError for an ending that MEDIA_TYPES does not have."""
        kind = MEDIA_TYPES[PurePosixPath(name).suffix]
        return cls(data, kind, f'"{hashlib.sha256(data).hexdigest()[:20]}"')

    @classmethod
    def read(cls, path: Traversable) -> "File":
        """Read the file at `path`. Raises OSError, and KeyError as `of` does."""
        return cls.of(path.read_bytes(), path.name)

    def serve(self) -> bytes | None:
        """The response: 304 if the client has these bytes."""
        response = cherrypy.serving.response
        response.headers["ETag"] = self.tag
        # Asked for again each time, by tag: two instances may be of different releases during a roll-out.
        response.headers["Cache-Control"] = "no-cache"
        if is_held(cherrypy.serving.request.headers.get("If-None-Match", ""), self.tag):
            response.status = 304
            return None
        response.headers["Content-Type"] = self.media_type
        return self.data


class Page:
    """A resource that is one file: the page."""

    exposed = True

    def __init__(self, file: File) -> None:
        self._file = file

    def GET(self) -> bytes | None:
        """Answer with the page."""
        return self._file.serve()


class Static:
    """A resource below which all files of some folders are: style sheets, modules, pictures."""

    exposed = True

    def __init__(self, *folders: Traversable) -> None:
        self._files = {name: file for folder in folders for name, file in files_below(folder).items()}

    def GET(self, *path: str) -> bytes | None:
        """The file at `path`. Raises NotFound."""
        file = self._files.get("/".join(path))
        if file is None:
            raise cherrypy.NotFound
        return file.serve()


def files_below(folder: Traversable) -> dict[str, File]:
    """The files of a folder and of those in it that MEDIA_TYPES knows, by their paths. Raises OSError."""
    found: dict[str, File] = {}
    for each in folder.iterdir():
        if each.is_dir():
            found |= {f"{each.name}/{name}": file for name, file in files_below(each).items()}
        elif PurePosixPath(each.name).suffix in MEDIA_TYPES:
            found[each.name] = File.read(each)
    return found
