"""`kirsch serve` with an application of no framework, as a process."""

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
COMMAND = [sys.executable, "-m", "kirsch.cli.main", "serve"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shop.py").write_text(APPLICATION)
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


@pytest.mark.parametrize("name", ["shop:application", "shop:make()"])
def test_an_application_is_served_with_health_and_figures(folder, name):
    port = free_port()
    environment = os.environ | {"PORT": str(port)}
    process = subprocess.Popen(
        [*COMMAND, name, "--drain", "0"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        eventually(lambda: process.poll() is not None or answers(port))
        assert ask(port, "/", "POST", b"cherries") == (200, "you sent cherries")
        assert ask(port, "/fault")[0] == 500
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
    ],
)
def test_what_cannot_be_served_is_one_line(folder, name, reason):
    done = subprocess.run([*COMMAND, name], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("kirsch serve: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
