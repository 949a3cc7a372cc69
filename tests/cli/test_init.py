"""kirsch init: what it finds in a folder, and small applications that run."""

import json
import socket
import urllib.request
from pathlib import Path

import pytest
from tests.cli.application import Application

from kirsch.cluster.application import load
from kirsch.cluster.application.initial import template
from kirsch.cluster.application.templates import TEMPLATES

FOUND = {
    "CherryPy": ({"app.py": "import cherrypy\ncherrypy.quickstart(Site())\n"}, "python app.py", 8080),
    "Flask": (
        {"site.py": "from flask import Flask\napp = Flask(__name__)\n"},
        "python -m flask --app site run --host ${KIRSCH_ADDRESS} --port 5000",
        5000,
    ),
    "a Flask factory": (
        {"site.py": "def create_app():\n    pass\n"},
        "python -m flask --app site run --host ${KIRSCH_ADDRESS} --port 5000",
        5000,
    ),
    "FastAPI": (
        {"main.py": "from fastapi import FastAPI\napi: FastAPI = FastAPI(title='x')\n"},
        "python -m uvicorn main:api --host ${KIRSCH_ADDRESS} --port 8000",
        8000,
    ),
    "Django": (
        {"manage.py": "", "app.py": "Flask(__name__)"},
        "python manage.py runserver --noreload ${KIRSCH_ADDRESS}:8000",
        8000,
    ),
    "Node.js": (
        {"package.json": '{"scripts": {"start": "node ."}}'},
        "env HOST=${KIRSCH_ADDRESS} npm start",
        3000,
    ),
    "pages": ({"index.html": ""}, "python -m http.server --bind ${KIRSCH_ADDRESS} 8000", 8000),
}


@pytest.fixture
def empty(application: Application) -> Application:
    """An application in an empty folder."""
    (application.directory / "units").rmdir()
    (application.directory / "server.py").unlink()
    return application


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


@pytest.mark.parametrize(("files", "command", "port"), FOUND.values(), ids=FOUND)
def test_a_folder_is_recognised(empty: Application, files: dict[str, str], command: str, port: int):
    write(empty.directory, files)
    printed = empty.ok("init")
    assert "Next:\n  kirsch up\n" in printed
    text = (empty.directory / "units/web.container").read_text()
    assert f"\nExecStart={command}\n" in text
    assert f"\nPublishPort={port}:{port}\n" in text
    application = load(empty.directory)
    assert (application.start, application.open) == (("web.container",), f"http://localhost:{port}/")
    assert not application.images
    assert empty.ok("verify", "units/web.container").endswith("ok\n")


def test_a_containerfile_is_what_the_image_is_built_of(empty: Application):
    write(empty.directory, {"Containerfile": "FROM x\nEXPOSE 9000\n"})
    assert "kirsch up --on CLUSTER" in empty.ok("init")
    application = load(empty.directory)
    [name] = application.images
    assert application.images[name].folder == empty.directory
    assert "PublishPort=9000:9000" in application.units["web.container"]


def test_a_procfile_becomes_units(empty: Application):
    write(empty.directory, {"Procfile": "web: python app.py\nclock: sleep 1000\n"})
    empty.ok("init")
    assert load(empty.directory).start == ("web.service", "clock.service")


def test_a_compose_file_becomes_containers(empty: Application):
    """As by `kirsch import compose`, with its notes of what is not carried over."""
    text = "services:\n  web:\n    image: nginx:1\n    ports: ['8080:80']\n    stdin_open: true\n"
    write(empty.directory, {"compose.yaml": text})
    done = empty.run("init")
    assert (done.returncode, "kirsch up" in done.stdout) == (0, True)
    assert "stdin_open" in done.stderr
    application = load(empty.directory, cluster=True)
    assert application.start == ("web.container",)
    assert "Image=nginx:1" in application.units["web.container"]
    assert "is an application already" in empty.fails("init")
    write(empty.directory, {"compose.yaml": "services: ["})
    assert "compose.yaml" in empty.fails("init", "--force")


def test_what_a_person_can_get_wrong(empty: Application):
    assert "kirsch init --template" in empty.fails("init")
    assert "kirsch init" in empty.fails("up")
    assert "is not one of 'cherrypy'" in empty.fails("init", "--template", "rails", status=2)
    assert "--with haproxy goes with --template" in empty.fails("init", "--with", "haproxy")
    assert empty.fails("init", "--template", "flask", "--with", "mysql") == (
        "there is no mysql to go with it; there are postgres, haproxy"
    )
    assert "leave postgres out" in empty.fails("init", "--template", "static", "--with", "postgres")
    write(empty.directory, {"package.json": "[]"})
    assert empty.fails("init") == "package.json: is not JSON with an object in it"
    write(empty.directory, {"package.json": "{}"})
    assert 'has no script "start"' in empty.fails("init")
    write(empty.directory, {"app.py": "mine"})
    assert empty.fails("init", "--template", "flask") == "app.py is there already: --force writes over it"
    assert (empty.directory / "app.py").read_text() == "mine"
    empty.ok("init", "--template", "flask", "--force")
    assert "is an application already" in empty.fails("init")


def test_json_and_another_folder(empty: Application):
    made = json.loads(empty.ok("init", "new/site", "--template", "static", "--json"))
    assert made["next"] == ["cd new/site", "kirsch up"]
    assert (empty.directory / "new/site/public/index.html").is_file()


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("extras", [(), ("postgres",), ("haproxy",), ("postgres", "haproxy")])
def test_files_of_a_template_are_an_application(tmp_path: Path, kind: str, extras: tuple[str, ...]):
    if kind == "static" and "postgres" in extras:
        return
    for name, text in template(kind, extras, tmp_path).files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        if name.endswith(".py"):
            compile(text, name, "exec")
    start = load(tmp_path).start
    assert ("db.container" in start, "lb.container" in start) == ("postgres" in extras, "haproxy" in extras)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.parametrize(
    ("kind", "extras"),
    [(kind, "") for kind in TEMPLATES] + [("cherrypy", "postgres,haproxy"), ("flask", "postgres")],
)
def test_a_template_runs(empty: Application, kind: str, extras: str):
    empty.ok("init", "--template", kind, *(["--with", extras] if extras else []))
    # Others may have the port, tests that run beside this one too.
    port = free_port()
    for path in [*empty.directory.rglob("*.container"), *empty.directory.glob("*.py"),
                 *empty.directory.glob("*.cfg"), empty.directory / "kirsch.toml"]:  # fmt: skip
        path.write_text(path.read_text().replace("8080", str(port)))
    printed = empty.ok("up", "-d", "--timeout", "90")
    assert f"is up: http://localhost:{port}/" in printed
    pages = []
    for _ in range(2):
        with urllib.request.urlopen(f"http://localhost:{port}/", timeout=30) as answer:
            pages.append(answer.read().decode())
    if kind == "static":
        assert "public/index.html" in pages[0]
    else:
        assert [page.rpartition("visit ")[2] for page in pages] == ["1\n", "2\n"]
        assert pages[0].startswith("Hello from web")
