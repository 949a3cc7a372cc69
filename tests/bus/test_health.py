import http.client
import json
import signal
import subprocess
import sys
import threading
import time

import pytest
from tests.port import free_port

from kirsch.bus import HealthPlugin
from kirsch.bus.health import Health, Result


@pytest.fixture
def health(bus):
    plugin = HealthPlugin(bus, drain=0, check_timeout=0.2)
    previous = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    plugin.subscribe()
    yield plugin
    for signum, handler in previous.items():
        signal.signal(signum, handler)


def ask(application, method: str = "GET") -> tuple[str, dict[str, str], bytes]:
    answer: list = []
    body = application(
        {"REQUEST_METHOD": method}, lambda status, headers: answer.extend((status, dict(headers)))
    )
    return answer[0], answer[1], b"".join(body)


def test_ready_follows_the_bus(bus, health):
    assert health.ready() == Health("the bus is STOPPED")
    assert not health.live()
    bus.start()
    assert health.ready().ok
    assert health.live()
    bus.stop()
    assert not health.ready().ok


def test_checks_that_fail_are_named_with_their_reason(bus, health):
    def raises() -> None:
        raise ConnectionError("no route to the database")

    health.add("well", lambda: True)
    health.add("nothing to say", lambda: None)
    health.add("database", raises)
    health.add("disk", lambda: False)
    bus.start()
    ready = health.ready()
    assert not ready.ok
    assert ready.checks == (
        Result("well"),
        Result("nothing to say"),
        Result("database", "no route to the database"),
        Result("disk", "not well"),
    )


def test_an_exception_without_words_is_named(bus, health):
    def raises() -> None:
        raise KeyError

    health.add("it", raises)
    bus.start()
    assert health.ready().checks == (Result("it", "KeyError"),)


def test_a_check_that_hangs_fails_alone_and_runs_once(bus, health):
    hang, calls = threading.Event(), []

    def check() -> None:
        calls.append(1)
        hang.wait(10)

    health.add("hangs", check)
    health.add("well", lambda: True)
    bus.start()
    for _ in range(2):
        hanging, well = health.ready().checks
        assert hanging.reason.startswith("no answer within 0.")
        assert well.ok
    assert len(calls) == 1
    hang.set()


def test_live_and_ready_are_pages(bus, health):
    health.add("disk", lambda: False)
    bus.start()
    status, headers, body = ask(health.healthz)
    assert (status, json.loads(body)) == ("200 OK", {"live": True})
    status, headers, body = ask(health.readyz)
    assert status == "503 Service Unavailable"
    assert headers["Cache-Control"] == "no-store"
    assert json.loads(body) == {
        "ready": False,
        "reason": "",
        "checks": {"disk": {"ok": False, "reason": "not well"}},
    }


def test_a_check_that_is_not_required_is_shown_and_decides_nothing(bus, health):
    health.add("broker", lambda: False, required=False)
    bus.start()
    status, _, body = ask(health.readyz)
    assert status == "200 OK"
    assert json.loads(body)["checks"] == {"broker": {"ok": False, "reason": "not well", "required": False}}
    health.add("disk", lambda: False)
    assert ask(health.readyz)[0] == "503 Service Unavailable"


def test_other_methods_have_no_page(bus, health):
    bus.start()
    assert ask(health.readyz, "HEAD")[::2] == ("200 OK", b"")
    assert ask(health.readyz, "POST")[0] == "405 Method Not Allowed"


APPLICATION = """
import sys, threading, cherrypy
from kirsch.bus import SERVER_DEFAULTS, HealthPlugin
class Root:
    def index(self): return "hello"
    index.exposed = True
    def slow(self):
        print("in slow", flush=True)
        go_on.wait(20)
        return "slow"
    slow.exposed = True
    def go(self): go_on.set()
    go.exposed = True
go_on = threading.Event()
cherrypy.config.update(SERVER_DEFAULTS)
cherrypy.config.update({"server.socket_port": int(sys.argv[1])})
cherrypy.tree.mount(Root())
health = HealthPlugin(cherrypy.engine, drain=float(sys.argv[2]))
health.subscribe()
health.mount(cherrypy.tree)
cherrypy.engine.signals.subscribe()
cherrypy.engine.subscribe("drain", lambda: print("drain", flush=True))
cherrypy.engine.start()
print("ready", flush=True)
cherrypy.engine.block()
"""


class Application:
    def __init__(self, drain: float) -> None:
        self.port = free_port()
        argv = [sys.executable, "-c", APPLICATION, str(self.port), str(drain)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.expect("ready")

    def expect(self, line: str) -> None:
        assert self.process.stdout.readline() == line + "\n"

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture
def application():
    started: list[Application] = []

    def start(drain: float) -> Application:
        started.append(Application(drain))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        each.process.stdout.close()


def test_sigterm_ends_readiness_first_and_requests_go_on(application):
    app = application(drain=60)
    assert app.get("/readyz")[0] == 200
    answers = []
    slow = threading.Thread(target=lambda: answers.append(app.get("/slow")))
    slow.start()
    app.expect("in slow")
    app.process.terminate()
    app.expect("drain")
    status, body = app.get("/readyz")
    assert (status, json.loads(body)["reason"]) == (503, "draining")
    assert app.get("/healthz")[0] == 200
    assert app.get("/") == (200, b"hello")
    app.get("/go")
    slow.join(20)
    assert answers == [(200, b"slow")]


def test_after_the_drain_the_bus_exits(application):
    app = application(drain=0.5)
    begun = time.monotonic()
    app.process.terminate()
    assert app.process.wait(20) == 0
    assert time.monotonic() - begun >= 0.5


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_drain(application, second):
    app = application(drain=60)
    app.process.terminate()
    app.expect("drain")
    app.process.send_signal(second)
    assert app.process.wait(20) == 0


def test_without_a_drain_sigterm_exits(application):
    app = application(drain=0)
    app.process.terminate()
    assert app.process.wait(20) == 0


def test_ctrl_c_alone_does_not_drain(application):
    app = application(drain=60)
    app.process.send_signal(signal.SIGINT)
    assert app.process.wait(20) == 0
