"""Bases of images by digest: `make pin`, with a registry that wants a token as public ones do."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = "src/kirsch/cluster/provision/recipe.py"
DIGEST = f"sha256:{'5' * 64}"


class Registry(BaseHTTPRequestHandler):
    """One image, team/base:1."""

    def do_HEAD(self) -> None:
        host = self.headers["Host"]
        if self.headers["Authorization"] != "Bearer read":
            self.send_response(401)
            self.send_header("WWW-Authenticate", f'Bearer realm="http://{host}/token",service="here"')
        elif self.path == "/v2/team/base/manifests/1" and "image.index" in self.headers["Accept"]:
            self.send_response(200)
            self.send_header("Docker-Content-Digest", DIGEST)
        else:
            self.send_response(404)
        self.end_headers()

    def do_GET(self) -> None:
        assert self.path == "/token?service=here&scope=repository%3Ateam%2Fbase%3Apull"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"token": "read"}).encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def pin(*paths: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, ROOT / "scripts/pin", *paths], capture_output=True, text=True)


def test_a_tag_is_pinned_and_pinned_anew(registry: str, tmp_path: Path):
    one, two = tmp_path / "One", tmp_path / "Two"
    one.write_text(f"# A base.\nARG BASE={registry}/team/base:1\nFROM ${{BASE}}\n")
    two.write_text(f"ARG BASE={registry}/team/base:1@sha256:{'0' * 64}\nFROM ${{BASE}}\n")
    module = tmp_path / "recipe.py"
    module.write_text(f'SUITE = "1"\nREFERENCE = "{registry}/team/base:1"\nREPOSITORY = "base"\n')
    for _ in range(2):
        done = pin(one, two, module)
        assert done.returncode == 0, done.stderr
        for path in (one, two):
            assert f"ARG BASE={registry}/team/base:1@{DIGEST}\nFROM ${{BASE}}\n" in path.read_text()
        pinned = f'SUITE = "1"\nREFERENCE = "{registry}/team/base:1@{DIGEST}"\nREPOSITORY = "base"\n'
        assert module.read_text() == pinned


def test_what_cannot_be_asked_changes_nothing(registry: str, tmp_path: Path):
    one, two = tmp_path / "One", tmp_path / "Two"
    one.write_text(f"ARG BASE={registry}/team/base:1\n")
    two.write_text(f"ARG BASE={registry}/team/none:1\n")
    done = pin(one, two)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"pin: {registry}/team/none:1: its registry cannot be asked: ")
    assert "@" not in one.read_text() + two.read_text()


def test_it_finds_the_base_of_each_image_and_of_machines():
    """`make pin` would change all that have one."""
    text = {path: path.read_text() for path in ROOT.glob("images/*/Containerfile")}
    assert len(text) == 7
    for path, each in text.items():
        assert "\nARG BASE=debian:trixie-slim" in each, path
    assert '\nREFERENCE = "debian:trixie-slim' in (ROOT / RECIPE).read_text()
    makes = (ROOT / "Makefile").read_text()
    assert f"scripts/pin images/*/Containerfile {RECIPE}\n" in makes
