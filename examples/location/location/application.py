"""The tree of resources and what holds for each request to them."""

# ruff: noqa: N802  CherryPy dispatches to methods named as HTTP names them.

from importlib.resources import files
from typing import Any

import cherrypy

from kirsch import web
from kirsch.bus import MethodDispatcher
from kirsch.device import LocationPlugin
from kirsch.web import LOOK, PROBLEMS, File, Page, Static, own_site
from kirsch.websocket.cherrypy import WebSocketTool

cherrypy.tools.websocket = WebSocketTool()

from .settings import Settings  # noqa: E402  the tool has to be there when resources are made
from .token import Secret, Token, check  # noqa: E402
from .where import Where  # noqa: E402

STATIC = files(__package__) / "static"


class Request(web.Request):
    """A request whose errors lead back to the location."""

    back = '<p><a href="/location">Back to the location</a></p>'


class Root:
    """/: there is one thing to see."""

    exposed = True

    def __init__(self, plugin: LocationPlugin, secret: Secret | None) -> None:
        self.location = Where(plugin, Page(File.read(STATIC / "index.html")))
        self.static = Static(STATIC, LOOK)
        if secret is not None:
            self.token = Token(secret)

    def GET(self) -> None:
        """It is at /location."""
        raise cherrypy.HTTPRedirect("/location", 303)


def application(plugin: LocationPlugin, settings: Settings) -> Any:
    """The site as a CherryPy application."""
    secret = Secret(settings.token) if settings.token else None
    site = cherrypy.Application(Root(plugin, secret), "", configuration(settings, secret))
    site.request_class = Request
    return site


def configuration(settings: Settings, secret: Secret | None) -> dict[str, dict[str, Any]]:
    """CherryPy's configuration, path by path."""
    general: dict[str, Any] = {
        "request.dispatch": MethodDispatcher(),
        "tools.encode.on": False,
        "tools.trailing_slash.on": False,
        "hooks.on_start_resource.strangers": own_site(settings.hosts, "LOCATION_HOSTS"),
        **PROBLEMS,
    }
    # Parameters have been read then.
    asked = {"hooks.before_handler.token": check(secret)} if secret is not None else {}
    return {"/": general, "/location": asked}
