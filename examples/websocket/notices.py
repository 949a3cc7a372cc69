"""A notice board: CherryPy serves the page and takes notices, and whoever has it open hears them at once.

curl -d text='The kettle is on' http://localhost:8765/pin
"""

# CherryPy has no types.
# mypy: disable-error-code="untyped-decorator"

import sys
from typing import Any

import cherrypy

from kirsch.bus import ServerError, http_server
from kirsch.websocket import WebSocket
from kirsch.websocket.cherrypy import WebSocketPlugin, WebSocketTool

PAGE = """<!doctype html>
<title>Notices</title>
<form action="pin" method="post"><input name="text"> <button>Pin</button></form>
<ul></ul>
<script>
const socket = new WebSocket(location.href.replace("http", "ws") + "live");
socket.onmessage = event => {
  const notice = document.createElement("li");
  notice.textContent = event.data;
  document.querySelector("ul").prepend(notice);
};
</script>
"""
notices: list[str] = []
cherrypy.tools.websocket = WebSocketTool()


class Reader(WebSocket):
    """Somebody who reads; what they say themselves goes by `pin`."""

    def opened(self) -> None:
        for notice in notices:
            self.send(notice)


class Board:
    """The application."""

    @cherrypy.expose
    def index(self) -> str:
        return PAGE

    @cherrypy.expose
    @cherrypy.tools.allow(methods=["POST"])
    def pin(self, text: str) -> None:
        notices.append(text)
        del notices[:-20]
        cherrypy.engine.publish("websocket-broadcast", text)
        raise cherrypy.HTTPRedirect("/")

    @cherrypy.expose
    @cherrypy.tools.websocket(application=Reader, message=1024)
    def live(self) -> None:
        """The handshake's page handler: it may say no, as any other."""


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
    engine: Any = cherrypy.engine
    cherrypy.config.update({"environment": "production"})
    cherrypy.tree.mount(Board(), "/")
    WebSocketPlugin(engine).subscribe()
    server = http_server(engine, port=port)
    try:
        server.bind()
    except ServerError as error:
        sys.exit(f"notices: {error}")
    engine.signals.subscribe()
    engine.start()
    print(f"listening on http://127.0.0.1:{server.bind_addr[1]}/", flush=True)
    engine.block()


if __name__ == "__main__":
    main()
