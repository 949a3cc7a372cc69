"""The page of rooms: whom it shows what. How it looks in a browser tests/chat tells."""

import json
from base64 import b64encode

import pytest
from cherrypy.process.wspbus import Bus
from tests.amqp.applications import running
from tests.amqp.visitor import Visitor
from tests.deadline import eventually

from kirsch.amqp import AMQPPlugin, Bridge, RoomsPage

PASSWORD = "kettle and cups"


def ask(page, path="", password=PASSWORD, method="GET", scheme="Basic", **more):
    """Ask the application: the status, the header fields, the body."""
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "/rooms",
        "PATH_INFO": path,
        "REMOTE_ADDR": "192.0.2.1",
    }
    if password is not None:
        environ["HTTP_AUTHORIZATION"] = f"{scheme} {b64encode(f'me:{password}'.encode()).decode()}"
    told = []
    body = b"".join(page({**environ, **more}, lambda status, headers: told.extend((status, dict(headers)))))
    return int(told[0].split()[0]), told[1], body


@pytest.fixture
def page():
    bus = Bus()
    return RoomsPage(
        Bridge(bus, AMQPPlugin(bus, "amqp://127.0.0.1:1/"), "chat", proxies=["10.0.0.0/8"]), PASSWORD
    )


@pytest.mark.parametrize("path", ["", "/", "/data", "/rooms.js", "/look.css", "/nothing"])
def test_nobody_sees_anything_without_the_password(page, path):
    for password, scheme in ((None, ""), ("wrong", "Basic"), ("", "Basic"), (PASSWORD, "Bearer")):
        status, headers, body = ask(page, path, password, scheme=scheme)
        assert (status, body) == (401, b"the password of this page is needed\n")
        assert headers["WWW-Authenticate"].startswith("Basic ")
    for field in ("Basic %%%", "Basic \xe9", "Basic"):
        assert ask(page, path, HTTP_AUTHORIZATION=field)[0] == 401


def test_with_it_there_is_a_page_that_is_kept_nowhere(page):
    status, headers, body = ask(page)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert b'src="/rooms/rooms.js"' in body
    assert b"BASE" not in body
    assert b'src="/&quot;&gt;/rooms.js"' in ask(page, SCRIPT_NAME='/">')[2]
    for path in ("/rooms.js", "/rooms.css", "/look.css"):
        assert ask(page, path)[0] == 200
    assert ask(page, method="HEAD")[2] == b""
    assert ask(page, "/rooms.html")[0] == 404
    assert ask(page, method="POST")[0] == 405
    told = json.loads(ask(page, "/data")[2])
    assert (told["name"], told["broker"], told["rooms"], told["more"]) == ("chat", False, [], 0)


def test_whoever_guesses_has_to_wait_and_nobody_else(page):
    proxied = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "192.0.2.7"}
    while (answer := ask(page, password="guess", **proxied))[0] == 401:
        pass
    assert answer[0] == 429
    assert int(answer[1]["Retry-After"]) > 0
    assert ask(page, **proxied)[0] == 429
    assert ask(page, **{**proxied, "HTTP_X_FORWARDED_FOR": "192.0.2.8"})[0] == 200
    assert ask(page)[0] == 200


def test_a_password_that_is_short():
    with pytest.raises(ValueError, match="12 characters at least"):
        RoomsPage(None, "short")


@pytest.mark.services
def test_rooms_of_all_processes_are_told(rabbit):
    name = rabbit.name()
    with (
        running("cherrypy", rabbit.url, name) as one,
        running("cherrypy", rabbit.url, name) as two,
        Visitor(one, "Ada") as ada,
        Visitor(two, "Bob") as bob,
        Visitor(two, "Cy") as cy,
    ):
        for each in (ada, bob):
            each.join("lobby")
        cy.join("kitchen")
        ada.send("lobby", 1, "Hi")
        bob.messages(1)
        ada.messages(1)

        def told():
            found = {room["room"]: room for room in one.bridge.overview(10)["rooms"]}
            return found if {name: room["windows"] for name, room in found.items()} == sizes else None

        sizes = {"lobby": 2, "kitchen": 1}
        lobby = eventually(told)["lobby"]
        assert (lobby["names"], lobby["people"], lobby["messages"], lobby["gaps"]) == (
            ["Ada", "Bob"],
            2,
            1,
            0,
        )
        largest = one.bridge.overview(1)
        assert ([room["room"] for room in largest["rooms"]], largest["more"]) == (["lobby"], 1)
        assert largest["figures"]["processes"] == 2
