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


def configuration(settings: Settings) -> dict[str, dict[str, Any]]:
    """CherryPy's configuration, path by path."""
    label = guard.label(settings.instance)
    return {
        "/": {
            # Names as they are: /--class-- is not to mean __class__.
            "request.dispatch": cherrypy.dispatch.MethodDispatcher(translate={}),
            # body.receive does.
            "request.process_request_body": False,
            "request.error_response": problem.unexpected,
            "error_page.default": problem.error_page,
            # problem.unexpected logs them.
            "tools.log_tracebacks.on": False,
            "hooks.on_start_resource.body": body.receive,
            "hooks.on_start_resource.guard": guard.check(settings.hosts),
            "hooks.before_finalize.label": label,
            "hooks.after_error_response.label": label,
        },
        "/api": {"tools.sql.on": True},
    }
