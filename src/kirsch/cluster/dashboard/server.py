"""The dashboard's server: pages, session and relay, on a free port of 127.0.0.1."""

# ruff: noqa: N802  CherryPy dispatches to methods named as HTTP names them.

from collections.abc import Callable, Mapping
from importlib import metadata
from importlib.resources import files
from typing import Any

import cherrypy

from kirsch import web
from kirsch.bus import SERVER_DEFAULTS, ExitPlugin, Limits, MethodDispatcher, configure_logging, http_server
from kirsch.cluster.api.client import Client, unit_path
from kirsch.cluster.dashboard.access import Access, check_host
from kirsch.cluster.dashboard.explain import explained
from kirsch.cluster.dashboard.relay import Relay, asked, json_answer
from kirsch.cluster.dashboard.requests import API, refused
from kirsch.cluster.model.certificates import ADMIN
from kirsch.web import LOOK, PROBLEMS, File, Static
from kirsch.websocket.cherrypy import WebSocketPlugin

HOST = "127.0.0.1"
STATIC = files(__package__) / "static"
LIMITS = Limits(threads=8, body=1 << 20)
# A page that goes to the page: after a redirect of a link elsewhere, browsers keep a Strict cookie back.
_ENTRY = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta http-equiv="refresh" content="0;url=./">
<title>Dashboard</title><p><a href="./">Dashboard</a></p></html>
"""


class Root:
    """/: the page, or the way in."""

    exposed = True

    def __init__(
        self, access: Access, client: Client, names: Mapping[str, str], where: str, bus: Any
    ) -> None:
        self._access = access
        self._page = File.read(STATIC / "index.html")
        self.static = Static(STATIC, LOOK)
        self.session = Session(client, names, where)
        self.file = UnitFileLines(client)
        self.kirsch = _Below(v1=Relay(client, bus))

    def GET(self, *, token: object = None) -> bytes | None:
        """Answer with the page; with the token let the browser in."""
        if token is None:
            self._access.check()
            return self._page.serve()
        self._access.begin(token)
        cherrypy.serving.response.headers["Cache-Control"] = "no-store"
        return _ENTRY.encode()


class _Below:
    """A segment of a path, with resources below it."""

    exposed = False

    def __init__(self, **resources: Any) -> None:
        self.__dict__.update(resources)


class Session:
    """/session: the person, the cluster, and what the person's role does not allow."""

    exposed = True

    def __init__(self, client: Client, names: Mapping[str, str], where: str) -> None:
        self._client = client
        self._names = names
        self._where = where

    def GET(self) -> bytes:
        """Ask kirschd who it takes us for."""
        daemon = asked(lambda: self._client.get(f"{API}/daemon"))
        user, role = daemon.get("user", ""), daemon.get("role", ADMIN)
        return json_answer(
            {
                "user": user,
                "role": role,
                "where": self._where,
                "names": dict(self._names),
                "refused": dict(refused(user, role)),
                "version": metadata.version("kirsch"),
                "runtime": daemon["runtime"],
            }
        )


class UnitFileLines:
    """/file/NAME: a unit's file, each line with its meaning."""

    exposed = True

    def __init__(self, client: Client) -> None:
        self._client = client

    def GET(self, name: str) -> bytes:
        """Ask kirschd for the file, and explain it."""
        unit = asked(lambda: self._client.get(unit_path(name)))
        return json_answer({"name": name, "lines": explained(name, unit["text"])})


class Request(web.Request):
    """A request whose errors have no link back: the address may be wrong."""

    styles = ()
    back = ""


class Dashboard:
    """One dashboard, listening from the start; `run` serves it until the process is told to end."""

    def __init__(self, client: Client, names: Mapping[str, str], where: str, port: int) -> None:
        """`where` is what the person calls the cluster, `names` those of machines that may be away.

        Raises ServerError.
        """
        self._bus = cherrypy.engine
        self._access = Access()
        configure_logging("text", level="WARNING")
        cherrypy.config.update(SERVER_DEFAULTS)
        cherrypy.server.unsubscribe()
        root = Root(self._access, client, names, where, self._bus)
        headers = {"Server": "kirsch"}
        self._server = http_server(
            self._bus,
            web.labelled(cherrypy.tree, headers),
            host=HOST,
            port=port,
            limits=LIMITS,
            headers=headers,
        )
        self._server.bind()
        self._port = int(self._server.bind_addr[1])
        site = cherrypy.tree.mount(root, self._access.path, self._configuration())
        site.request_class = Request

    @property
    def address(self) -> str:
        """The address to open, once."""
        return self._access.address(f"{HOST}:{self._port}")

    def run(self, opened: Callable[[], None]) -> None:
        """Serve until SIGTERM or Ctrl-C; `opened` is called once pages are answered."""
        WebSocketPlugin(self._bus, threads=3).subscribe()
        ExitPlugin(self._bus).subscribe()
        self._bus.start()
        opened()
        self._bus.block()

    def _configuration(self) -> dict[str, dict[str, Any]]:
        check: dict[str, Any] = {"hooks.before_handler.session": self._access.check}
        general: dict[str, Any] = {
            "request.dispatch": MethodDispatcher(),
            "request.process_request_body": False,
            "tools.encode.on": False,
            "tools.trailing_slash.on": False,
            "hooks.on_start_resource.host": lambda: check_host(cherrypy.serving.request.headers, self._port),
            **PROBLEMS,
        }
        return {"/": general, "/session": check, "/file": check, "/kirsch": check}
