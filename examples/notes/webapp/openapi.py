"""The OpenAPI 3.1 document of /api, served at /api/openapi.json. A test holds it to what the API answers."""

# ruff: noqa: N802  CherryPy dispatches to methods named as HTTP names them.

import json
from typing import Any

import cherrypy

from .document import MAX_TEXT
from .listing import DEFAULT_LIMIT, MAX_LIMIT, MAX_QUERY

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

STRING = {"type": "string"}
MOMENT = {"type": "string", "format": "date-time"}
NUMBER = {"type": "integer", "minimum": 1}
TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT, "description": "not blank, no NUL"}

PROBLEMS = {
    "400": "The request is wrong; the detail says where",
    "403": "A page of another site sent this",
    "404": "There is no such note",
    "408": "The body did not come",
    "412": "The note was changed in the meantime; ETag has its version",
    "413": "The body has more than 1 MiB",
    "415": "The body is of another media type; Accept or Accept-Patch name those that are read",
    "421": "Notes are not kept at this Host",
    "428": "A change needs If-Match",
    "500": "Something went wrong on the server",
    "503": "The database does not answer; try again",
}
ALWAYS = ("400", "421", "500", "503")
CHANGE = (*ALWAYS, "403", "404", "412", "428")
BODY = ("408", "413", "415")


def document() -> dict[str, Any]:
    """The whole document, as JSON has it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Notes",
            "version": "1",
            "description": "Every error is problem+json (RFC 9457). Changes are conditional: a note's ETag "
            "is sent back in If-Match, so that nobody overwrites what they have not seen.",
        },
        "servers": [{"url": "/api"}],
        "paths": {
            "/notes": {
                "get": _operation("listNotes", "A page of notes, newest first", _listed(), ALWAYS, _query()),
                "post": _operation(
                    "writeNote", "Write a note", _created(), (*ALWAYS, "403", *BODY), body=_body()
                ),
                "options": _operation("notesOptions", "What can be done", _nothing("It is in Allow"), ALWAYS),
            },
            "/notes/{id}": {
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": NUMBER}],
                "get": _operation(
                    "readNote",
                    "One note",
                    _note() | {"304": {"description": "The client has it as it is", "headers": _tag()}},
                    (*ALWAYS, "404"),
                    [_condition("If-None-Match", required=False)],
                ),
                "put": _operation(
                    "replaceNote",
                    "Replace a note",
                    _note(),
                    (*CHANGE, *BODY),
                    [_condition("If-Match")],
                    _body(),
                ),
                "patch": _operation(
                    "changeNote",
                    "Change what the document names (RFC 7396)",
                    _note(),
                    (*CHANGE, *BODY),
                    [_condition("If-Match")],
                    {
                        "required": True,
                        "content": {each: {"schema": _ref("Patch")} for each in (MERGE_PATCH, JSON)},
                    },
                ),
                "delete": _operation(
                    "deleteNote", "Delete a note", _nothing("It is gone"), CHANGE, [_condition("If-Match")]
                ),
                "options": _operation("noteOptions", "What can be done", _nothing("It is in Allow"), ALWAYS),
            },
            "/openapi.json": {
                "get": _operation("getDocument", "This document", _content({"type": "object"}), ALWAYS),
            },
        },
        "components": {"schemas": _schemas(), "responses": _problems()},
    }


class Document:
    """/api/openapi.json."""

    exposed = True

    def __init__(self) -> None:
        self._bytes = json.dumps(document(), ensure_ascii=False).encode()

    def GET(self) -> bytes:
        """The document."""
        headers = cherrypy.serving.response.headers
        headers["Content-Type"] = JSON
        headers["Cache-Control"] = "no-cache"
        return self._bytes


def _schemas() -> dict[str, Any]:
    note = {"id": NUMBER, "text": STRING, "version": NUMBER, "created": MOMENT, "updated": MOMENT}
    return {
        "Note": _object(note, list(note)),
        "Notes": _object(
            {"notes": {"type": "array", "items": _ref("Note")}, "next": {"type": ["string", "null"]}},
            ["notes", "next"],
        ),
        "NewNote": _object({"text": TEXT}, ["text"]) | {"examples": [{"text": "Buy cherries"}]},
        "Patch": _object({"text": TEXT}, []),
        "Problem": _object(
            {"type": STRING, "title": STRING, "status": {"type": "integer"}, "detail": STRING},
            ["type", "title", "status", "detail"],
        ),
    }


def _problems() -> dict[str, Any]:
    content = {"application/problem+json": {"schema": _ref("Problem")}}
    told = PROBLEMS.items()
    return {f"Problem{status}": {"description": what, "content": content} for status, what in told}


def _operation(
    name: str,
    summary: str,
    responses: dict[str, Any],
    problems: tuple[str, ...],
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    told = {status: {"$ref": f"#/components/responses/Problem{status}"} for status in problems}
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "responses": responses | told}
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = body
    return operation


def _query() -> list[dict[str, Any]]:
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
    return [
        {"name": "limit", "in": "query", "description": "How many at most", "schema": limit},
        {"name": "after", "in": "query", "description": "Those older than this note", "schema": NUMBER},
        {
            "name": "q",
            "in": "query",
            "description": "Those with this in their text",
            "schema": {"type": "string", "maxLength": MAX_QUERY},
        },
    ]


def _condition(name: str, *, required: bool = True) -> dict[str, Any]:
    what = "Entity tags as ETag has them, or *"
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": what,
        "schema": {"type": "string", "pattern": '^(\\*|"[0-9]+")$'},
        "example": "*" if required else '"1"',
    }


def _body() -> dict[str, Any]:
    return {"required": True, "content": {JSON: {"schema": _ref("NewNote")}}}


def _listed() -> dict[str, Any]:
    return _content(_ref("Notes"), {"Link": {"description": "the next page", "schema": STRING}})


def _note() -> dict[str, Any]:
    return _content(_ref("Note"), _tag())


def _created() -> dict[str, Any]:
    where = {"Location": {"description": "the path of the note", "required": True, "schema": STRING}}
    return {"201": _content(_ref("Note"), _tag() | where)["200"]}


def _tag() -> dict[str, Any]:
    return {"ETag": {"description": "the note's version", "required": True, "schema": STRING}}


def _nothing(what: str) -> dict[str, Any]:
    return {"204": {"description": what}}


def _content(schema: dict[str, Any], headers: dict[str, Any] | None = None) -> dict[str, Any]:
    told: dict[str, Any] = {"description": "It is so", "content": {JSON: {"schema": schema}}}
    return {"200": told | ({"headers": headers} if headers else {})}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    closed = {"type": "object", "properties": properties, "additionalProperties": False}
    return closed | ({"required": required} if required else {})


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}
