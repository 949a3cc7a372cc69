"""/location as programs ask for it: statuses, reasons, tags, the live stream, the token."""

import http.client
import json
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass

import pytest
from tests.deadline import eventually
from tests.device.conftest import EXAMPLE
from tests.device.sl4a_stand_in import GPS, SECURITY, Sl4aStandIn, line_of

from kirsch.websocket import ClientOptions, Closed, HandshakeError
from kirsch.websocket.threaded import connect

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


def ask(running, path="/location", method="GET", body=None, **fields):
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    with closing(connection):
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())


def live(running, **options):
    return connect(f"ws://127.0.0.1:{running.port}/location/live", options=ClientOptions(**options))


@pytest.fixture(scope="module")
def phone():
    with Sl4aStandIn() as server:
        server.move(gps=GPS)
        yield server


@pytest.fixture(scope="module")
def running(start, phone):
    running = start(**phone.environment)
    eventually(lambda: ask(running).status == 200)
    return running


class TestLocation:
    def test_as_json(self, running):
        answer = ask(running)
        assert answer.headers["Content-Type"] == "application/json"
        told = answer.json
        assert told.pop("age") > 0
        assert told == {
            "latitude": 50.0899,
            "longitude": 14.4,
            "altitude": 255.5,
            "accuracy": 8.0,
            "vertical_accuracy": None,
            "bearing": 90.0,
            "speed": 1.5,
            "time": "2026-01-31T12:00:00.000Z",
            "source": "sl4a",
            "provider": "gps",
            "failures": [],
        }

    def test_the_tag_stays_while_the_location_does(self, running, phone):
        tag = ask(running).headers["ETag"]
        assert tag.startswith('W/"')
        unchanged = ask(running, If_None_Match=tag)
        assert (unchanged.status, unchanged.body, unchanged.headers["ETag"]) == (304, b"", tag)
        assert ask(running, If_None_Match=f'"other", {tag.removeprefix("W/")}').status == 304
        phone.move(gps=GPS | {"time": GPS["time"] + 1000})
        eventually(lambda: ask(running, If_None_Match=tag).status == 200)

    def test_one_that_is_too_old(self, running):
        answer = ask(running, "/location?max_age=60")
        assert (answer.status, answer.json["reason"]) == (503, "no-fix")
        assert answer.json["detail"].startswith("the last location is ")
        assert answer.headers["Retry-After"] == "5"
        assert ask(running, "/location?max_age=1e9").status == 200

    @pytest.mark.parametrize(
        "query", ["max_age=x", "max_age=-1", "max_age=nan", "max_age=1&max_age=2", "age=1"]
    )
    def test_a_parameter_that_is_none(self, running, query):
        answer = ask(running, f"/location?{query}")
        assert answer.status == 400
        assert answer.headers["Content-Type"] == "application/problem+json"

    def test_as_a_page(self, running):
        answer = ask(running, Accept=HTML)
        assert answer.headers["Content-Type"] == "text/html;charset=utf-8"
        assert answer.headers["Vary"] == "Accept"
        assert ask(running, Accept=HTML, If_None_Match=answer.headers["ETag"]).status == 304
        assert ask(running, "/").headers["Location"].endswith("/location")
        assert ask(running, Accept="image/png").status == 406

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [("GET", "/nothing", 404), ("GET", "/static/no.js", 404), ("GET", "/static/../settings.py", 404),
         ("PUT", "/location", 405), ("POST", "/token", 405)],
    )  # fmt: skip
    def test_what_is_not_there(self, running, method, path, status):
        assert ask(running, path, method, b"").status == status
        assert b"Traceback" not in ask(running, path, method, b"", Accept=HTML).body

    def test_strangers(self, running):
        assert ask(running, Host="location.example").status == 421
        assert ask(running, "/token", "POST", b"", Origin="http://evil.example").status == 403
        with pytest.raises(HandshakeError) as refused:
            live(running, origin="http://evil.example")
        assert refused.value.status == 403

    def test_no_token_is_asked_for(self, running):
        assert "Token:" not in running.said
        assert "--share" in running.said


class TestLive:
    def test_at_once_and_whenever_it_changes(self, running, phone):
        with live(running) as first, live(running) as second:
            for ws in (first, second):
                assert json.loads(ws.recv(20))["status"] == 200
            phone.move(gps=GPS | {"latitude": 51, "time": GPS["time"] + 5000})
            for ws in (first, second):
                told = json.loads(ws.recv(20))
                assert (told["latitude"], told["failures"]) == (51, [])

    def test_nothing_is_read(self, running):
        with live(running) as ws:
            ws.recv(20)
            ws.send("where?")
            with pytest.raises(Closed) as closed:
                list(ws)
            assert (closed.value.code, closed.value.reason) == (1008, "nothing is read here")


