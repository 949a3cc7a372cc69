"""Which resource a path leads to, asked of a real server."""

import http.client
import json

import cherrypy
import pytest

from kirsch.bus import MethodDispatcher, http_server


class Resource:
    exposed = True
    constant = "a secret"

    def __init__(self, name: str) -> None:
        self.name = name

    def GET(self, *arguments: str) -> bytes:
        config = cherrypy.request.config
        return json.dumps([self.name, *arguments, config.get("node"), config.get("path")]).encode()


class Container:
    exposed = False

    def GET(self) -> bytes:
        raise AssertionError("it is not exposed")


class Numbered(Resource):
    _cp_config = {"node": "numbered"}  # noqa: RUF012

    def _cp_dispatch(self, vpath):
        return Resource("number " + vpath.pop(0)) if vpath[0].isdigit() else None


class Looking(Resource):
    def _cp_dispatch(self, vpath):
        return Resource("looked at " + vpath[0])


@pytest.fixture(scope="module")
def ask():
    from cherrypy.process.wspbus import Bus

    root = Resource("root")
    root.api = Container()
    root.api.numbered = Numbered("numbered")
    root.api.looking = Looking("looking")
    root.api.plain = Resource("plain")
    root._hidden = Resource("hidden")
    root.with_line = Resource("with line")
    config = {
        "/": {"request.dispatch": MethodDispatcher(), "path": "/"},
        "/api/numbered/7": {"path": "seven"},
        "/api/plain/far/away": {"path": "away"},
    }
    bus = Bus()
    server = http_server(bus, cherrypy.Application(root, "", config), port=0)
    server.bind()
    server.start()

    def get(path: str, method: str = "GET") -> tuple[int, object]:
        connection = http.client.HTTPConnection(*server.bind_addr, timeout=10)
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, json.loads(body) if response.status == 200 else None

    yield get
    server.stop()


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/", ["root", None, "/"]),
        ("/api/plain", ["plain", None, "/"]),
        ("/api/plain/", ["plain", None, "/"]),
        ("/api/plain/a%2Fb/c", ["plain", "a/b", "c", None, "/"]),
        ("/api/plain/far/away/then", ["plain", "far", "away", "then", None, "away"]),
        ("/api/numbered", ["numbered", "numbered", "/"]),
        ("/api/numbered/7", ["number 7", "numbered", "seven"]),
        ("/api/numbered/7/x", ["number 7", "x", "numbered", "seven"]),
        ("/api/numbered/x/7", ["numbered", "x", "7", "numbered", "/"]),
        ("/api/looking/x/y", ["looked at x", "y", None, "/"]),
        ("/with_line", ["with line", None, "/"]),
    ],
)
def test_a_path_leads_to_the_deepest_resource(ask, path, answer):
    assert ask(path) == (200, answer)


@pytest.mark.parametrize(
    "name",
    ["__class__", "--class--", "_hidden", "-hidden", "GET", "exposed", "name", "constant", "with.line"],
)
@pytest.mark.parametrize("rest", [[], ["name"], ["__init__", "__globals__"]])
def test_any_other_attribute_is_an_argument(ask, name, rest):
    assert ask("/" + "/".join([name, *rest])) == (200, ["root", name, *rest, None, "/"])


def test_other_methods_are_405(ask):
    assert ask("/api/plain", "PUT") == (405, None)


def test_what_is_not_exposed_is_passed_over(ask):
    assert ask("/api") == (200, ["root", "api", None, "/"])
