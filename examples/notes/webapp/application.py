"""The tree of resources and what holds for each request to them."""

from typing import Any

import cherrypy

from . import body, guard, problem
from .notes import Notes
from .page import Page, Static
from .settings import Settings


class Api:
    """/api: what is below it."""

    def __init__(self) -> None:
        self.notes = Notes()


class Root(Page):
    """The whole site."""

    def __init__(self) -> None:
        super().__init__()
        self.api = Api()
        self.static = Static()


def application(settings: Settings) -> Any:
    """The site as a CherryPy application."""
    site = cherrypy.Application(Root(), "", configuration(settings))
    site.request_class = request_class(settings)
    return site


def configuration(settings: Settings) -> dict[str, dict[str, Any]]:
    """CherryPy's configuration, path by path."""
    return {
        "/": {
            # Names as they are: /--class-- is not to mean __class__.
            "request.dispatch": cherrypy.dispatch.MethodDispatcher(translate={}),
            "request.error_response": problem.unexpected,
            # body.receive does.
            "request.process_request_body": False,
            # problem.log does.
            "tools.log_tracebacks.on": False,
            "hooks.on_start_resource.body": body.receive,
            "hooks.on_start_resource.guard": guard.check(settings.hosts),
            "hooks.before_error_response.log": problem.log,
        },
        "/api": {"tools.sql.on": True},
    }


def request_class(settings: Settings) -> type:
    """CherryPy's request, with what must hold even for those it refuses before it reads the configuration.

    To a request without Host it would show a traceback and its version.
    """
    base = cherrypy.Application.request_class
    hooks = base.hooks.copy()
    label = guard.label(settings.instance)
    hooks.attach("before_finalize", label)
    hooks.attach("after_error_response", label)
    ours = {"hooks": hooks, "show_tracebacks": False, "error_page": {"default": problem.error_page}}
    return type("Request", (base,), ours)