class TestFailures:
    def test_none_yet_then_permission_denied_then_a_location(self, start, sl4a):
        sl4a.answers["startLocating"] = lambda number: line_of(number, error=SECURITY)
        running = start(**sl4a.environment)
        with live(running) as ws:
            while (told := json.loads(ws.recv(20)))["reason"] != "permission-denied":
                assert told["reason"] == "no-fix"
            answer = ask(running)
            assert (answer.status, answer.json["reason"]) == (503, "permission-denied")
            assert answer.json["failures"][0]["source"] == "sl4a"
            assert "allow it in Android's settings" in answer.json["detail"]
            assert answer.headers["Content-Type"] == "application/problem+json"
            # The page is there, and says so itself.
            assert ask(running, Accept=HTML).status == 200
            del sl4a.answers["startLocating"]
            sl4a.move(gps=GPS)
            assert json.loads(ws.recv(20))["status"] == 200

    def test_one_falls_back_to_the_next_and_says_so(self, start, sl4a):
        wrong = sl4a.environment | {"AP_HANDSHAKE": "guess"}
        running = start("--source", "sl4a fixed:1.5,2", **wrong)
        told = eventually(lambda: ask(running).json if ask(running).status == 200 else None)
        assert (told["source"], told["latitude"]) == ("fixed", 1.5)
        assert told["failures"] == [
            {
                "source": "sl4a",
                "reason": "unavailable",
                "detail": "SL4A does not take the handshake: AP_HANDSHAKE is not the one it gave",
            }
        ]
        assert "falling back to fixed" in running.said

    @pytest.mark.parametrize(
        ("environment", "told"),
        [
            ({"AP_PORT": "1"}, "sl4a: AP_HANDSHAKE is not set: start this from SL4A, which sets it"),
            ({"PATH": "/nowhere"}, "auto: there is neither SL4A (AP_PORT is not set) nor termux-location"),
        ],
    )
    def test_nobody_to_ask(self, start, environment, told):
        running = start(**environment)
        answer = eventually(lambda: (found := ask(running)).json["failures"] and found)
        assert (answer.status, answer.json["reason"]) == (503, "unavailable")
        assert answer.json["detail"].startswith(told)


@pytest.fixture(scope="module")
def shared(start):
    return start("--share", "--source", "fixed:1,2")


class TestToken:
    def test_it_is_shown_on_the_screen_with_where_to_look(self, shared):
        assert len(shared.token) == 11
        assert f":{shared.port}/location on others." in shared.said

    def test_without_it_nothing_is_told(self, shared):
        answer = ask(shared)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="location"')
        assert b"latitude" not in answer.body
        for wrong in ("guess", "", "%CE%A9"):
            assert ask(shared, f"/location?token={wrong}").status == 401
            assert ask(shared, Authorization="Bearer guess").status == 401
        assert ask(shared, Cookie="location-token=guess").status == 401
        with pytest.raises(HandshakeError) as refused:
            live(shared)
        assert refused.value.status == 401
        # What is looked at to type it is no secret; nor is whether this lives.
        assert ask(shared, "/static/app.css").status == ask(shared, "/readyz").status == 200

    def test_who_guesses_is_slowed_down_and_others_are_not(self, start):
        shared = start("--share", "--source", "fixed:1,2")
        statuses = []
        while 429 not in statuses and len(statuses) < 500:
            statuses.append(ask(shared, f"/location?token={len(statuses)}").status)
        assert len(statuses) > 20
        assert set(statuses[:-1]) == {401}
        assert statuses[-1] == 429
        other = http.client.HTTPConnection("127.0.0.1", shared.port, 20, source_address=("127.0.0.2", 0))
        with closing(other):
            other.request("GET", f"/location?token={shared.token}")
            assert other.getresponse().status == 200

    def test_with_it(self, shared):
        for token in (shared.token, shared.token.lower().replace("-", "")):
            assert ask(shared, Authorization=f"Bearer {token}").json["latitude"] == 1
            assert ask(shared, f"/location?token={token}").json["latitude"] == 1
        with live(shared, headers={"Authorization": f"Bearer {shared.token}"}) as ws:
            assert json.loads(ws.recv(20))["latitude"] == 1

    def test_a_browser_keeps_it(self, shared):
        answer = ask(shared, f"/location?token={shared.token}", Accept=HTML)
        assert answer.status == 303
        assert "token" not in answer.headers["Location"]
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert ask(shared, Cookie=cookie.partition(";")[0]).json["latitude"] == 1

    def test_it_is_new_each_time_and_in_no_log(self, shared, start):
        another = start("--share", "--source", "fixed:1,2")
        assert another.token != shared.token
        ask(shared, f"/location?token={shared.token}")
        assert shared.said.count(shared.token) == 1


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["--source", "gps"], {}, "location: there is no source 'gps': there are auto"),
        (["--port", "x"], {}, "location: --port is 'x': a port is a number from 1 to 65535"),
        ([], {"PORT": "0"}, "location: PORT is '0'"),
        ([], {"LOCATION_SOURCE": "fixed:1"}, "location: fixed:1 is not fixed:LATITUDE,LONGITUDE"),
        ([], {"AP_PORT": "x"}, "location: AP_PORT is 'x'"),
        (["--shared"], {}, "unrecognized arguments: --shared"),
    ],
)
def test_wrong_settings_end_it_with_a_line(arguments, environment, told):
    done = subprocess.run(
        [sys.executable, "-m", "location", *arguments],
        cwd=EXAMPLE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(running):
    done = subprocess.run(
        [sys.executable, "-m", "location", "--port", str(running.port), "--source", "fixed:1,2"],
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"location: cannot listen on 127.0.0.1:{running.port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr
