"""The dashboard with a login: a unit behind HAProxy, and whom it lets do what."""

import http.client
import json
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import cherrypy
import pytest
from axe_playwright_python.sync_playwright import Axe
from cherrypy.lib.httputil import HeaderMap, Host
from playwright.sync_api import Browser, expect
from tests.cli.application import DEADLINE, KIRSCH, Application
from tests.dashboard.conftest import Answer
from tests.port import free_port

from kirsch.cluster.dashboard.login import Login, UsersError, parse_users
from kirsch.web import Problem
from kirsch.web.guard import ADDRESSES
from kirsch.websocket import ClientOptions, Closed
from kirsch.websocket.threaded import connect

pytestmark = pytest.mark.services

USERS = "ann deploy correct horse battery\n\nbob view a longer password\n"
ANN, BOB = ("ann", "correct horse battery"), ("bob", "a longer password")
UNITS = "/kirsch/v1/units/till.service"
DASHBOARD = """
[Service]
ExecStart=kirsch dashboard --listen 8080
[X-Kirsch]
Expose=8080 http
Health=http://:8080/login
Secret=dashboard-users:KIRSCH_DASHBOARD_USERS
"""
LB = """
[Service]
Type=notify
ExecStart=kirsch balancer --config haproxy.cfg --backend dashboard=dashboard:http
[X-Kirsch]
Link=dashboard
Endpoints=yes
"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend web
    bind 127.0.0.1:{port}
    http-request set-header X-Forwarded-For %[src]
    default_backend dashboard
backend dashboard
"""


def test_users_are_lines_of_name_role_and_password():
    assert parse_users(USERS) == {
        "ann": ("deploy", "correct horse battery"),
        "bob": ("view", "a longer password"),
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there are no users"),
        ("ann admin", "line 1 of the users is not NAME ROLE PASSWORD"),
        ("\nann root secretsecret", "line 2 of the users .* view, deploy, admin"),
        ("ann admin short", "the password of ann is shorter than 12"),
    ],
)
def test_what_is_wrong_with_users_is_said(text: str, why: str):
    with pytest.raises(UsersError, match=why):
        parse_users(text)


@pytest.fixture
def request_from() -> Iterator[Callable[[str], None]]:
    """Makes the present request one that says it is of an address."""

    def load(address: str) -> None:
        request = type(cherrypy.serving.request)(Host("127.0.0.1", 80), Host("127.0.0.1", 1))
        request.headers = HeaderMap({"X-Forwarded-For": address})
        cherrypy.serving.load(request, type(cherrypy.serving.response)())

    yield load
    cherrypy.serving.clear()


def test_guesses_of_a_name_from_ever_new_addresses_are_slowed_down(request_from: Callable[[str], None]):
    login = Login(parse_users(USERS))
    statuses = []
    for number in range(100):
        request_from(f"192.0.2.{number}")
        with pytest.raises(Problem) as refused:
            login.begin("ann", f"guess {number}")
        statuses.append(refused.value.status)
    assert statuses.count(403) >= 20
    assert 429 in statuses


def test_ever_new_addresses_do_not_have_a_name_forgotten(request_from: Callable[[str], None]):
    login = Login(parse_users(USERS))

    def guess(name: str, number: int) -> int:
        request_from(f"192.0.2.{number}")
        with pytest.raises(Problem) as refused:
            login.begin(name, "a guess")
        return refused.value.status

    while guess("ann", 0) != 429:
        pass
    for number in range(ADDRESSES + 1):
        assert guess("bob" if number < 10 else f"user {number % 50}", number + 1) in (403, 429)
    assert guess("ann", 0) == 429


def test_a_password_that_is_no_utf_8_is_compared(request_from: Callable[[str], None]):
    login = Login(parse_users("ann view a long password \udcff"))
    request_from("192.0.2.1")
    with pytest.raises(Problem) as refused:
        login.begin("ann", "a long password")
    assert refused.value.status == 403
    login.begin("ann", "a long password \udcff")


