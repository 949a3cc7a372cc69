"""The tree of resources and what holds for each request to them."""

import logging
import sys
from pathlib import Path
from typing import Any

import cherrypy
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from kirsch import web
from kirsch.bus import MethodDispatcher
from kirsch.web import LOOK, PROBLEMS, File, Page, Static, own_site

from .notes import Notes
from .openapi import Document
from .settings import Settings

STATIC = Path(__file__).parent / "static"
_PURE = '<link rel="stylesheet" href="/static/vendor/pure-min.css">'
_log = logging.getLogger(__name__)


class Request(web.Request):
    """A request whose errors lead back to the notes."""

    back = '<p><a href="/">Back to the notes</a></p>'


class Api:
    """/api: what is below it."""

    exposed = False

    def __init__(self) -> None:
        self.notes = Notes()
        setattr(self, "openapi.json", Document())


class Root(Page):
    """The whole site."""

    def __init__(self, folder: Path = STATIC) -> None:
        super().__init__(index(folder))
        self.api = Api()
        self.static = Static(folder, LOOK)


def index(folder: Path) -> File:
    """The page, which does without Pure.css where that is not there."""
    text = (folder / "index.html").read_text("utf-8")
    if not (folder / "vendor" / "pure-min.css").exists():
        text = text.replace(_PURE, "")
    return File.of(text.encode(), "index.html")


def application(settings: Settings) -> Any:
    """The site as a CherryPy application."""
    site = cherrypy.Application(Root(), "", configuration(settings))
    site.request_class = Request
    return site


def configuration(settings: Settings) -> dict[str, dict[str, Any]]:
    """CherryPy's configuration, path by path."""
    return {
        "/": {
            "request.dispatch": MethodDispatcher(),
            # Handlers answer with bytes, and a path names its resource with or without a slash at its end.
            "tools.encode.on": False,
            "tools.trailing_slash.on": False,
            # body.body_of does.
            "request.process_request_body": False,
            "hooks.on_start_resource.strangers": own_site(settings.site.hosts, "NOTES_HOSTS"),
            # What cherrypy.tools.sql has not answered with 503.
            **PROBLEMS,
            "hooks.before_error_response.log": log,
        },
        "/api": {"tools.sql.on": True},
    }


def log() -> None:
    """The hook that logs what nobody caught: a line if the database is away, else the traceback too."""
    error = sys.exc_info()[1]
    request = cherrypy.serving.request
    if isinstance(error, OperationalError | PoolTimeout):
        reason = str(error).strip().partition("\n")[0]
        _log.warning("%s %s: the database does not answer: %s", request.method, request.path_info, reason)
    else:
        _log.exception("%s %s failed", request.method, request.path_info)
