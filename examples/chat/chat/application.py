"""The tree of resources: a page, the files it is made of, and the WebSocket."""

from importlib.resources import files
from typing import Any

import cherrypy

from kirsch.amqp import AMQPPlugin, Bridge, Limits
from kirsch.bus import MethodDispatcher
from kirsch.web import LOOK, PROBLEMS, File, Page, Request, Static, own_site
from kirsch.websocket.cherrypy import WebSocketTool

from . import words
from .settings import Settings

cherrypy.tools.websocket = WebSocketTool()
# What people type, not what programs send.
LIMITS = Limits(message=32 << 10, rate=10.0, burst=60)
# The page shows by it which instance its WebSocket is at.
COOKIE = "chat-instance"
STATIC = files(__package__) / "static"


def bridge_of(bus: Any, amqp: AMQPPlugin) -> Bridge:
    """The rooms, with what this chat allows."""
    return Bridge(
        bus,
        amqp,
        "chat",
        authenticate=lambda hello, request: words.named(hello.name, hello.token),
        authorise=lambda identity, room, direction: words.is_room(room),
        check=lambda identity, room, data: words.checked(room, data),
        limits=LIMITS,
    )


class Root(Page):
    """The whole site."""

    def __init__(self, bridge: Bridge, instance: str) -> None:
        super().__init__(File.read(STATIC / "index.html"))
        self.static = Static(STATIC, LOOK)
        self.ws = Live(bridge, instance)


class Live:
    """/ws: the WebSocket, which packages/kirsch-amqp/docs/protocol.md tells of."""

    exposed = True

    def __init__(self, bridge: Bridge, instance: str) -> None:
        def handshake() -> None:
            jar = cherrypy.serving.response.cookie
            jar[COOKIE] = instance
            jar[COOKIE]["path"] = "/"
            jar[COOKIE]["samesite"] = "Strict"

        tool: Any = cherrypy.tools.websocket
        connection, limits = bridge.connection, bridge.websocket_limits
        self.GET = tool(application=connection, policy=bridge.policy, limits=limits)(handshake)


def application(bridge: Bridge, settings: Settings) -> Any:
    """The site as a CherryPy application."""
    site = cherrypy.Application(Root(bridge, settings.site.instance), "", configuration(settings))
    site.request_class = Request
    return site


def configuration(settings: Settings) -> dict[str, dict[str, Any]]:
    """CherryPy's configuration, path by path."""
    return {
        "/": {
            "request.dispatch": MethodDispatcher(),
            "tools.encode.on": False,
            "tools.trailing_slash.on": False,
            # WebSockets of other sites' pages are the Bridge's to refuse.
            "hooks.on_start_resource.strangers": own_site(settings.site.hosts, "CHAT_HOSTS"),
            **PROBLEMS,
        }
    }