class Site:
    """The dashboard at HAProxy's port, asked without a browser."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"

    def __call__(self, method: str, path: str, body: str | None = None, **fields: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in fields.items()}
        with closing(http.client.HTTPConnection(self.address, timeout=DEADLINE)) as connection:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def log_in(self, name: str, password: str, **fields: str) -> Answer:
        form = urlencode({"name": name, "password": password})
        return self("POST", "/login", form, Content_Type="application/x-www-form-urlencoded", **fields)

    def cookie(self, name: str, password: str) -> str:
        answer = self.log_in(name, password)
        assert answer.status == 303
        return (answer.headers["Set-Cookie"] or "").partition(";")[0]

    def put(self, cookie: str, body: Any, **fields: str) -> Answer:
        return self("PUT", UNITS, json.dumps(body), Cookie=cookie, Content_Type="application/json", **fields)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Application(tmp_path_factory.mktemp("login"))
    port = free_port()
    (made.directory / "kirsch.toml").write_text('name = "shop"\nstart = ["till"]\n')
    (made.directory / "haproxy.cfg").write_text(HAPROXY.format(port=port))
    made.sleeper("till.service")
    made.unit("dashboard.service", DASHBOARD)
    made.unit("lb.service", LB)
    try:
        made.ok("up", "-d")
        asked = [*KIRSCH, "-C", str(made.directory), "secret", "set", "dashboard-users"]
        subprocess.run(asked, input=USERS, text=True, check=True, timeout=DEADLINE)
        made.ok("start", "dashboard", "lb")
        yield Site(port)
    finally:
        made.close()


@pytest.mark.slow
class TestLogin:
    def test_strangers_see_a_form(self, site: Site):
        answer = site("GET", "/")
        assert (answer.status, answer.headers["Location"]) == (303, f"http://{site.address}/login")
        assert b'type="password"' in site("GET", "/login").body
        for path in ("/session", "/file/till.service", UNITS):
            assert site("GET", path).status == 401
        assert site("PUT", UNITS, "{}", Content_Type="application/json").status == 401

    def test_users_have_their_roles(self, site: Site):
        ann, bob = site.cookie(*ANN), site.cookie(*BOB)
        session = site("GET", "/session", Cookie=bob).json()
        assert (session["user"], session["role"], session["login"]) == ("bob", "view", True)
        assert session["refused"]["PUT /units/{name}"] == "bob has the role view; this needs deploy"
        refused = site.put(bob, {"desiredState": "loaded"})
        assert (refused.status, "bob has the role view" in refused.json()["detail"]) == (403, True)
        assert site("GET", "/kirsch/v1/audit", Cookie=ann).status == 403
        assert site.put(ann, {"desiredState": "launched"}).status == 200
        assert site.put(ann, {"desiredState": "loaded"}, Origin="http://evil.example").status == 403
        assert site("GET", UNITS, Cookie=bob).json()["on"][0]["desired"] == "launched"

    def test_a_cookie_is_as_safe_as_its_connection(self, site: Site):
        plain = site.log_in(*ANN).headers["Set-Cookie"]
        assert "HttpOnly" in plain
        assert "SameSite=Strict" in plain
        assert "Secure" not in plain
        assert "Secure" in site.log_in(*ANN, X_Forwarded_Proto="https").headers["Set-Cookie"]
        assert site.log_in(*ANN, Origin="http://evil.example").status == 403

    def test_who_logs_out_is_a_stranger(self, site: Site):
        cookie = site.cookie(*BOB)
        assert site("DELETE", "/session", Cookie=cookie).status == 204
        assert site("GET", "/session", Cookie=cookie).status == 401

    @pytest.mark.timeout(60)
    def test_a_stream_ends_with_its_session(self, site: Site):
        ann, bob = site.cookie(*ANN), site.cookie(*BOB)
        options = ClientOptions(proxy=None, headers={"Cookie": bob})
        with connect(f"ws://{site.address}/kirsch/v1/events", options=options) as stream:
            assert stream.recv()
            assert site("DELETE", "/session", Cookie=bob).status == 204
            site.put(ann, {"desiredState": "loaded"})
            site.put(ann, {"desiredState": "launched"})
            with pytest.raises(Closed, match="Log in first"):
                deque(iter(stream.recv, None), maxlen=0)

    def test_in_a_browser(self, site: Site, browser: Browser):
        page = browser.new_context().new_page()
        page.goto(f"http://{site.address}/")
        found = Axe().run(page).response["violations"]
        assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
        page.get_by_label("Name").fill("bob")
        page.get_by_label("Password").fill("a longer password")
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("h1")).to_have_text("All 3 units are as they should be.")
        page.goto(f"http://{site.address}/#/unit/till.service")
        stop = page.get_by_role("button", name="Stop", exact=True)
        expect(stop).to_have_attribute("title", "bob has the role view; this needs deploy")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Password")).to_be_visible()
        page.context.close()

    # The last one: from then on this address has to wait.
    def test_whoever_guesses_is_slowed_down(self, site: Site):
        statuses = []
        for number in range(100):
            answer = site.log_in("ann", f"guess {number}")
            statuses.append(answer.status)
            if answer.status != 403:
                break
        assert statuses[-1] == 429
        assert statuses.count(403) >= 20
        assert int(answer.headers["Retry-After"]) in (1, 2, 3)
        assert site.log_in(*ANN).status == 429


@pytest.mark.slow
def test_a_unit_without_users_says_what_it_needs(tmp_path: Path):
    made = Application(tmp_path)
    made.sleeper("till.service")
    try:
        made.ok("up", "-d")
        assert "KIRSCH_DASHBOARD_USERS: there are no users" in made.fails("dashboard", "--listen", "8080")
        for wrong in ("web", "0", "::1:8080", "[::1:8080", ":8080"):
            assert "--listen is [ADDRESS:]PORT" in made.fails("dashboard", "--listen", wrong, status=2)
        both = made.fails("dashboard", "--listen", "8080", "--port", "0", status=2)
        assert both.startswith("--listen says the port: leave --port out")
    finally:
        made.close()
