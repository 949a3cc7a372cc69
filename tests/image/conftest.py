"""Images, containers and an application of their own for tests with podman."""

import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.deadline import eventually

from kirsch.cluster.image.podman import images
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.podman import limits, ulimits

KIRSCH = str(Path(sys.executable).with_name("kirsch"))
IMAGES = Path(__file__).parents[2] / "images"
HERE = Path(__file__).parent
# The first image of all: packages from a mirror, on a computer that does other things too.
FIRST = 600

MODULE = """\
import cherrypy


class Root:
    @cherrypy.expose
    def index(self):
        return "first"

    @cherrypy.expose
    def watched(self):
        # CherryPy notes files' times a second after its start; what changes before goes unseen.
        return "yes" if cherrypy.engine.autoreload.mtimes else "no"


cherrypy.tree.mount(Root())
"""
CONTAINERFILE = """\
FROM localhost/kirsch/web
COPY . .
RUN pip install -r requirements.txt
"""


def why_not() -> str:
    """Why nothing can be built here; empty if it can."""
    if os.geteuid() != 0:
        return "images are built as root here"
    missing = [program for program in ("podman", "runc") if not shutil.which(program)]
    return f"images need {' and '.join(missing)}" if missing else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_not()
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("machines"):
            item.add_marker(pytest.mark.xdist_group("images"))
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(FIRST))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


class Podman:
    """podman and kirsch for a test; what the test made goes with it."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        # Without systemd podman cannot have health checks done in time; one is still done when asked for.
        self.environment = {
            **os.environ,
            "DISABLE_HC_SYSTEMD": "true",
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        }

    def kirsch(self, *arguments: object, ok: bool = True) -> subprocess.CompletedProcess[str]:
        done = self._run([KIRSCH, *map(str, arguments)])
        assert (done.returncode == 0) == ok, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def podman(self, *arguments: object, ok: bool = True) -> str:
        done = self._run(["podman", "--runtime", "runc", *map(str, arguments)])
        assert (done.returncode == 0) == ok, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def run(self, image: str, *options: object) -> str:
        """A container that runs in the background; its name."""
        name = f"{self.prefix}-{uuid.uuid4().hex[:6]}"
        words = ["run", "--detach", "--name", name, *ulimits(limits()), *options, image]
        self.podman(*words)
        return name

    def said(self, container: str) -> str:
        """What a container has written, to both of its outputs."""
        done = self._run(["podman", "--runtime", "runc", "logs", container])
        return done.stdout + done.stderr

    def names(self) -> list[str]:
        """The images that the test has named."""
        found = Runner().run(replace(images(), environment=self.environment))
        # podman 4 lists an image once for each of its names, with all of them.
        names = {name for image in json.loads(found or "[]") for name in image.get("Names") or ()}
        return sorted(name for name in names if self.prefix in name)

    def clean(self) -> None:
        containers = self.podman("ps", "--all", "--quiet", "--filter", f"name={self.prefix}").split()
        if containers:
            self.podman("rm", "--force", "--time", "1", "--volumes", *containers)
        if names := self.names():
            self.podman("image", "rm", "--force", *names)

    def _run(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=FIRST, env=self.environment, check=False
        )


@pytest.fixture
def podman() -> Iterator[Podman]:
    """podman, with a prefix for what this test makes."""
    tool = Podman(f"img-{uuid.uuid4().hex[:8]}")
    yield tool
    tool.clean()


@pytest.fixture(scope="session")
def web() -> str:
    """The image `web`, as `kirsch image build images/web` makes it."""
    Podman("none").kirsch("image", "build", IMAGES / "web", "-t", "kirsch/web")
    return "localhost/kirsch/web"


@pytest.fixture
def application(tmp_path: Path, web: str) -> Path:
    """The folder of an application that says `first`."""
    folder = tmp_path / "app"
    (folder / "webapp").mkdir(parents=True)
    (folder / "webapp/__init__.py").write_text(MODULE)
    (folder / "requirements.txt").write_text("iniconfig\n")  # small, and not in the base already
    (folder / "Containerfile").write_text(CONTAINERFILE)
    return folder


class Registry:
    """A registry that runs: Debian's docker-registry."""

    def __init__(self, folder: Path, tls: dict[str, Path] | None = None, passwords: str = "") -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        http: dict[str, object] = {"addr": self.address}
        if tls:
            http["tls"] = {
                "certificate": str(tls["certificate"]),
                "key": str(tls["key"]),
                **({"clientcas": [str(tls["authority"])]} if "authority" in tls else {}),
            }
        store = {"filesystem": {"rootdirectory": str(folder / "store")}, "delete": {"enabled": True}}
        # JSON is YAML too.
        settings = {"version": 0.1, "log": {"accesslog": {"disabled": True}}, "storage": store, "http": http}
        if passwords:
            (folder / "htpasswd").write_text(passwords)
            settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
        (folder / "registry.yml").write_text(json.dumps(settings))
        with (folder / "registry.log").open("w") as log:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", str(folder / "registry.yml")], stdout=log, stderr=log
            )
        eventually(self.answers, what=f"the registry; {(folder / 'registry.log').read_text()}")

    def answers(self) -> bool:
        assert self.process.poll() is None
        host, _, port = self.address.partition(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    """Starts registries."""
    running: list[Registry] = []

    def start(passwords: str = "", **tls: Path) -> Registry:
        if not shutil.which("docker-registry"):
            pytest.skip("a registry needs docker-registry: apt-get install docker-registry")
        folder = tmp_path / f"registry-{len(running)}"
        folder.mkdir()
        running.append(Registry(folder, tls, passwords))
        return running[-1]

    yield start
    for each in running:
        each.close()
