"""`kirsch serve` as a process, with a user's applications: of no framework, Flask, Django and CherryPy."""

import http.client
import os
import signal
import subprocess
import sys

import pytest
from tests.deadline import eventually
from tests.port import free_port

APPLICATION = """
def application(environ, start_response):
    if environ["PATH_INFO"] == "/fault":
        raise RuntimeError("fault")
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"you sent ", body]

def make():
    return application

number = 5
"""
FLASK = """
from flask import Flask, request

application = Flask(__name__)

@application.post("/")
def sent():
    return b"you sent " + request.get_data()

@application.get("/fault")
def fault():
    raise RuntimeError("fault")
"""
DJANGO = """
from django.conf import settings

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="shop")

from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

def fault(request):
    raise RuntimeError("fault")

urlpatterns = [path("", lambda request: HttpResponse(b"you sent " + request.body)), path("fault", fault)]
application = get_wsgi_application()
"""
CHERRYPY = """
import cherrypy

class Root:
    @cherrypy.expose
    def index(self):
        return b"you sent " + cherrypy.request.body.read()

    @cherrypy.expose
    def fault(self):
        raise RuntimeError("fault")

application = cherrypy.tree.mount(Root())
"""
COMMAND = [sys.executable, "-m", "kirsch.cli.main", "serve"]


@pytest.fixture
def folder(tmp_path):
    programs = {"shop": APPLICATION, "in_flask": FLASK, "in_django": DJANGO, "in_cherrypy": CHERRYPY}
    for name, program in programs.items():
        (tmp_path / f"{name}.py").write_text(program)
    (tmp_path / "syntax.py").write_text("application = (\n")
    (tmp_path / "name.py").write_text("\napplication = nothing\n")
    (tmp_path / "imports.py").write_text("from shop import nothing\n")
    return tmp_path


def ask(port, path, method="GET", body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def answers(port):
    try:
        return ask(port, "/readyz")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize(
    "name",
    [
        "shop:application",
        "shop:make()",
        "in_flask:application",
        "in_django:application",
        "in_cherrypy:application",
    ],
)
def test_an_application_is_served_with_health_and_figures(folder, name):
    port = free_port()
    environment = os.environ | {"PORT": str(port)}
    process = subprocess.Popen(
        [*COMMAND, name, "--drain", "0"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        eventually(lambda: process.poll() is not None or answers(port))
        assert ask(port, "/", "POST", b"cherries") == (200, "you sent cherries")
        status, page = ask(port, "/fault")
        assert status == 500
        assert "Traceback" not in page
        assert ask(port, "/healthz")[0] == 200
        status, figures = ask(port, "/metrics")
        assert status == 200
        assert 'http_request_duration_seconds_count{method="GET",route="*",status="500"} 1.0' in figures
        assert 'http_request_duration_seconds_count{method="POST",route="*",status="200"} 1.0' in figures
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "RuntimeError: fault" in errors


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("shop", "'shop' is not MODULE:APP"),
        ("nowhere:application", "there is no module nowhere"),
        ("shop:nothing", "shop has no nothing"),
        ("shop:number", "shop:number is int, not a WSGI application"),
        ("shop:number()", "shop:number is int, not a function"),
        (".shop:application", "'.shop:application' is not MODULE:APP"),
        ("syntax:application", "syntax.py, line 1: SyntaxError: "),
        ("name:application", "name.py, line 2: NameError: "),
        ("imports:application", "imports.py, line 1: ImportError: "),
    ],
)
def test_what_cannot_be_served_is_one_line(folder, name, reason):
    done = subprocess.run([*COMMAND, name], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("kirsch serve: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
