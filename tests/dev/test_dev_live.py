"""`kirsch dev` as a person has it: a folder, an editor, a page."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.deadline import eventually

KIRSCH = str(Path(sys.executable).with_name("kirsch"))
WEB = "localhost/kirsch/web"
PATIENCE = 60.0
MODULE = """\
import cherrypy


class Root:
    @cherrypy.expose
    def index(self):
        return "first"


cherrypy.tree.mount(Root())
"""
SERVER = """\
import http.server
import os


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"first")


http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()
"""


def attended() -> None:
    """As at a terminal, which nohup(1) is not."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Dev:
    """A `kirsch dev` that runs."""

    def __init__(self, folder: Path, log: Path, *options: str, units: bool = False) -> None:
        self.port = free_port()
        self.log = log
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "DISABLE_HC_SYSTEMD": "true"}
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [KIRSCH, "dev", str(folder), *([] if units else ["--port", str(self.port)]), *options],
                stdout=out, stderr=subprocess.STDOUT, env=environment, preexec_fn=attended,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self.log.read_text()

    def page(self, port: int = 0) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port or self.port}/", timeout=5) as answer:
                return answer.read().decode()
        except (OSError, http.client.HTTPException):
            return ""

    def shows(self, text: str, port: int = 0) -> None:
        eventually(lambda: self.page(port) == text, PATIENCE, f"{text!r}; {self.said}")

    def says(self, pattern: str) -> None:
        eventually(lambda: re.search(pattern, self.said), PATIENCE, f"{pattern!r} in {self.said}")

    def end(self, signum: int = signal.SIGINT) -> int:
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


# What stands before tests with containers.
CONTAINERS = [
    pytest.mark.slow,
    pytest.mark.machines,
    pytest.mark.root,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("images"),
    pytest.mark.skipif(
        not (shutil.which("podman") and os.geteuid() == 0), reason="containers need podman, root"
    ),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    (folder / "webapp").mkdir(parents=True)
    (folder / "webapp/__init__.py").write_text(MODULE)
    return folder


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Dev]]:
    """Those that are to be ended."""
    running: list[Dev] = []
    yield running
    for dev in running:
        if dev.process.poll() is None:
            dev.process.kill()
            dev.process.wait()


@pytest.fixture(scope="module")
def web() -> None:
    """The image that containers are of."""
    images = Path(__file__).parents[2] / "images"
    subprocess.run([KIRSCH, "image", "build", images / "web", "-t", "kirsch/web"], check=True, timeout=590)


def story(dev: Dev, file: Path, port: int = 0) -> None:
    """A change is seen; a mistake is shown and changes nothing; what is mended is seen."""
    text = file.read_text()
    dev.shows("first", port)
    file.write_text(text.replace("first", "second"))
    dev.shows("second", port)
    file.write_text(text.replace("first", "third") + "\ndef broken(:\n")
    line = text.count("\n") + 2
    dev.says(rf"dev: \S*{re.escape(file.name)}:{line}: SyntaxError")
    dev.says("as it was until that is mended")
    assert dev.page(port) == "second"
    file.write_text(text.replace("first", "third"))
    dev.shows("third", port)


@pytest.mark.slow
def test_a_module_is_served_and_taken_up_as_it_changes(folder, tmp_path, started):
    dev = Dev(folder, tmp_path / "log")
    started.append(dev)
    story(dev, folder / "webapp/__init__.py")
    assert dev.end() == 0
    assert dev.said.endswith("stopped\n")


@pytest.mark.slow
def test_what_ends_by_itself_is_started_again_with_the_next_change(folder, tmp_path, started):
    file = folder / "webapp/__init__.py"
    dev = Dev(folder, tmp_path / "log")
    started.append(dev)
    dev.shows("first")
    file.write_text("raise RuntimeError('not yet')\n")
    dev.says("RuntimeError: not yet")
    dev.says("it has ended")
    file.write_text(MODULE.replace("first", "again"))
    dev.shows("again")
    assert dev.end() == 0


def test_files_of_a_folder_that_is_new_are_seen(folder, tmp_path, started):
    dev = Dev(folder, tmp_path / "log")
    started.append(dev)
    dev.shows("first")
    (folder / "webapp/parts").mkdir()
    (folder / "webapp/parts/__init__.py").write_text("def broken(:\n")
    dev.says(r"webapp/parts/__init__\.py:1: SyntaxError")
    assert dev.end() == 0


def test_a_module_that_is_away_leaves_all_as_it_was(folder, tmp_path, started):
    dev = Dev(folder, tmp_path / "log")
    started.append(dev)
    dev.shows("first")
    (folder / "webapp").rename(folder / ".elsewhere")
    dev.says("the module is gone: it goes on as it was")
    assert dev.page() == "first"
    (folder / ".elsewhere/__init__.py").write_text(MODULE.replace("first", "back"))
    (folder / ".elsewhere").rename(folder / "webapp")
    dev.shows("back")
    # Its terminal is closed.
    assert dev.end(signal.SIGHUP) == 0
    assert dev.said.endswith("stopped\n")


def test_what_pip_is_to_install_is_told_when_it_changes(folder, tmp_path, started):
    dev = Dev(folder, tmp_path / "log")
    started.append(dev)
    dev.shows("first")
    (folder / "requirements.txt").write_text("iniconfig\n")
    dev.says(rf"dev: requirements.txt changed: `\S+ -m pip install -r {folder}/requirements.txt`")
    assert dev.page() == "first"
    assert "reloading" not in dev.said
    assert dev.end() == 0


