"""Who is let in to the dashboard, and what pages may ask of kirschd."""

import base64
import http.client
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.application import KIRSCH, Application
from tests.cli.screen import Screen
from tests.dashboard.conftest import Dashboard, opened

pytestmark = pytest.mark.services

UNIT = "kirsch/v1/units/till.service"
HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": base64.b64encode(bytes(16)).decode(),
}


@pytest.fixture(scope="module")
def entered(application: Application) -> Iterator[Dashboard]:
    with opened(application.directory) as running:
        assert running.enter().status == 200
        yield running


def test_the_token_opens_once_for_one_browser(application: Application):
    with opened(application.directory) as dashboard:
        assert dashboard("GET", "").status == 401
        assert dashboard("GET", "session").status == 401
        wrong = dashboard("GET", "?token=wrong")
        assert wrong.status == 403
        assert "not the dashboard's" in wrong.json()["detail"]
        assert "Set-Cookie" not in wrong.headers

        answer = dashboard.enter()
        assert answer.status == 200
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        # Browsers send cookies to every port of a host, but to this path alone.
        assert f"Path={dashboard.path}" in cookie
        assert dashboard("GET", "").headers["Content-Type"].startswith("text/html")
        assert dashboard.enter().status == 200

        dashboard.cookie = ""
        again = dashboard("GET", f"?{dashboard.query}")
        assert again.status == 403
        assert "works once" in again.json()["detail"]
        assert dashboard("GET", UNIT, Cookie="kirsch-dashboard=guessed").status == 401


def test_what_is_not_below_its_path_is_not_there(entered: Dashboard):
    host, port = entered.host.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    for path in ("/", "/session", "/kirsch/v1/units", f"/?{entered.query}"):
        connection.request("GET", path, headers={"Cookie": entered.cookie})
        response = connection.getresponse()
        response.read()
        assert response.status == 404, path
    connection.close()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1:1", "[::1]:{port}", "vm:{port}"]
)
def test_other_hosts_are_refused(entered: Dashboard, host: str):
    port = entered.host.split(":")[1]
    assert entered("GET", "session", Host=host.format(port=port)).status == 421
    assert entered("GET", f"?{entered.query}", Host=host.format(port=port)).status == 421
    assert entered("GET", "session", Host=f"localhost:{port}").status == 200


@pytest.mark.parametrize(
    "stranger",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:8091"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_pages_of_others_are_refused(entered: Dashboard, stranger: dict[str, str]):
    for method, path, body in (
        ("GET", "session", None),
        ("GET", UNIT, None),
        ("PUT", UNIT, {"desiredState": "inactive"}),
    ):
        answer = entered(method, path, body, **stranger)
        assert answer.status == 403
        assert "another site" in answer.json()["detail"]
    assert entered("GET", "kirsch/v1/events", **HANDSHAKE, **stranger).status == 403
    assert entered("GET", UNIT).json()["on"][0]["desired"] == "launched"


def test_a_form_cannot_change_anything(entered: Dashboard):
    assert entered("PUT", UNIT, {}, Content_Type="text/plain").status == 415
    assert entered("PUT", UNIT, Content_Type="application/json").status == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "secrets"),
        ("GET", "units/till.service/environment"),
        ("GET", "environment"),
        ("GET", "backup"),
        ("GET", "certificates"),
        ("POST", "down"),
        ("PATCH", "units"),
        ("PUT", "applications/shop"),
        ("GET", ""),
        ("GET", "units/../secrets"),
    ],
)
def test_pages_cannot_ask_for_what_they_do_not_show(entered: Dashboard, method: str, path: str):
    answer = entered(method, f"kirsch/v1/{path}", None if method == "GET" else {})
    assert answer.status == 403
    assert "does not pass" in answer.json()["detail"]


