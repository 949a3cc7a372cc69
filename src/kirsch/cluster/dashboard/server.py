"""The dashboard's server: pages, session and relay, on 127.0.0.1 or, with a login, for other computers."""

# ruff: noqa: N802  CherryPy dispatches to methods named as HTTP names them.

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

import cherrypy
from cherrypy.process.wspbus import ChannelFailures, states

from kirsch import web
from kirsch.bus import (
    SERVER_DEFAULTS,
    ExitPlugin,
    Limits,
    MethodDispatcher,
    ServerError,
    configure_logging,
    http_server,
)
from kirsch.cluster.api.client import Client, unit_path
from kirsch.cluster.dashboard.access import Access, check_host
from kirsch.cluster.dashboard.explain import explained
from kirsch.cluster.dashboard.login import Login
from kirsch.cluster.dashboard.relay import Relay, asked, json_answer
from kirsch.cluster.dashboard.requests import API, refused
from kirsch.cluster.model.certificates import ADMIN
from kirsch.web import LOOK, PROBLEMS, File, Problem, Static, is_same_site
from kirsch.websocket.cherrypy import WebSocketPlugin

HOST = "127.0.0.1"
STATIC = files(__package__) / "static"
LIMITS = Limits(threads=8, body=1 << 20)
MAX_FORM = 4096
# A page that goes to the page: after a redirect of a link elsewhere, browsers keep a Strict cookie back.
_ENTRY = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta http-equiv="refresh" content="0;url=./">
<title>Dashboard</title><p><a href="./">Dashboard</a></p></html>
"""


_LOGIN = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in – kirsch</title><link rel="stylesheet" href="static/look.css">
<main class="fault"><h1>Log in</h1><form method="post" action="login" class="card">
<p><label for="name">Name</label><br>
<input id="name" name="name" autocomplete="username" required autofocus></p>
<p><label for="password">Password</label><br>
<input id="password" name="password" type="password" autocomplete="current-password" required></p>
<p><button class="button primary">Log in</button></p></form></main></html>
"""


class Root:
    """/: the page, or the way in."""

    exposed = True

    def __init__(
        self, access: Access | Login, client: Client, names: Mapping[str, str], where: str, bus: Any
    ) -> None:
        self._access = access
        if isinstance(access, Login):
            self.login = LoginPage(access)
        self._page = File.read(STATIC / "index.html")
        self.static = Static(STATIC, LOOK)
        self.session = Session(client, names, where, access)
        self.file = UnitFileLines(client)
        self.kirsch = _Below(v1=Relay(client, bus, access))

    def GET(self, *, token: object = None) -> bytes | None:
        """Answer with the page; with the token let the browser in."""
        if isinstance(self._access, Login):
            if self._access.identity() is None:
                raise cherrypy.HTTPRedirect("/login", 303)
            return self._page.serve()
        if token is None:
            self._access.check()
            return self._page.serve()
        self._access.begin(token)
        cherrypy.serving.response.headers["Cache-Control"] = "no-store"
        return _ENTRY.encode()


class LoginPage:
    """/login: the form, and what it sends."""

    exposed = True

    def __init__(self, login: Login) -> None:
        self._login = login

    def GET(self) -> bytes:
        """Answer with the form."""
        return _LOGIN.encode()

    def POST(self) -> None:
        """Let a user in."""
        request = cherrypy.serving.request
        if not is_same_site(request.headers):
            raise Problem(403, "A page of another site sent this: only the dashboard's own may.", more="")
        fields = parse_qs(request.rfile.read(MAX_FORM).decode(errors="replace"))
        self._login.begin(fields.get("name", [""])[0], fields.get("password", [""])[0])
        raise cherrypy.HTTPRedirect("/", 303)


class _Below:
    """A segment of a path, with resources below it."""

    exposed = False

    def __init__(self, **resources: Any) -> None:
        self.__dict__.update(resources)


