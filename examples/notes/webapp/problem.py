"""Errors as the application tells them: problem+json (RFC 9457) for the API, a short page elsewhere."""

import html
import json
import logging
import sys
from collections.abc import Mapping
from http import HTTPStatus

import cherrypy
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger(__name__)

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/static/app.css">
<main class="fault"><h1>{title}</h1><p>{detail}</p><p><a href="/">Back to the notes</a></p></main>
</html>
"""


class Problem(cherrypy.HTTPError):
    """An error a client is told of: its status, in one sentence what is wrong, and further fields."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail)
        self.detail = detail
        self.headers = headers or {}

    def set_response(self) -> None:
        """Make this error the response."""
        super().set_response()
        response = cherrypy.serving.response
        response.headers.update(self.headers)
        # Once more: CherryPy fills error pages up with spaces for the sake of Internet Explorer.
        response.body = self.get_error_page()
        response.headers.pop("Content-Length", None)

    def get_error_page(self, *_arguments: object, **_fields: object) -> bytes:
        """The body of the response, and its Content-Type."""
        return error_page(str(self.code), self.detail)


def error_page(status: str, message: str, **_fields: object) -> bytes:
    """The body for an error of CherryPy's own (`error_page.default`), and its Content-Type."""
    phrase = HTTPStatus(int(status.split()[0]))
    headers = cherrypy.serving.response.headers
    headers["Cache-Control"] = "no-store"
    if cherrypy.serving.request.path_info.startswith("/api"):
        headers["Content-Type"] = MEDIA_TYPE
        body = {"type": "about:blank", "title": phrase.phrase, "status": phrase.value, "detail": message}
        return json.dumps(body, ensure_ascii=False).encode()
    headers["Content-Type"] = "text/html;charset=utf-8"
    return _PAGE.format(title=phrase.phrase, detail=html.escape(message)).encode()


def log() -> None:
    """The hook that logs what nobody caught: a line if the database is away, else the traceback too."""
    error = sys.exc_info()[1]
    request = cherrypy.serving.request
    if isinstance(error, OperationalError | PoolTimeout):
        reason = str(error).strip().partition("\n")[0]
        _log.warning("%s %s: the database does not answer: %s", request.method, request.path_info, reason)
    else:
        _log.exception("%s %s failed", request.method, request.path_info)


def unexpected() -> None:
    """The answer to what nobody caught (`request.error_response`) but cherrypy.tools.sql, which says 503."""
    Problem(500, "Something went wrong on the server; its log says what.").set_response()
