"""A vote on a page that everybody sees change: a Tornado application, and a WebSocket in it."""

import asyncio
import contextlib
import json
import secrets
import sys
from collections import Counter
from http.cookies import SimpleCookie

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler

from kirsch.websocket import Room, WebSocket
from kirsch.websocket.tornado import handler

PAGE = """<!doctype html>
<title>Votes</title>
<button>tea</button> <button>coffee</button>
<pre>…</pre>
<script>
const socket = new WebSocket(location.href.replace("http", "ws") + "live");
socket.onmessage = event => { document.querySelector("pre").textContent = event.data; };
for (const button of document.querySelectorAll("button"))
  button.onclick = () => socket.send(button.textContent);
</script>
"""
votes: dict[str, str] = {}
everybody = Room()


class Page(RequestHandler):
    """The page; who sees it may vote, once."""

    def get(self) -> None:
        if self.get_cookie("voter") is None:
            self.set_cookie("voter", secrets.token_hex(16), httponly=True, samesite="Strict")
        self.finish(PAGE)


class Vote(WebSocket):
    """A browser that has the page open."""

    voter = ""

    def opened(self) -> None:
        if self.request is not None:
            self.voter = SimpleCookie(self.request.headers.get("Cookie"))["voter"].value
        everybody.add(self)
        self.send(count())

    def received_message(self, message: str | bytes | memoryview) -> None:
        if message in ("tea", "coffee"):
            votes[self.voter] = str(message)
            everybody.send(count())

    def closed(self, code: int, reason: str) -> None:
        everybody.discard(self)


class Live(handler(Vote)):  # type: ignore[misc]
    """A handler like any other of the application's: `prepare`, cookies and the access log are Tornado's."""

    def prepare(self) -> None:
        if self.get_cookie("voter") is None:
            raise HTTPError(403)


def count() -> str:
    return json.dumps(Counter(votes.values()))


async def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
    sockets = bind_sockets(port, "127.0.0.1")
    server = HTTPServer(Application([("/", Page), ("/live", Live)]))
    server.add_sockets(sockets)
    print(f"listening on http://127.0.0.1:{sockets[0].getsockname()[1]}/", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        server.stop()
        await Live.close_connections()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
