"""How a site answers that is put together from kirsch.web: its files, and what goes wrong."""

import json
from wsgiref.headers import Headers
from wsgiref.util import setup_testing_defaults

import cherrypy
import pytest

from kirsch.bus import MethodDispatcher
from kirsch.web import LOOK, PROBLEMS, File, Page, Problem, Request, Static, own_site

BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"


class Root(Page):
    exposed = True

    def __init__(self, folder):
        super().__init__(File.read(folder / "index.html"))
        self.static = Static(folder, LOOK)
        self.broken = Broken()
        self.shut = Shut()

    def POST(self):
        return b"done"


class Broken:
    exposed = True

    def GET(self):
        raise RuntimeError("secret")


class Shut:
    exposed = True

    def GET(self):
        raise Problem(409, "It is <shut>.", {"Retry-After": "5"}, {"reason": "night"}, more="<hr>")


class ShopRequest(Request):
    styles = ("/static/shop.css",)
    back = '<p><a href="/shop">Back</a></p>'


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = int(status.split()[0]), Headers(headers), body.decode()

    @property
    def json(self):
        assert self.headers["Content-Type"] == "application/problem+json"
        return json.loads(self.body)


@pytest.fixture
def ask(tmp_path):
    """Asks the site for a path, by WSGI."""
    (tmp_path / "index.html").write_text("<p>hello</p>")
    strangers = own_site(frozenset(), "SHOP_HOSTS")
    config = {
        "/": {
            "request.dispatch": MethodDispatcher(),
            "hooks.on_start_resource.strangers": strangers,
            **PROBLEMS,
        }
    }
    site = cherrypy.Application(Root(tmp_path), "", config)
    site.request_class = ShopRequest

    def call(path, method="GET", **fields):
        environ = {"PATH_INFO": path, "REQUEST_METHOD": method, "CONTENT_LENGTH": "0"}
        setup_testing_defaults(environ)
        environ |= {f"HTTP_{name.upper()}": value for name, value in fields.items()}
        told = []
        body = site(environ, lambda *arguments: told.append(arguments))
        try:
            return Answer(*told[0][:2], b"".join(body))
        finally:
            body.close()

    return call


def test_a_file_is_asked_for_by_tag(ask):
    first = ask("/")
    assert (first.status, first.body) == (200, "<p>hello</p>")
    assert first.headers["Cache-Control"] == "no-cache"
    assert ask("/static/index.html").headers["ETag"] == first.headers["ETag"]
    again = ask("/", if_none_match=f'"x", W/{first.headers["ETag"]}')
    assert (again.status, again.body) == (304, "")
    assert ask("/static/look.css").headers["Content-Type"] == "text/css;charset=utf-8"


@pytest.mark.parametrize("path", ["/static", "/static/../secret", "/static//etc/passwd", "/nowhere<b>"])
def test_what_is_not_there(ask, path):
    told = ask(path).json
    assert (told["status"], told["title"], told["type"]) == (404, "Not Found", "about:blank")
    page = ask(path, accept=BROWSER)
    assert page.headers["Content-Type"] == "text/html;charset=utf-8"
    assert "<b>" not in page.body
    # Once, not twice: CherryPy has escaped it already.
    assert "&amp;lt;" not in page.body
    assert '<link rel="stylesheet" href="/static/shop.css">' in page.body
    assert ShopRequest.back in page.body


def test_a_problem_says_all_it_has(ask):
    answer = ask("/shut")
    assert answer.status == 409
    assert answer.headers["Retry-After"] == "5"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json["detail"] == "It is <shut>."
    assert answer.json["reason"] == "night"
    page = ask("/shut", accept=BROWSER).body
    assert "It is &lt;shut&gt;.</p><hr>" in page
    assert ShopRequest.back not in page


def test_a_page_that_may_be_asked_for_again_asks_by_itself(ask):
    refresh = '<meta http-equiv="refresh" content="5">'
    assert refresh in ask("/shut", accept=BROWSER).body
    # What was sent would not be sent again.
    assert refresh not in ask("/shut", "POST", accept=BROWSER).body
    assert "refresh" not in ask("/nowhere", accept=BROWSER).body


def test_what_nobody_foresaw_is_in_the_log_alone(ask, caplog):
    answer = ask("/broken")
    assert answer.status == 500
    assert "secret" not in answer.body
    assert "GET /broken failed" in caplog.text
    assert "RuntimeError: secret" in caplog.text


def test_strangers_are_refused(ask):
    told = ask("/", host="shop.example")
    assert (told.status, "SHOP_HOSTS" in told.json["detail"]) == (421, True)
    assert ask("/", "POST", host="localhost").body == "done"
    assert ask("/", "POST", host="localhost", origin="http://evil.example").status == 403
    assert ask("/", host="localhost", origin="http://evil.example").status == 200
