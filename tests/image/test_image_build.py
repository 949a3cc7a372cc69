"""Images that podman really builds, and containers that really run them."""

import http.client
import io
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable

import pytest
from tests.deadline import eventually
from tests.image.conftest import IMAGES, KIRSCH

from kirsch.cli.output import Steps
from kirsch.cluster.application import load
from kirsch.cluster.application.build import made
from kirsch.cluster.image.base import base_name
from kirsch.cluster.image.containerfile import Containerfile
from kirsch.cluster.image.lock import BUILD, shared
from kirsch.cluster.image.reference import is_content_tag
from kirsch.cluster.provision.archive import File, archive
from kirsch.cluster.provision.command import Command, Runner
from kirsch.cluster.provision.podman import copy_in, limits, ulimits

pytestmark = [pytest.mark.machines, pytest.mark.slow, pytest.mark.root]

BASE = "FROM scratch\nCOPY file /base\n"

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


@pytest.mark.soak
@pytest.mark.parametrize("size", [1, 1_046_000, 1_047_000, 1_047_552, 1_060_000])
def test_podman_takes_an_archive_of_whatever_length_in(podman, web, size):
    """Zeros behind its end that begin a part of what podman reads, 32 KiB, were an error."""
    name = podman.run(web, "--entrypoint", '["sleep", "infinity"]', "--user", "root")
    Runner().run(copy_in(name, archive([File("/opt/file", bytes(size))])))
    assert podman.podman("exec", name, "stat", "--format", "%s", "/opt/file") == str(size)


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
    assert re.findall(r"(COPY|RUN) .*\(cached\)", again.stderr) == ["COPY", "RUN"]
    module = application / "webapp/__init__.py"
    module.write_text(module.read_text().replace("first", "second"))
    changed = json.loads(podman.kirsch("image", "build", application, "-t", podman.prefix, "--json").stdout)
    assert changed["names"][0] != by_content
    assert by_content in podman.names()


@pytest.mark.soak
def test_two_builds_of_one_folder_have_one_content(podman, application):
    args = ["image", "build", application, "-t", podman.prefix, "--no-cache", "--json"]
    names = {json.loads(podman.kirsch(*args).stdout)["names"][0] for _ in range(2)}
    assert len(names) == 1
    # What pip compiled is used: it goes by hashes of the sources, not by their times, which are of 1970.
    script = "import iniconfig, sys; sys.stdout.buffer.write(open(iniconfig.__cached__, 'rb').read()[4:8])"
    flags = podman.podman("run", "--rm", *ulimits(limits()), podman.prefix, "python", "-c", script)
    assert flags.encode() == bytes([3, 0, 0, 0])


@pytest.mark.soak
def test_what_containerignore_names_stays_out(podman, application):
    kept = ["#1", "logs/kept.log"]
    for name in (*kept, "logs/old.log", "a/b/cache.tmp", "built/x", "noise.log", ".kirsch/secret"):
        (application / name).parent.mkdir(parents=True, exist_ok=True)
        (application / name).write_text(name)
    (application / ".containerignore").write_bytes(
        b"# a comment\r\n/requirements.txt.old\nbuilt/\n**/*.tmp \n*.log\nlogs\n! /logs/kept.log\n!.kirsch\n"
    )
    podman.kirsch("image", "build", application, "-t", podman.prefix, "--json")
    name = podman.run(podman.prefix)
    found = podman.podman("exec", name, "find", ".", "-type", "f", "!", "-path", "./.*/*").split()
    assert {path.removeprefix("./") for path in found if not path.startswith("./.")} == {
        *kept, "Containerfile", "requirements.txt", "webapp/__init__.py"
    }  # fmt: skip
    # Where an application was up secrets lie there; nothing brings that into an image.
    assert podman.podman("exec", name, "find", "/home/web", "-name", ".kirsch") == ""


