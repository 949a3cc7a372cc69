"""Counts primes and says how far it is: a WSGI application, and a WebSocket beside it.

gunicorn --worker-class gthread --threads 10 --chdir examples/websocket primes:application
"""

import contextlib
import sys
from collections.abc import Iterable
from typing import Any

from kirsch.websocket import Limits
from kirsch.websocket.threaded import Connection
from kirsch.websocket.wsgi import Server, WebSockets

PAGE = b"""<!doctype html>
<title>Primes</title>
<form>How many primes are below <input name="below" value="200000">? <button>Count</button></form>
<pre></pre>
<script>
const socket = new WebSocket(location.origin.replace("http", "ws") + "/count");
socket.onmessage = event => { document.querySelector("pre").textContent = event.data; };
document.querySelector("form").onsubmit = event => {
  event.preventDefault();
  socket.send(event.target.below.value);
};
</script>
"""


def page(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """The WSGI application that was there before."""
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [PAGE]


def count(ws: Connection) -> None:
    """One client, in a thread of its own."""
    for message in ws:
        if not (isinstance(message, str) and message.isdecimal() and int(message) <= 1_000_000):
            ws.send("a number up to a million, please")
            continue
        below, found = int(message), 0
        for number in range(2, below):
            found += all(number % divisor for divisor in range(2, int(number**0.5) + 1))
            if number % 20_000 == 0:
                ws.send(f"{number} of {below}: {found} so far")
        ws.send(f"{found} primes are below {below}")


application = WebSockets({"/count": count}, page, limits=Limits(message=1024))


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
    with Server(application, "127.0.0.1", port) as server:
        print(f"listening on {server.url.replace('ws', 'http', 1)}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