def test_kirschd_s_own_words_come_through(entered: Dashboard):
    missing = entered("GET", "kirsch/v1/units/none.service")
    assert (missing.status, missing.json()["detail"]) == (404, "there is no unit none.service")
    assert entered("GET", "file/none.service").status == 404
    for name in ("self", "path", "query"):
        answer = entered("GET", f"kirsch/v1/figures?{name}=1")
        assert (answer.status, name in answer.json()["detail"]) == (400, True)
    wrong = entered("PUT", UNIT, {"desiredState": "asleep"})
    assert wrong.status == 400
    assert "desiredState" in wrong.json()["detail"]


def test_the_session_says_who_one_is(entered: Dashboard, application: Application):
    session = entered("GET", "session").json()
    assert session["role"] == "admin"
    assert session["refused"] == {}
    assert session["where"] == str(application.directory)


def test_the_file_is_explained(entered: Dashboard):
    lines = entered("GET", "file/till.service").json()["lines"]
    own = [line["text"] for line in lines if line["honoured"] == "by kirsch, everywhere"]
    assert own == ["Link=shop", "CPU=0.1", "Memory=64M"]


def test_a_person_who_runs_nothing_is_told_so(tmp_path):
    made = Application(tmp_path)
    assert re.search("no kirschd runs", made.fails("dashboard"))
    assert "port" in made.run("dashboard", "--port", "many").stderr


def test_the_address_is_on_no_command_line(application: Application, tmp_path: Path):
    """Everybody on a computer can read the command line of a browser that is opened."""
    shown = tmp_path / "shown"
    browser = tmp_path / "browser"
    # What a browser does with the page that it is given is to read it.
    browser.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$1" >{shown}.part\n'
        f'cat "${{1#file://}}" >>{shown}.part; mv {shown}.part {shown}\n'
    )
    browser.chmod(0o755)
    environment = {**os.environ, "BROWSER": str(browser), "DISPLAY": ":99"}
    with Screen([*KIRSCH, "-C", str(application.directory), "dashboard"], environment) as screen:
        screen.wait(shown.exists)
        screen.type("\x03")
        assert screen.status() == 0
    given, text = shown.read_text().split("\n", 1)
    assert given.startswith("file:///")
    assert "token" not in given
    assert re.search(r"url=http://127\.0\.0\.1:\d+/[0-9a-f]{16}/\?token=", text)
    assert not Path(given.removeprefix("file://")).parent.exists()


def test_up_at_a_terminal_prints_the_address_of_a_dashboard(tmp_path: Path):
    made = Application(tmp_path)
    made.sleeper("one.service")
    with Screen([*KIRSCH, "up", str(tmp_path)], dict(os.environ)) as screen:
        # The address is longer than a line of the screen, and may be there in part.
        whole = re.compile(r"Dashboard: (http://\S+?token=[\w-]{32})")
        screen.wait(lambda: whole.search("".join(screen.seen)), seconds=60)
        [address] = whole.findall("".join(screen.seen))
        dashboard = Dashboard(address)
        assert dashboard.enter().status == 200
        assert dashboard("GET", "session").json()["where"] == str(tmp_path)
        screen.type("\x03")
        screen.wait(lambda: "stopping" in "".join(screen.seen))
        assert screen.status() == 0
    with pytest.raises(OSError, match="refused"):
        dashboard("GET", "session")


BESIDE = """
import sys
from pathlib import Path

import cherrypy
from kirsch.cli.dashboard import dashboard_beside
from kirsch.cluster.api.client import Client
from kirsch.cluster.dashboard.server import Dashboard

client = Client(Path(sys.argv[1]))
print(Dashboard(client, {}, "here", ("::1", 0)).address.partition("]:")[0])

def fail():
    raise OSError("no descriptor is left")

cherrypy.engine.subscribe("start", fail)
print(repr(dashboard_beside(client)))
"""


def test_a_dashboard_that_does_not_start_lets_its_process_go_on(tmp_path: Path):
    """`kirsch up` has one beside units, which are not to end with it."""
    command = [sys.executable, "-c", BESIDE, str(tmp_path / ".kirsch/kirsch.sock")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["http://[::1", "''"]), done.stderr