class Counting(Runner):
    """A runner that knows what it has run: the first words of each command."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[str] = []

    def run(self, command: Command) -> str:
        self.ran.append(" ".join(command.argv[3:5]))
        return super().run(command)

    def stream(self, command: Command, read: Callable[[str], None]) -> None:
        self.ran.append(command.argv[3])
        super().stream(command, read)


def test_where_nothing_has_changed_podman_is_asked_once_for_all_images(podman, tmp_path):
    """Each build took seconds, though every step was cached."""
    web, base = podman.prefix, f"{podman.prefix}-base"
    for folder, text in ((tmp_path, f"FROM localhost/{base}\nCOPY file /\n"), (tmp_path / "base", BASE)):
        folder.mkdir(exist_ok=True)
        (folder / "Containerfile").write_text(text)
        (folder / "file").write_text("1")
    (tmp_path / "kirsch.toml").write_text(
        f'name = "counted"\n[images."{web}"]\nbuild = "."\n[images."{base}"]\nbuild = "base"\n'
    )
    (tmp_path / "units").mkdir()
    (tmp_path / "units/web.container").write_text(f"[Container]\nImage=localhost/{web}\n")
    said = io.StringIO()

    def up() -> tuple[list[str], str]:
        runner = Counting()
        (image,) = made(load(tmp_path, cluster=True), runner, Steps(said)).values()
        return runner.ran, image.content

    first, content = up()
    assert first.count("build") == 2
    assert up() == (["image ls"], content)
    # A change is built, and with it what begins with what has changed.
    (tmp_path / "file").write_text("2")
    changed, other = up()
    assert (changed.count("build"), other != content) == (1, True)
    (tmp_path / "base/file").write_text("2")
    assert up()[0].count("build") == 2
    last = up()
    assert last[0] == ["image ls"]
    # Somebody has given the name to another image, or taken it away.
    podman.podman("tag", f"localhost/{base}", f"localhost/{web}")
    again, content = up()
    assert (again.count("build"), content) == (1, last[1])
    podman.podman("image", "rm", "--force", f"localhost/{web}")
    again, content = up()
    assert (again.count("build"), content) == (1, last[1])


@pytest.mark.soak
def test_the_content_is_other_with_every_change_that_counts(podman, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "Containerfile").write_text("FROM scratch\nCOPY . /\n")
    (folder / ".containerignore").write_text("out\n.containerignore\n")
    (folder / "file").write_text("x")
    (folder / "link").symlink_to("file")

    def built() -> str:
        said = podman.kirsch("image", "build", folder, "-t", podman.prefix, "--json").stdout
        return str(json.loads(said)["names"][0])

    seen = [built()]
    os.utime(folder / "file", (1, 1))
    (folder / "out").write_text("not in it")
    assert built() == seen[0]
    (folder / "file").chmod(0o755)
    seen.append(built())
    (folder / "link").unlink()
    (folder / "link").symlink_to("elsewhere")
    seen.append(built())
    (folder / "empty").mkdir()
    seen.append(built())
    assert len(set(seen)) == 4


@pytest.mark.soak
def test_what_a_base_says_by_onbuild_is_in_its_content_and_in_that_of_what_begins_with_it(podman, tmp_path):
    base, folder = tmp_path / "base", tmp_path / "folder"
    base.mkdir()
    folder.mkdir()
    (base / "file").write_text("x")
    (folder / "Containerfile").write_text(f"FROM localhost/{podman.prefix}-base\nCOPY Containerfile /\n")

    def built(onbuild: str) -> tuple[str, ...]:
        (base / "Containerfile").write_text(f"FROM scratch\nCOPY file /\nONBUILD {onbuild}\n")
        said = [
            podman.kirsch("image", "build", place, "-t", name, "--json").stdout
            for place, name in ((base, f"{podman.prefix}-base"), (folder, podman.prefix))
        ]
        return tuple(json.loads(each)["names"][0] for each in said)

    first, second, again = map(built, ("ENV A=1", "ENV A=2", "ENV A=1"))
    assert first == again
    assert not set(first) & set(second)


def test_requirements_that_the_image_takes_no_wheels_of_are_left_alone(podman, tmp_path):
    (tmp_path / "Containerfile").write_text("FROM scratch\nCOPY requirements.txt /\n")
    (tmp_path / "requirements.txt").write_text("there-is-no-such-thing==0.0.0.1\n")
    podman.kirsch("image", "build", tmp_path, "-t", podman.prefix)


@pytest.mark.soak
def test_who_keeps_files_to_himself_can_build(podman, application):
    kirsch = [KIRSCH, "image", "build", str(application), "-t", podman.prefix, "--no-cache"]
    done = podman._run(["sh", "-c", 'umask 077; exec "$@"', "sh", *kirsch])
    assert done.returncode == 0, done.stderr
    # The cache is of everybody's.
    podman.kirsch("image", "build", application, "-t", podman.prefix)


@pytest.mark.soak
def test_images_are_tagged_listed_and_removed(podman, application):
    podman.kirsch("image", "build", application, "-t", podman.prefix)
    given = podman.kirsch("image", "tag", podman.prefix, f"{podman.prefix}:1.0").stdout
    assert given == f"localhost/{podman.prefix}:1.0\n"
    rows = json.loads(podman.kirsch("image", "list", "--json").stdout)
    mine = [row for row in rows if row["image"] == f"localhost/{podman.prefix}"]
    assert [row["tag"] for row in mine] == ["1.0", "latest"]
    assert podman.prefix in podman.kirsch("image", "list").stdout
    for line in (["image", "rm"], ["dev", "--container", "--image"]):
        words = podman.kirsch("_complete", *line, "localhost/img-").stdout.split()
        assert f"localhost/{podman.prefix}:1.0" in words
    podman.kirsch("image", "rm", podman.prefix)
    assert f"localhost/{podman.prefix}:1.0" in podman.names()
    podman.kirsch("image", "rm", f"{podman.prefix}:1.0")
    assert podman.names() == []


@pytest.mark.soak
def test_an_image_that_runs_is_not_removed_by_mistake(podman, application):
    podman.kirsch("image", "build", application, "-t", podman.prefix)
    podman.run(podman.prefix)
    refused = podman.kirsch("image", "rm", podman.prefix, ok=False)
    assert "in use by the container" in refused.stderr
    podman.kirsch("image", "rm", "--force", podman.prefix)
    assert podman.names() == []


@pytest.mark.soak
def test_an_image_that_runs_by_another_name_is_not_removed_either(podman, application):
    podman.kirsch("image", "build", application, "-t", podman.prefix)
    podman.kirsch("image", "tag", podman.prefix, f"{podman.prefix}:1.0")
    podman.run(f"{podman.prefix}:1.0")
    podman.kirsch("image", "rm", f"{podman.prefix}:1.0")
    before = podman.names()
    refused = podman.kirsch("image", "rm", podman.prefix, ok=False)
    assert "in use by the container" in refused.stderr
    assert podman.names() == before


@pytest.mark.soak
def test_of_several_those_that_are_gone_are_told_before_the_one_that_is_not(podman, application):
    podman.kirsch("image", "build", application, "-t", podman.prefix)
    half = podman.kirsch("image", "rm", podman.prefix, f"{podman.prefix}:none", ok=False)
    assert f"localhost/{podman.prefix}:latest is removed" in half.stdout
    assert "there is no image" in half.stderr


@pytest.mark.soak
def test_what_failed_builds_leave_goes_with_prune(podman, tmp_path):
    def nameless() -> set[str]:
        return set(podman.podman("images", "--quiet", "--no-trunc", "--filter", "dangling=true").split())

    (tmp_path / "Containerfile").write_text(f"FROM scratch\nCOPY data /{podman.prefix}\nRUN nothing\n")
    (tmp_path / "data").write_text(podman.prefix)
    before = nameless()
    podman.kirsch("image", "build", tmp_path, "-t", podman.prefix, ok=False)
    left = nameless() - before
    assert left

    def pruned() -> bool:
        said = podman.kirsch("image", "prune").stderr
        # Others may be building just then.
        assert not left & nameless() or "something is being built" in said
        return not left & nameless()

    eventually(pruned, 120, "the end of all builds")


def test_what_is_being_built_is_not_pruned(podman, tmp_path, monkeypatch):
    monkeypatch.setitem(podman.environment, "XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with shared(BUILD):
        assert "something is being built" in podman.kirsch("image", "prune").stderr


def test_a_step_that_fails_shows_its_last_lines_and_leaves_nothing(podman, application):
    before = podman.podman("ps", "--all", "--external", "--quiet").split()
    with (application / "Containerfile").open("a") as file:
        file.write("RUN echo before the end >&2; exit 7\n")
    failed = podman.kirsch("image", "build", application, "-t", podman.prefix, ok=False)
    assert failed.returncode == 1
    assert "before the end" in failed.stderr
    last = failed.stderr.splitlines()[-1]
    assert re.fullmatch(r"kirsch: \d/\d RUN echo before the end .*: exit status 7", last)
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
        ("FROM 127.0.0.1:1/nothing\n", "`kirsch image pull 127.0.0.1:1/nothing` says why"),
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


def test_an_argument_that_nothing_takes_is_refused(podman, tmp_path):
    (tmp_path / "Containerfile").write_text("FROM scratch\nARG A\nCOPY Containerfile /\n")
    build = ("image", "build", tmp_path, "-t", podman.prefix)
    assert "has no ARG B: " in podman.kirsch(*build, "--build-arg", "B=1", ok=False).stderr
    assert "has no ARG BASE: " in podman.kirsch(*build, "--base", "debian", ok=False).stderr
    assert podman.names() == []
    podman.kirsch(*build, "--build-arg", "A=1", "--build-arg", "http_proxy=http://127.0.0.1:1")


def test_a_folder_that_cannot_be_written_is_said_in_a_line(podman, tmp_path, monkeypatch):
    (tmp_path / "Containerfile").write_text("FROM scratch\n")
    monkeypatch.setitem(podman.environment, "XDG_CACHE_HOME", "/dev/null/x")
    refused = podman.kirsch("image", "build", tmp_path, "-t", podman.prefix, ok=False)
    assert refused.stderr == "kirsch: /dev/null/x/kirsch: Not a directory\n"


@pytest.mark.parametrize(
    "words",
    [
        ["build", ".", "-t", "x"], ["list"], ["tag", "a", "b"], ["rm", "a"], ["push", "a", "r.example/a"],
        ["pull", "r.example/a"], ["prune"],
    ],
)  # fmt: skip
def test_without_podman_it_is_said_what_to_install(podman, tmp_path, monkeypatch, words):
    (tmp_path / "Containerfile").write_text("FROM scratch\n")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(podman.environment, "PATH", "/nonexistent")
        refused = (
            podman.kirsch("image", *words, "-t", "x", ok=False)
            if words[0] == "build"
            else podman.kirsch("image", *words, ok=False)
        )
        assert refused.stderr == "kirsch: images need podman and runc: apt-get install podman runc\n"
        (tmp_path / "podman").symlink_to(shutil.which("podman"))
        patch.setitem(podman.environment, "PATH", str(tmp_path))
        refused = podman.kirsch("image", "list", ok=False)
        assert refused.stderr == "kirsch: images need runc: apt-get install runc\n"


@pytest.mark.soak
def test_what_an_image_begins_with_is_made_where_kirsch_brings_it(podman, tmp_path):
    """A computer whose podman has nothing but Debian."""
    (tmp_path / "Containerfile").write_text("FROM localhost/kirsch/web\nCOPY text .\n")
    (tmp_path / "text").write_text("x")
    podman.kirsch("image", "build", IMAGES / "web", "-t", "kirsch/web")
    arguments = Containerfile.parse((IMAGES / "web/Containerfile").read_text())
    debian = base_name(arguments.packages, platform.machine())
    if debian not in podman.podman("images", "--format", "{{.Repository}}:{{.Tag}}"):
        pytest.skip("images begin with a registry's Debian here")
    podman.podman("save", "--quiet", "--output", tmp_path / "debian.tar", debian)
    memory = tmp_path / "memory"
    memory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g", "none", memory], check=True)
    try:
        storage = f'driver = "overlay"\ngraphroot = "{memory}/graph"\nrunroot = "{memory}/run"\n'
        (tmp_path / "storage.conf").write_text(f"[storage]\n{storage}")
        podman.environment["CONTAINERS_STORAGE_CONF"] = str(tmp_path / "storage.conf")
        podman.podman("load", "--quiet", "--input", tmp_path / "debian.tar")
        said = podman.kirsch("image", "build", tmp_path, "-t", podman.prefix).stdout
        assert "localhost/kirsch/web:latest, which comes with kirsch" in said
        assert f"localhost/{podman.prefix}:latest" in podman.names()
    finally:
        del podman.environment["CONTAINERS_STORAGE_CONF"]
        subprocess.run(["umount", memory / "graph/overlay"], check=False, capture_output=True)
        subprocess.run(["umount", memory], check=True)


@pytest.mark.soak
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_build_that_is_interrupted_leaves_nothing(podman, application, tmp_path, signum):
    before = set(podman.podman("ps", "--all", "--external", "--quiet").split())
    with (application / "Containerfile").open("a") as file:
        file.write(f"RUN sleep 300; echo {podman.prefix}\n")
    out = (tmp_path / "out").open("w+")
    building = subprocess.Popen(
        [KIRSCH, "image", "build", application, "-t", podman.prefix],
        stdout=out, stderr=subprocess.STDOUT, env=podman.environment,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
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
