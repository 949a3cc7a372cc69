"""The tree of resources and what holds for each request to them."""

# ruff: noqa: N802  CherryPy dispatches to methods named as HTTP names them.

from typing import Any, ClassVar

import cherrypy

from kirsch.bus import MethodDispatcher
from kirsch.device import LocationPlugin
from kirsch.websocket.cherrypy import WebSocketTool

cherrypy.tools.websocket = WebSocketTool()

from . import guard, problem  # noqa: E402  the tool has to be there when resources are made
from .page import Page, Static  # noqa: E402
from .settings import Settings  # noqa: E402
from .where import Where  # noqa: E402


class Request(cherrypy.Application.request_class):
    """CherryPy's request, with our error pages even where it refuses before it reads the configuration."""

    error_page: ClassVar = {"default": problem.error_page}


class Root:
    """/: there is one thing to see."""

    exposed = True

    def __init__(self, plugin: LocationPlugin, token: str) -> None:
        self.location = Where(plugin, Page())
        self.static = Static()
        if token:
            self.token = Token(token)

    def GET(self) -> None:
        """It is at /location."""
        raise cherrypy.HTTPRedirect("/location", 303)


class Token:
    """/token: where people type the token."""

    exposed = True

    def __init__(self, token: str) -> None:
        self._token = token

    def POST(self, token: object = "") -> None:
        """Take it, and show the location."""
        if not isinstance(token, str) or not guard.is_token(token, self._token):
            raise guard.refusal(guard.WRONG)
        guard.remember(self._token)
        raise cherrypy.HTTPRedirect("/location", 303)


def application(plugin: LocationPlugin, settings: Settings) -> Any:
    """The site as a CherryPy application."""
    site = cherrypy.Application(Root(plugin, settings.token), "", configuration(settings))
    site.request_class = Request
    return site


def configuration(settings: Settings) -> dict[str, dict[str, Any]]:
    """CherryPy's configuration, path by path."""
    general: dict[str, Any] = {
        "request.dispatch": MethodDispatcher(),
        "request.error_response": problem.unexpected,
        "tools.encode.on": False,
        "tools.trailing_slash.on": False,
        # problem.log does.
        "tools.log_tracebacks.on": False,
        "hooks.on_start_resource.strangers": guard.strangers(settings.hosts),
        "hooks.before_error_response.log": problem.log,
    }
    # Parameters have been read then.
    asked = {"hooks.before_handler.token": guard.check(settings.token)} if settings.token else {}
    return {"/": general, "/location": asked}
