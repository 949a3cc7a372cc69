"""Errors as the application tells them: problem+json (RFC 9457), or a short page for people."""

import html
import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import cherrypy

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger(__name__)

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/static/app.css">
<main class="fault"><h1>{title}</h1><p>{detail}</p>{more}</main>
</html>
"""
BACK = '<p><a href="/location">Back to the location</a></p>'


class Problem(cherrypy.HTTPError):
    """An error a client is told of: its status, in one sentence what is wrong, and further fields."""

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        fields: Mapping[str, Any] | None = None,
        more: str = BACK,
    ) -> None:
        super().__init__(status, detail)
        self.detail = detail
        self.headers = headers or {}
        self.fields = fields or {}
        self.more = more

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
        return _body(self.code, self.detail, self.fields, self.more)


def error_page(status: str, message: str, **_fields: object) -> bytes:
    """The body for an error of CherryPy's own (`error_page.default`), and its Content-Type."""
    return _body(int(status.split()[0]), message, {}, BACK)


def log() -> None:
    """The hook that logs what nobody caught."""
    request = cherrypy.serving.request
    _log.exception("%s %s failed", request.method, request.path_info)


def unexpected() -> None:
    """The answer to what nobody caught (`request.error_response`)."""
    Problem(500, "Something went wrong on the server; its log says what.").set_response()


def is_for_people() -> bool:
    """Whether the request is a browser's, for a page."""
    return "text/html" in cherrypy.serving.request.headers.get("Accept", "")


def _body(status: int, detail: str, fields: Mapping[str, Any], more: str) -> bytes:
    title = HTTPStatus(status).phrase
    headers = cherrypy.serving.response.headers
    headers["Cache-Control"] = "no-store"
    if is_for_people():
        headers["Content-Type"] = "text/html;charset=utf-8"
        return _PAGE.format(title=title, detail=html.escape(detail), more=more).encode()
    headers["Content-Type"] = MEDIA_TYPE
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **fields}
    return json.dumps(body, ensure_ascii=False).encode()