@pytest.mark.slow
def test_units_that_run_the_folders_code_are_restarted(tmp_path, started):
    folder = tmp_path / "app"
    (folder / "units").mkdir(parents=True)
    port = free_port()
    (folder / "server.py").write_text(SERVER)
    (folder / "units/page.service").write_text(
        f"[Service]\nExecStart=python server.py\nEnvironment=PORT={port}\n"
    )
    (folder / "units/other.service").write_text("[Service]\nExecStart=sleep infinity\n")
    dev = Dev(folder, tmp_path / "log", units=True)
    started.append(dev)
    dev.says("is watched")
    story(dev, folder / "server.py", port)
    dev.says("page.service is ready")
    assert "restarting other" not in dev.said
    (folder / "requirements.txt").write_text("iniconfig\n")
    dev.says(rf"dev: requirements.txt changed: `\S+ -m pip install -r {folder}/requirements.txt`")
    (folder / "units/more.service").write_text("[Service]\nExecStart=sleep infinity\n")
    dev.says("more.service changed: the application is up to date")
    assert dev.end() == 0


class TestInAContainer:
    pytestmark = CONTAINERS

    def test_a_module_is_served_in_a_container(self, folder, tmp_path, started, web):
        (folder / "words.py").write_text(
            'from pathlib import Path\nSTART = Path("parts/start").read_text()\n'
        )
        (folder / "parts").mkdir()
        (folder / "parts/start").write_text("fir")
        module = folder / "webapp/__init__.py"
        module.write_text(
            MODULE.replace("import cherrypy", "import cherrypy, words").replace('"first"', "words.START")
        )
        dev = Dev(folder, tmp_path / "log", "--container")
        started.append(dev)
        dev.shows("fir")
        # What lies beside the module is the host's too: files of any kind, and other modules.
        (folder / "parts/start").write_text("sta")
        (folder / "words.py").write_text((folder / "words.py").read_text() + 'START += "rt"\n')
        dev.shows("start")
        module.write_text(MODULE)
        story(dev, module)
        assert dev.end() == 0
        assert "kirsch-dev-" not in containers()

    def test_who_presses_ctrl_c_twice_leaves_no_container(self, folder, tmp_path, started, web):
        module = folder / "webapp/__init__.py"
        stop = 'lambda: (print("still busy"), __import__("time").sleep(300))'
        module.write_text(MODULE + f'cherrypy.engine.subscribe("stop", {stop})\n')
        dev = Dev(folder, tmp_path / "log", "--container")
        started.append(dev)
        dev.shows("first")
        dev.process.send_signal(signal.SIGINT)
        dev.says("still busy")
        assert dev.end() == 0
        assert "kirsch-dev-" not in containers()

    @pytest.mark.soak
    def test_a_new_image_is_taken_up_when_its_containerfile_changes(self, folder, tmp_path, started, web):
        """And one that cannot be built leaves all as it was."""
        word = uuid.uuid4().hex[:8]
        folder = folder.rename(tmp_path / f"dev-{word}")  # the image's name
        file = folder / "Containerfile"
        text = f"FROM {WEB}\nENV WORD={word}-1\n"
        file.write_text(text)
        module = folder / "webapp/__init__.py"
        module.write_text(
            MODULE.replace("import cherrypy", "import os, cherrypy").replace('"first"', 'os.environ["WORD"]')
        )
        dev = Dev(folder, tmp_path / "log", "--container")
        started.append(dev)
        try:
            dev.shows(f"{word}-1")
            file.write_text(f"{text}RUN echo what is wrong && exit 3\n")
            dev.says("dev: Containerfile changed: building the image anew")
            dev.says(r"what is wrong\n(.*\n)*dev: .*: exit status 3\ndev: it goes on as it was")
            assert dev.page() == f"{word}-1"
            # What is built while the code is wrong waits until that is mended.
            right = module.read_text()
            module.write_text(right + "def broken(:\n")
            dev.says("(?s)SyntaxError.*it goes on as it was")
            before = len(dev.said)
            file.write_text(text.replace("-1", "-2"))
            eventually(lambda: "as it was until" in dev.said[before:], PATIENCE, f"the image; {dev.said}")
            assert dev.page() == f"{word}-1"
            module.write_text(right)
            dev.shows(f"{word}-2")
            file.write_text(text.replace("-1", "-3"))
            dev.shows(f"{word}-3")
            assert dev.end() == 0
        finally:
            mine = f"reference=localhost/{folder.name}"
            subprocess.run(
                f"podman rmi --force $(podman images --quiet --filter {mine})",
                shell=True,
                check=False,
                timeout=60,
            )


def containers() -> str:
    return subprocess.run(
        ["podman", "ps", "--all", "--format", "{{.Names}} {{.Mounts}}"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip


def test_options_that_would_do_nothing_are_refused(folder, tmp_path):
    def refused(*arguments: object) -> str:
        argv = [KIRSCH, "dev", *map(str, arguments)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        return str(done.stderr)

    assert refused(folder, "--image", "x") == "kirsch: --image is for a container: give --container too\n"
    (tmp_path / "page.service").write_text("[Service]\nExecStart=sleep infinity\n")
    assert "--port is for a module" in refused(tmp_path, "--port", free_port())


def test_what_cannot_be_served_is_said(tmp_path):
    def refused(*arguments: str) -> str:
        done = subprocess.run(
            [KIRSCH, "dev", *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        return str(done.stderr)

    assert "no such directory" in refused(str(tmp_path / "none"))
    assert "neither unit files nor a module webapp" in refused(str(tmp_path), "--port", str(free_port()))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert f"port {port}" in refused(str(tmp_path), "--port", str(port))
