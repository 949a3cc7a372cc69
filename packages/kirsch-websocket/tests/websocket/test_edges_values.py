"""Values that cannot be are refused in a line that says which can; clients know what the server said."""

import re
import socket
import subprocess
import sys

import pytest
from tests.websocket.serving import CLIENTS, SERVERS, Client, serving

from kirsch.websocket import Limits, Policy, WebSocket
from kirsch.websocket.core.message import check_close
from kirsch.websocket.threaded import connect

PATIENCE = 20


class Echo(WebSocket):
    def received_message(self, message):
        self.send(message)


@pytest.mark.parametrize(
    ("code", "reason", "error", "text"),
    [
        (
            1005,
            "",
            ValueError,
            "the close code 1005 cannot be sent: 1000 to 1003, 1007 to 1014, 3000 to 4999 can",
        ),
        (1000, "ä" * 62, ValueError, "a close reason has 123 bytes at most"),
        ("a", "", TypeError, "a close code is a whole number, not 'a'"),
        (None, "why", TypeError, "a close code is a whole number, not None"),
        (1000, b"x", TypeError, "a close reason is a text, not a bytes"),
    ],
)
def test_close(code, reason, error, text):
    with pytest.raises(error) as raised:
        check_close(code, reason)
    assert str(raised.value) == text
    assert type(raised.value) is error


@pytest.mark.parametrize("name", ["queue", "inbox", "handshake", "headers", "close_timeout"])
def test_limits_that_always_have_one(name):
    with pytest.raises(
        ValueError, match=rf"^{name} is a (whole number|number of seconds) of . or more, not None$"
    ):
        Limits(**{name: None})


@pytest.mark.parametrize("name", SERVERS)
def test_a_port_is_taken_again_at_once(name):
    """The connections of the server before, which it has closed itself, wait in TIME_WAIT on that port."""
    with serving(name, Echo) as server:
        port = server.address[1]
        ws = connect(server.url)
        ws.send("hello")
        assert ws.recv(PATIENCE) == "hello"
    ws.close()
    assert ws.wait_closed(PATIENCE)
    with serving(name, Echo, "127.0.0.1", port) as server, connect(server.url) as ws:
        ws.send("again")
        assert ws.recv(PATIENCE) == "again"


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
@pytest.mark.parametrize("name", SERVERS)
def test_ipv6(name):
    with serving(name, Echo, "::1") as server, connect(server.url) as ws:
        assert re.fullmatch(r"ws://\[::1\]:\d+/", server.url)
        ws.send("hello")
        assert ws.recv(PATIENCE) == "hello"


@pytest.mark.parametrize("name", CLIENTS)
def test_clients_know_the_response(name):
    policy = Policy(headers=(("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-From", "here")))

    async def run(url):
        async with client.connect(url) as ws:
            return ws.response

    client = Client(name)
    with serving("threaded", Echo, policy=policy) as server:
        response = client.run(run(server.url))
    assert response.status == 101
    assert response.headers.get("X-From") == "here"
    assert [value for field, value in response.headers.items() if field == "Set-Cookie"] == ["a=1", "b=2"]


def test_what_ws_serve_sets_is_in_its_help():
    command = [sys.executable, "-m", "kirsch.cli.main", "ws", "serve", "--help"]
    text = " ".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    for setting in (
        "pages of any origin", "64 MiB with any ratio of compression", "256 MiB or four messages",
        "limit of open files", "16 KiB and 10 seconds for a handshake", "ping after 20 s", "closed with 1001",
        "within 10 seconds",
    ):  # fmt: skip
        assert setting in text
