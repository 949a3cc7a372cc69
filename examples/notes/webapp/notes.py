"""The REST resource /api/notes: the notes, and each note by its number."""

# ruff: noqa: N802  CherryPy dispatches to methods named as HTTP names them.

import json
from typing import Any

import cherrypy
from sqlalchemy.orm import Session

from kirsch.web import Problem, TagError, Tags

from . import document, model
from .body import body_of
from .etag import entity_tag, versions
from .listing import Listing, ListingError, parse_id

JSON = "application/json"
_ENCODER = json.JSONEncoder(ensure_ascii=False)
MERGE_PATCH = "application/merge-patch+json"


class Notes:
    """/api/notes: list them, write one."""

    exposed = True

    def GET(self, **parameters: object) -> bytes:
        """A page of the notes, newest first, and the link to the next page."""
        try:
            listing = Listing.parse(parameters)
        except ListingError as error:
            raise Problem(400, str(error)) from None
        found = model.page_of_notes(_db(), listing)
        notes = found[: listing.limit]
        following = listing.next(notes[-1].id) if len(found) > listing.limit else None
        if following:
            _headers()["Link"] = f'<{following}>; rel="next"'
        return _json({"notes": [model.as_json(note) for note in notes], "next": following})

    def POST(self) -> bytes:
        """Write a note: 201, and where it is."""
        body = body_of(JSON)
        note = model.add_note(_db(), _checked_text(_parsed(body)))
        cherrypy.serving.response.status = 201
        # A path, not a URL: the Host the request came with may not be the one the client used.
        _headers()["Location"] = f"/api/notes/{note.id}"
        return _shown(note)

    def OPTIONS(self) -> None:
        """What can be done here is in Allow."""
        _no_content()

    def _cp_dispatch(self, vpath: list[str]) -> "OneNote":
        # CherryPy asks for the resource below: /api/notes/12 is OneNote("12").
        return OneNote(vpath.pop(0))


class OneNote:
    """/api/notes/ID: read, change, delete one note. Changes are conditional (RFC 6585, section 3)."""

    exposed = True

    def __init__(self, segment: str) -> None:
        self._segment = segment

    def GET(self) -> bytes | None:
        """The note, or 304 if the client has it as it is."""
        note = model.find_note(_db(), self._number())
        if note is None:
            raise self._missing()
        held = _tags("If-None-Match")
        if held is not None and held.matches_weakly(entity_tag(note.version)):
            cherrypy.serving.response.status = 304
            _headers()["ETag"] = entity_tag(note.version)
            return None
        return _shown(note)

    def PUT(self) -> bytes:
        """Replace the note."""
        return self._replace(_checked_text(_parsed(body_of(JSON))))

    def PATCH(self) -> bytes:
        """Change what the document names (RFC 7396); an empty one changes nothing."""
        patch = _parsed(body_of(MERGE_PATCH, JSON))
        return self._replace(_checked_text(patch)) if patch else self._unchanged()

    def DELETE(self) -> None:
        """Delete the note."""
        tags = self._condition()
        if not model.remove_note(_db(), self._number(), tags):
            raise self._refusal()
        _no_content()

    def OPTIONS(self) -> None:
        """What can be done here is in Allow."""
        _headers()["Accept-Patch"] = f"{MERGE_PATCH}, {JSON}"
        _no_content()

    def _replace(self, text: str) -> bytes:
        note = model.replace_text(_db(), self._number(), self._condition(), text)
        if note is None:
            raise self._refusal()
        return _shown(note)

    def _unchanged(self) -> bytes:
        tags = self._condition()
        note = model.find_note(_db(), self._number())
        if note is None or not (tags.any or note.version in versions(tags)):
            raise self._refusal()
        return _shown(note)

    def _condition(self) -> Tags:
        tags = _tags("If-Match")
        if tags is None:
            self._current()
            raise Problem(
                428, 'Send If-Match with the ETag of the note as you know it, such as "1", or * for any.'
            )
        return tags

    def _refusal(self) -> Problem:
        current = self._current()
        detail = "The note was changed by someone else in the meantime."
        return Problem(412, detail, {"ETag": entity_tag(current.version)})

    def _current(self) -> Any:
        note = model.find_note(_db(), self._number())
        if note is None:
            raise self._missing()
        return note

    def _number(self) -> int:
        number = parse_id(self._segment)
        if number is None:
            raise self._missing()
        return number

    def _missing(self) -> Problem:
        return Problem(404, f"There is no note {self._segment[:80]!r}.")


def _db() -> Session:
    session: Session = cherrypy.serving.request.db
    return session


def _headers() -> dict[str, str]:
    headers: dict[str, str] = cherrypy.serving.response.headers
    return headers


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        return document.parse(body)
    except document.DocumentError as error:
        raise Problem(400, str(error)) from None


def _checked_text(fields: dict[str, Any]) -> str:
    try:
        return document.text_of(fields)
    except document.DocumentError as error:
        raise Problem(400, str(error)) from None


def _tags(name: str) -> Tags | None:
    field = cherrypy.serving.request.headers.get(name)
    try:
        return None if field is None else Tags.parse(field)
    except TagError as error:
        raise Problem(400, f"{name}: {error}.") from None


def _shown(note: Any) -> bytes:
    _headers()["ETag"] = entity_tag(note.version)
    return _json(model.as_json(note))


def _json(value: object) -> bytes:
    headers = _headers()
    headers["Content-Type"] = JSON
    headers["Cache-Control"] = "no-cache"
    return _ENCODER.encode(value).encode()


def _no_content() -> None:
    cherrypy.serving.response.status = 204
    del cherrypy.serving.response.headers["Content-Type"]