class Session:
    """/session: the person, the cluster, and what the person's role does not allow."""

    exposed = True

    def __init__(self, client: Client, names: Mapping[str, str], where: str, access: Access | Login) -> None:
        self._client = client
        self._access = access
        self._names = names
        self._where = where

    def GET(self) -> bytes:
        """Ask kirschd who it takes us for."""
        daemon = asked(lambda: self._client.get(f"{API}/daemon"))
        user, role = daemon.get("user", ""), daemon.get("role", ADMIN)
        forbidden = dict(refused(user, role))
        if identity := self._access.identity():
            user, role = identity.name, identity.role
            forbidden |= refused(user, role)
        return json_answer(
            {
                "user": user,
                "role": role,
                "where": self._where,
                "names": dict(self._names),
                "refused": forbidden,
                "login": identity is not None,
                "version": metadata.version("kirsch"),
                "runtime": daemon["runtime"],
            }
        )

    def DELETE(self) -> None:
        """End the session of a user who has logged in."""
        if isinstance(self._access, Login):
            self._access.end()
        cherrypy.serving.response.status = 204


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

    styles: tuple[str, ...] = ()
    back = ""


class SharedRequest(Request):
    """A request to a dashboard with a login, which is at the root of its site."""

    styles = ("/static/look.css",)


class Dashboard:
    """One dashboard, listening from the start; `run` serves it until the process is told to end."""

    def __init__(
        self,
        client: Client,
        names: Mapping[str, str],
        where: str,
        listen: tuple[str, int],
        login: Login | None = None,
    ) -> None:
        """`where` is what the person calls the cluster, `names` those of machines that may be away, `listen`
        the address and the port. With a login other computers may ask.

        Raises ServerError.
        """
        self._bus = cherrypy.engine
        self._access = login or Access()
        configure_logging("text", level="WARNING")
        logging.getLogger("kirsch.cluster.dashboard").setLevel(logging.INFO)
        cherrypy.config.update(SERVER_DEFAULTS)
        cherrypy.server.unsubscribe()
        root = Root(self._access, client, names, where, self._bus)
        headers = {"Server": "kirsch"}
        self._server = http_server(
            self._bus,
            web.labelled(cherrypy.tree, headers),
            host=listen[0],
            port=listen[1],
            limits=LIMITS,
            headers=headers,
        )
        self._server.bind()
        self._port = int(self._server.bind_addr[1])
        site = cherrypy.tree.mount(root, self._access.path, self._configuration())
        site.request_class = SharedRequest if login else Request

    @property
    def address(self) -> str:
        """The address to open, once."""
        host = str(self._server.bind_addr[0])
        return self._access.address(f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}")

    def run(self, opened: Callable[[], None]) -> None:
        """Serve until SIGTERM or Ctrl-C; `opened` is called once pages are answered."""
        ExitPlugin(self._bus).subscribe()
        self.start()
        opened()
        self._bus.block()

    def start(self) -> None:
        """Serve in threads, until `close`. Raises ServerError."""
        WebSocketPlugin(self._bus, threads=3).subscribe()
        # Neither here nor in `close` the bus's own methods: where a plugin fails these end the process at
        # once (os._exit), and `kirsch up` with it.
        self._bus.state = states.STARTING
        try:
            self._bus.publish("start")
        except ChannelFailures as error:
            self.close()
            raise ServerError(f"the dashboard does not start: {error}") from None
        self._bus.state = states.STARTED

    def close(self) -> None:
        """End what `start` began."""
        self._bus.state = states.STOPPING
        for channel in ("stop", "exit"):
            with suppress(ChannelFailures):  # which are logged
                self._bus.publish(channel)
        self._bus.state = states.EXITING

    def _configuration(self) -> dict[str, dict[str, Any]]:
        check: dict[str, Any] = {"hooks.before_handler.session": self._access.check}
        general: dict[str, Any] = {
            "request.dispatch": MethodDispatcher(),
            "request.process_request_body": False,
            "tools.encode.on": False,
            "tools.trailing_slash.on": False,
            **PROBLEMS,
        }
        if isinstance(self._access, Access):
            general["hooks.on_start_resource.host"] = lambda: check_host(
                cherrypy.serving.request.headers, self._port
            )
        return {"/": general, "/session": check, "/file": check, "/kirsch": check}
