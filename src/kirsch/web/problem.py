"""Errors as a site tells them: problem+json (RFC 9457), or a short page for people."""

import html
import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

import cherrypy

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger(__name__)

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
{refresh}{styles}
<main class="fault"><h1>{title}</h1><p>{detail}</p>{more}</main>
</html>
"""


class Problem(cherrypy.HTTPError):
    """An error a client is told of: its status, in one sentence what is wrong, and further fields.

    `more` is HTML that stands below the sentence on the page that people get; `Request.back` if not given.
    A page with Retry-After among its headers asks for itself again.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        fields: Mapping[str, Any] | None = None,
        more: str | None = None,
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


def error_body(status: str, message: str, **_fields: object) -> bytes:
    """The body for an error of CherryPy's own (`error_page.default`), and its Content-Type."""
    return _body(int(status.split()[0]), html.unescape(message), {}, None)


def log() -> None:
    """The hook (`before_error_response`) that logs what nobody caught."""
    request = cherrypy.serving.request
    _log.exception("%s %s failed", request.method, request.path_info)


def unexpected() -> None:
    """The answer to what nobody caught (`request.error_response`)."""
    Problem(500, "Something went wrong on the server; its log says what.").set_response()


def is_for_people() -> bool:
    """Return True if the request is a browser's, for a page."""
    return "text/html" in cherrypy.serving.request.headers.get("Accept", "")


class Request(cherrypy.Application.request_class):
    """CherryPy's request, which tells of errors as problems even where it refuses before it reads the
    configuration. To be an application's `request_class`, as it is or with other `styles` and `back`."""

    error_page: ClassVar = {"default": error_body}
    styles: tuple[str, ...] = ("/static/look.css", "/static/app.css")
    """Paths of the style sheets that the page for people has."""
    back: str = '<p><a href="/">Back</a></p>'
    """What leads on from there, as HTML."""


PROBLEMS: dict[str, Any] = {
    "request.error_response": unexpected,
    "hooks.before_error_response.log": log,
    # log does.
    "tools.log_tracebacks.on": False,
}
"""For an application's configuration of `/`: what no handler foresaw is logged, and told as a problem."""


def _body(status: int, detail: str, fields: Mapping[str, Any], more: str | None) -> bytes:
    title = HTTPStatus(status).phrase
    headers = cherrypy.serving.response.headers
    headers["Cache-Control"] = "no-store"
    if is_for_people():
        headers["Content-Type"] = "text/html;charset=utf-8"
        return _page(title, detail, more).encode()
    headers["Content-Type"] = MEDIA_TYPE
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **fields}
    return json.dumps(body, ensure_ascii=False).encode()


def _page(title: str, detail: str, more: str | None) -> str:
    request = cherrypy.serving.request
    styles = "\n".join(
        f'<link rel="stylesheet" href="{html.escape(path)}">' for path in getattr(request, "styles", ())
    )
    below = getattr(request, "back", "") if more is None else more
    return _PAGE.format(
        title=title, refresh=_refresh(), styles=styles, detail=html.escape(detail), more=below
    )


def _refresh() -> str:
    """The tag that has a page asked for again where the response says when to; empty elsewhere."""
    seconds = cherrypy.serving.response.headers.get("Retry-After", "")
    if cherrypy.serving.request.method not in ("GET", "HEAD") or not seconds.isdecimal():
        return ""
    return f'<meta http-equiv="refresh" content="{seconds}">\n'
