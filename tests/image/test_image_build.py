"""Images that podman really builds, and containers that really run them."""

import http.client
import json
import signal
import socket
import subprocess
import threading
import urllib.request

import pytest
from tests.deadline import eventually
from tests.image.conftest import KIRSCH

from kirsch.cluster.image.content import is_content_tag

pytestmark = [pytest.mark.machines, pytest.mark.slow, pytest.mark.root]

SLOW_MODULE = """\
import threading
import cherrypy
begun = threading.Event()

class Root:
    @cherrypy.expose
    def index(self):
        return "ready"
    @cherrypy.expose
    def slow(self):
        begun.set()
        cherrypy.engine.wait(cherrypy.engine.states.STOPPING, interval=0.05)
        return "answered"
    @cherrypy.expose
    def waiting(self):
        return "yes" if begun.is_set() else "no"

cherrypy.tree.mount(Root())
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def made_of(podman, container: str) -> bool:
    """Whether a container is one of a build."""
    found = podman.podman(
        "ps", "--all", "--external", "--filter", f"id={container}", "--format", "{{.Command}}"
    )
    return found == "buildah"


def page(port: int, path: str = "/") -> str:
    try:
        with urllib.request.urlopen(f"http://localhost:{port}{path}", timeout=5) as answer:
            return answer.read().decode()
    except (OSError, http.client.HTTPException):
        return ""


def test_the_articles_container_answers_and_serves_the_hosts_code(podman, web, application):
    port = free_port()
    podman.kirsch("image", "build", application, "-t", podman.prefix)
    name = podman.run(podman.prefix, "--publish", f"{port}:8080")
    eventually(lambda: page(port) == "first", what="the page")
    assert podman.podman("exec", name, "id", "--user", "--name") == "web"
    podman.podman("healthcheck", "run", name)
    podman.podman("rm", "--force", "--time", "1", name)

    module = application / "webapp/__init__.py"
    podman.run(web, "--publish", f"{port}:8080", "--volume", f"{application / 'webapp'}:/home/web/webapp")
    eventually(lambda: page(port) == "first", what="the host's page")
    eventually(lambda: page(port, "/watched") == "yes", what="the watch")
    module.write_text(module.read_text().replace("first", "second"))
    eventually(lambda: page(port) == "second", what="the changed page")


def test_a_read_only_root_and_no_capability_are_enough(podman, web, application):
    port = free_port()
    volume = f"{application / 'webapp'}:/home/web/webapp:ro"
    podman.run(web, "--publish", f"{port}:8080", "--read-only", "--cap-drop", "all", "--volume", volume)
    eventually(lambda: page(port) == "first", what="the page")


def test_a_request_that_is_under_way_at_sigterm_is_answered(podman, web, application):
    port = free_port()
    (application / "webapp/__init__.py").write_text(SLOW_MODULE)
    volume = f"{application / 'webapp'}:/home/web/webapp"
    name = podman.run(web, "--publish", f"{port}:8080", "--volume", volume)
    # It serves a moment before it has started, and CherryPy told to exit in that moment exits at once.
    eventually(lambda: "Bus STARTED" in podman.said(name), what="the start")
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(page(port, "/slow")))
    asking.start()
    eventually(lambda: page(port, "/waiting") == "yes", what="the request")
    podman.podman("stop", "--time", "60", name)
    asking.join(20)
    assert answers == ["answered"]
    assert podman.podman("inspect", name, "--format", "{{.State.ExitCode}}") == "0"


def test_a_build_tags_by_name_and_content_and_is_quick_the_second_time(podman, application):
    first = json.loads(podman.kirsch("image", "build", application, "-t", podman.prefix, "--json").stdout)
    by_content, by_name = first["names"]
    assert by_name == f"localhost/{podman.prefix}:latest"
    assert is_content_tag(by_content.rpartition(":")[2])
    again = podman.kirsch("image", "build", application, "-t", f"{podman.prefix}:again", "--json")
    assert json.loads(again.stdout)["id"] == first["id"]
    assert again.stderr.count("(cached)") == 2
    module = application / "webapp/__init__.py"
    module.write_text(module.read_text().replace("first", "second"))
    changed = json.loads(podman.kirsch("image", "build", application, "-t", podman.prefix, "--json").stdout)
    assert changed["names"][0] != by_content
    assert by_content in podman.names()


def test_two_builds_of_one_folder_have_one_content(podman, application):
    args = ["image", "build", application, "-t", podman.prefix, "--no-cache", "--json"]
    names = {json.loads(podman.kirsch(*args).stdout)["names"][0] for _ in range(2)}
    assert len(names) == 1


def test_what_containerignore_names_stays_out(podman, application):
    (application / ".containerignore").write_text("secret*\n")
    (application / "secret.txt").write_text("hush")
    podman.kirsch("image", "build", application, "-t", podman.prefix)
    name = podman.run(podman.prefix)
    assert podman.podman("exec", name, "ls").split() == ["Containerfile", "requirements.txt", "webapp"]


def test_images_are_tagged_listed_and_removed(podman, application):
    podman.kirsch("image", "build", application, "-t", podman.prefix)
    given = podman.kirsch("image", "tag", podman.prefix, f"{podman.prefix}:1.0").stdout
    assert given == f"localhost/{podman.prefix}:1.0\n"
    rows = json.loads(podman.kirsch("image", "list", "--json").stdout)
    mine = [row for row in rows if row["image"] == f"localhost/{podman.prefix}"]
    assert [row["tag"] for row in mine] == ["1.0", "latest"]
    assert podman.prefix in podman.kirsch("image", "list").stdout
    words = podman.kirsch("_complete", "image", "rm", "localhost/img-").stdout.split()
    assert f"localhost/{podman.prefix}:1.0" in words
    podman.kirsch("image", "rm", podman.prefix)
    assert f"localhost/{podman.prefix}:1.0" in podman.names()
    podman.kirsch("image", "rm", f"{podman.prefix}:1.0")
    assert podman.names() == []


def test_an_image_that_runs_is_not_removed_by_mistake(podman, application):
    podman.kirsch("image", "build", application, "-t", podman.prefix)
    podman.run(podman.prefix)
    refused = podman.kirsch("image", "rm", podman.prefix, ok=False)
    assert "in use by the container" in refused.stderr
    podman.kirsch("image", "rm", "--force", podman.prefix)
    assert podman.names() == []


def test_a_step_that_fails_shows_its_last_lines_and_leaves_nothing(podman, application):
    before = podman.podman("ps", "--all", "--external", "--quiet").split()
    with (application / "Containerfile").open("a") as file:
        file.write("RUN echo before the end >&2; exit 7\n")
    failed = podman.kirsch("image", "build", application, "-t", podman.prefix, ok=False)
    assert failed.returncode == 1
    assert "before the end" in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("kirsch: 4/4 RUN echo before the end")
    assert failed.stderr.splitlines()[-1].endswith("exit status 7")
    assert podman.names() == []
    after = podman.podman("ps", "--all", "--external", "--quiet").split()
    assert [each for each in set(after) - set(before) if made_of(podman, each)] == []


def test_requirements_that_are_not_to_be_had_are_named(podman, application):
    (application / "requirements.txt").write_text("cherrypy==0.0.0.1\n")
    failed = podman.kirsch("image", "build", application, "-t", podman.prefix, ok=False)
    assert "cherrypy==0.0.0.1" in failed.stderr
    assert podman.names() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM localhost/kirsch/nothing\n", "which is not here"),
        ("FROM localhost/nothing\n", "build it first"),
        ("FRUM x\n", "podman build"),
    ],
)
def test_a_containerfile_that_cannot_be_built_says_why(podman, tmp_path, text, words):
    (tmp_path / "Containerfile").write_text(text)
    failed = podman.kirsch("image", "build", tmp_path, "-t", podman.prefix, ok=False)
    assert words in failed.stderr
    assert podman.names() == []


def test_what_is_not_there_is_said(podman, tmp_path):
    assert "no Containerfile" in podman.kirsch("image", "build", tmp_path, ok=False).stderr
    assert "no such directory" in podman.kirsch("image", "build", tmp_path / "none", ok=False).stderr
    assert "there is no image" in podman.kirsch("image", "rm", podman.prefix, ok=False).stderr
    assert "there is no image" in podman.kirsch("image", "tag", podman.prefix, "x", ok=False).stderr
    (tmp_path / "Containerfile").write_text("FROM scratch\n")
    assert (
        "cannot be an image's name" in podman.kirsch("image", "build", tmp_path, "-t", "A B", ok=False).stderr
    )


def test_without_podman_it_is_said_what_to_install(podman, application, monkeypatch):
    monkeypatch.setitem(podman.environment, "PATH", "/nonexistent")
    assert "apt-get install podman" in podman.kirsch("image", "build", application, ok=False).stderr
    monkeypatch.undo()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_build_that_is_interrupted_leaves_nothing(podman, application, tmp_path, signum):
    before = set(podman.podman("ps", "--all", "--external", "--quiet").split())
    with (application / "Containerfile").open("a") as file:
        file.write(f"RUN sleep 300; echo {podman.prefix}\n")
    out = (tmp_path / "out").open("w+")
    building = subprocess.Popen(
        [KIRSCH, "image", "build", application, "-t", podman.prefix],
        stdout=out, stderr=subprocess.STDOUT, env=podman.environment,
    )  # fmt: skip

    def sleeping() -> bool:
        done = subprocess.run(
            ["pgrep", "--full", f"^/bin/sh -c sleep 300; echo {podman.prefix}"],
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    eventually(sleeping, 120, "the step that waits")
    building.send_signal(signum)
    assert building.wait(60) == 130
    assert "Traceback" not in (tmp_path / "out").read_text()
    assert podman.names() == []
    after = set(podman.podman("ps", "--all", "--external", "--quiet").split())
    assert [each for each in after - before if made_of(podman, each)] == []
    assert not sleeping()


def test_where_no_space_is_left_it_is_said_in_a_line(podman, tmp_path):
    small, folder = tmp_path / "small", tmp_path / "large"
    small.mkdir()
    folder.mkdir()
    (folder / "Containerfile").write_text("FROM scratch\nCOPY data /data\n")
    (folder / "data").write_bytes(bytes(range(256)) * 120_000)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", small], check=True)
    try:
        storage = f'driver = "overlay"\ngraphroot = "{small}/graph"\nrunroot = "{small}/run"\n'
        (tmp_path / "storage.conf").write_text(f"[storage]\n{storage}")
        podman.environment["CONTAINERS_STORAGE_CONF"] = str(tmp_path / "storage.conf")
        failed = podman.kirsch("image", "build", folder, "-t", podman.prefix, ok=False)
        assert failed.stderr.startswith("kirsch: 2/2 COPY data /data: no space is left")
        assert failed.stderr.count("\n") == 1
        assert podman.names() == []
    finally:
        del podman.environment["CONTAINERS_STORAGE_CONF"]
        subprocess.run(["umount", small / "graph/overlay"], check=False, capture_output=True)
        subprocess.run(["umount", small], check=True)
