"""The tree of resources and what holds for each request to them."""

from typing import Any, ClassVar

import cherrypy

from kirsch.bus import MethodDispatcher

from . import guard, problem
from .notes import Notes
from .openapi import Document
from .page import Page, Static
from .settings import Settings


class Api:
    """/api: what is below it."""

    exposed = False

    def __init__(self) -> None:
        self.notes = Notes()
        setattr(self, "openapi.json", Document())


class Request(cherrypy.Application.request_class):
    """CherryPy's request, with our error pages even where it refuses before it reads the configuration."""

    error_page: ClassVar = {"default": problem.error_page}


class Root(Page):
    """The whole site."""

    def __init__(self) -> None:
        super().__init__()
        self.api = Api()
        self.static = Static()


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
            "request.error_response": problem.unexpected,
            # Handlers answer with bytes, and a path names its resource with or without a slash at its end.
            "tools.encode.on": False,
            "tools.trailing_slash.on": False,
            # body.body_of does.
            "request.process_request_body": False,
            # problem.log does.
            "tools.log_tracebacks.on": False,
            "hooks.on_start_resource.guard": guard.check(settings.hosts),
            "hooks.before_error_response.log": problem.log,
        },
        "/api": {"tools.sql.on": True},
    }
