"""Containers under the process runtime, run by podman: their options, and some that run."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.containers import KIRSCH, Folder, application_folder, needs_podman, page, page_or_none
from tests.deadline import eventually
from tests.port import free_port

from kirsch.cluster.application.embedded import ended, owner, running
from kirsch.cluster.runtime.base import Prepared
from kirsch.cluster.runtime.host import Host
from kirsch.cluster.runtime.process.podman import Containers, check
from kirsch.unit import UnitError, UnitFile, UnitName


def checked(text: str, tmp_path: Path, path: str = "") -> list[str]:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "podman").write_text("#!/bin/sh\n")
    (folder / "podman").chmod(0o755)
    host = Host.create(tmp_path, tmp_path, [])
    name = UnitName.parse("web.container")
    known = Host(host.folders, host.directory, path or str(folder), host.environment, host.specifiers)
    return check(known, name, UnitFile.parse(text, name.text))


def test_without_podman_it_is_said_what_is_missing(tmp_path: Path):
    with pytest.raises(UnitError, match=r"^web.container: it needs podman, which is not on PATH"):
        checked("[Container]\nImage=x\n", tmp_path, path="/nonexistent")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[Container]\nImage=x\nPod=a.pod\n", "web.container:3:5: Pod= cannot be given to a container here"),
        ("[Container]\nImage=x\nReadOnly=perhaps\n", "web.container:3:10: ReadOnly=: "),
        ("[Container]\nExec=sleep\n", "web.container: it has no Image="),
        ("[Container]\nImage=x\n[Service]\nExecStart=/x\n", "web.container:4:11: a container has no"),
        ("[Container]\nImage=x\nEnvironment=1=2\n", "web.container:3:13: Environment=: "),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_at_its_place(text: str, words: str, tmp_path: Path):
    with pytest.raises(UnitError) as caught:
        checked(text, tmp_path)
    assert str(caught.value).startswith(words)


def test_what_is_not_honoured_is_told(tmp_path: Path):
    text = "[Container]\nImage=x\nNetwork=a.network\nSeccompProfile=/x\nVolumes=/a:/b\n"
    assert checked(text, tmp_path) == [
        "web.container:4:16: SeccompProfile= is not honoured by the process runtime",
        "web.container:5:1: Volumes= is no directive of [Container]; did you mean Volume=?",
        "web.container:3:9: Network=a.network is not honoured: all units of an application share a network",
    ]


def started(text: str, tmp_path: Path, name: str = "web.container", **prepared: Any) -> tuple[str, ...]:
    """The command line that starts a container whose unit has 127.0.0.9; podman is not asked."""
    host = Host.create(tmp_path, tmp_path, [])
    file = UnitFile.parse(text, name)
    given = Prepared(UnitName.parse(name), file, {"KIRSCH_ADDRESS": "127.0.0.9"}, **prepared)
    (line,) = Containers(host, tmp_path).service(given).start
    return line.argv({"ENV": "ours"})


def published(text: str, tmp_path: Path) -> list[str]:
    words = started(f"[Container]\nImage=x\n{text}", tmp_path)
    return [word.removeprefix("--publish=") for word in words if word.startswith("--publish=")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PublishPort=8080:80\n", ["127.0.0.1:8080:80/tcp"]),
        ("PublishPort=[::1]:8080:80\n", ["[::1]:8080:80/tcp"]),
        ("PublishPort=[::]::80/udp\n", ["[::]::80/udp"]),
        # Every address has the unit's own too.
        ("PublishPort=0.0.0.0:9000:9000\n[X-Kirsch]\nExpose=9000\n", ["0.0.0.0:9000:9000/tcp"]),
        (
            "PublishPort=0.0.0.0:9001:9000\n[X-Kirsch]\nExpose=9000\n",
            ["0.0.0.0:9001:9000/tcp", "127.0.0.9:9000:9000/tcp"],
        ),
    ],
)
def test_a_port_is_published_once(text: str, expected: list[str], tmp_path: Path):
    assert published(text, tmp_path) == expected


def test_a_port_that_another_takes_everywhere_is_refused(tmp_path: Path):
    with pytest.raises(UnitError, match="takes port 9000 of every address for its port 80, so"):
        published("PublishPort=0.0.0.0:9000:80\n[X-Kirsch]\nExpose=9000\n", tmp_path)


def test_a_command_is_read_as_quadlet_gives_it_to_systemd(tmp_path: Path):
    text = "[Container]\nImage=x\nEnvironment=A=${ENV}\nExec=sh -c 'echo $$A ${ENV} $ENV' $ENV\n"
    words = started(text, tmp_path)
    assert words[-5:] == ("x", "sh", "-c", "echo $A ours $ENV", "ours")
    assert "--env=A=${ENV}" in words


def test_a_file_of_variables_may_be_missing_where_it_is_said(tmp_path: Path):
    (tmp_path / "there").touch()
    text = "[Container]\nImage=x\nEnvironmentFile=-there\nEnvironmentFile=-gone\nEnvironmentFile=must\n"
    words = started(text, tmp_path)
    assert [word for word in words if word.startswith("--env-file")] == [
        f"--env-file={tmp_path / 'there'}",
        f"--env-file={tmp_path / 'must'}",
    ]


def test_endpoints_are_for_containers_of_the_hosts_network(tmp_path: Path):
    text = "[Container]\nImage=x\nNetwork={}\n[X-Kirsch]\nEndpoints=yes\n"
    words = started(text.format("host"), tmp_path, endpoints="/app/.kirsch/socket")
    assert "--volume=/app/.kirsch/socket:/run/kirsch/endpoints" in words
    assert "--env=KIRSCH_ENDPOINTS=/run/kirsch/endpoints" in words
    (warning,) = checked(text.replace("Network={}\n", ""), tmp_path)
    assert "web.container:4:11: no container reaches the addresses that Endpoints= tells" in warning


def test_an_old_podman_is_told(tmp_path: Path):
    (tmp_path / "podman").write_text("#!/bin/sh\necho 3.4.4\n")
    (tmp_path / "podman").chmod(0o755)
    made = Host.create(tmp_path, tmp_path, [])
    host = Host(made.folders, made.directory, str(tmp_path), made.environment, made.specifiers)
    prepared = Prepared(UnitName.parse("web.container"), UnitFile.parse("[Container]\nImage=x\n"))
    with pytest.raises(UnitError, match=r"containers need podman 4\.3 or newer; this is 3\.4\.4"):
        Containers(host, tmp_path).register(prepared)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    with application_folder(tmp_path) as made:
        yield made


@needs_podman
@pytest.mark.slow
@pytest.mark.xdist_group("images")
def test_containers_find_each_other_and_leave_nothing(folder: Folder):
    port = free_port()
    (folder.path / "www").mkdir()
    (folder.path / "www" / "index.html").write_text("the page\n")
    (folder.path / "kirsch.toml").write_text('start = ["api@1", "api@2", "web"]\n')
    served = "Exec=python3 -m http.server 9000\nWorkingDir=/srv\nStopSignal=SIGKILL\nVolume=./www:/srv:ro\n"
    folder.unit("api@.container", served, "[X-Kirsch]\nExpose=9000\n")
    folder.unit(
        "web.container",
        "Exec=sh -c 'env >/tmp/env; cd /tmp; exec python3 -m http.server 9000'\nStopSignal=SIGKILL\n"
        f'PublishPort={port}:9000\nEnvironment="GREETING=two words"\nTmpfs=/tmp\n'
        "HealthCmd=test -e /tmp/env\n",
        "[X-Kirsch]\nExpose=9000\nLink=api\nSecret=token:TOKEN\nSecret=key\n",
    )
    up = subprocess.Popen(
        [KIRSCH, "up", "."], cwd=folder.path, env=folder.environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        eventually(lambda: running(folder.path / ".kirsch"), what="kirschd")
        folder.kirsch("secret", "set", "token", input="said by nobody")
        folder.kirsch("secret", "set", "key", input="a key")
        assert up.stdout is not None
        lines = []
        for line in up.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        assert "app is up" in "".join(lines)
        # Links lead from container to container, by name and by variable; a process reaches the port.
        env = page(f"http://127.0.0.1:{port}/env")
        # The other instance may be ready only after this one has started.
        assert re.search(r"^API_PORT_9000_TCP_ADDR=10\.", env, re.MULTILINE)
        assert "GREETING=two words\n" in env
        assert "TOKEN=said by nobody\n" in env
        (web,) = [box for box in folder.boxes() if box.endswith("-web")]
        script = "import urllib.request as r; print(r.urlopen('http://api:9000').read().decode())"
        assert "the page" in folder.podman("exec", web, "python3", "-c", script)
        assert folder.podman("exec", web, "cat", "/run/secrets/key") == "a key"
        assert not running_in("said by nobody")  # no command line has it
        assert "GET /env" in folder.kirsch("logs", "web")
        # A container that ends fails its unit, and is started again by a person.
        folder.podman("kill", web)
        eventually(lambda: "failed" in folder.kirsch("list-units"), what="the failure")
        folder.kirsch("start", "web")
        eventually(lambda: web in folder.boxes(), what="the container")
        # kirschd is killed: its containers end with it, and the same command brings them up again.
        pid = owner(folder.path / ".kirsch")
        assert pid
        os.kill(pid, signal.SIGKILL)
        up.wait(60)
        eventually(lambda: not running_in(folder.image), what="the containers' end")
    finally:
        up.kill()
        up.wait()
        up.stdout.close()  # type: ignore[union-attr]
    folder.kirsch("up", "-d", ".")
    assert len(folder.boxes()) == 3
    assert "GREETING" in page(f"http://127.0.0.1:{port}/env")
    folder.kirsch("down", ".")
    assert not folder.boxes()
    name = web.rpartition("-")[0]
    assert name not in folder.podman("network", "ls", "--format", "{{.Name}}")
    assert name not in folder.podman("secret", "ls", "--format", "{{.Name}}")
    assert not list(Path("/run").glob(f"{name}-*"))


def running_in(text: str) -> list[str]:
    """Processes whose command lines have a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


@needs_podman
@pytest.mark.slow
@pytest.mark.xdist_group("images")
def test_a_container_cannot_be_linked_to_a_process(folder: Folder):
    folder.unit("web.container", "Exec=sleep 1000\n", "[X-Kirsch]\nLink=api\n")
    (folder.path / "api.service").write_text("[Service]\nExecStart=sleep 1000\n[X-Kirsch]\nExpose=9000\n")
    (folder.path / "kirsch.toml").write_text('start = ["api", "web"]\n')
    done = subprocess.run(
        [KIRSCH, "up", "-d", "."],
        capture_output=True, text=True, cwd=folder.path, env=folder.environment, timeout=100,
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        "it links to api, which is a process here, and no container reaches that" in done.stdout + done.stderr
    )


@needs_podman
@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_users_containers_are_rootless(tmp_path: Path, user: "User"):
    """A user's own podman builds and runs them: nothing of it is root's."""
    folder = user.folder()
    folder.import_base(user.home)
    port = free_port()
    (folder.path / "page").mkdir()
    (folder.path / "page/Containerfile").write_text(f"FROM {folder.image}\nCOPY index.html /srv/\n")
    (folder.path / "kirsch.toml").write_text('start = ["api", "web"]\n[images.page]\nbuild = "page"\n')
    served = "Exec=python3 -m http.server 9000\nStopSignal=SIGKILL\n"
    folder.unit("api.container", f"{served}WorkingDir=/etc\n", "[X-Kirsch]\nExpose=9000\nSecret=key\n")
    (folder.path / "web.container").write_text(
        f"[Container]\nImage=localhost/page\nVolume=/usr:/usr:ro\n{served}WorkingDir=/srv\n"
        f"PublishPort={port}:9000\n[X-Kirsch]\nLink=api\n"
    )
    for text in ("the page", "another page"):
        (folder.path / "page/index.html").write_text(text)
        folder.kirsch("up", "-d", ".")
        # It has no Health=, so it is ready once it runs.
        eventually(lambda text=text: page_or_none(f"http://127.0.0.1:{port}") == text, what=text)
    told = folder.podman("ps", "--format", "{{.Image}} {{.Names}}")
    names = dict(line.split() for line in told.splitlines())
    (web,) = [name for image, name in names.items() if image.startswith("localhost/page:k-")]
    script = "import urllib.request as r; print(r.urlopen('http://api:9000').status)"
    assert folder.podman("exec", web, "python3", "-c", script) == "200\n"
    assert folder.podman("exec", names[folder.image], "cat", "/run/secrets/key")
    folder.kirsch("down", ".")
    assert not folder.podman("ps", "--all", "--quiet")
    assert folder.podman("network", "ls", "--format", "{{.Name}}") == "podman\n"
    assert not folder.podman("secret", "ls", "--quiet")


class User:
    """A user of this computer, made for a test."""

    def __init__(self, name: str) -> None:
        subprocess.run(["useradd", "--create-home", name], check=True, capture_output=True)
        self.account = pwd.getpwnam(name)
        self.home = Path(self.account.pw_dir)
        self.runtime = Path(f"/run/user/{self.account.pw_uid}")
        self.runtime.mkdir(mode=0o700, parents=True)
        os.chown(self.runtime, self.account.pw_uid, self.account.pw_gid)
        self.before = ("runuser", "-u", name, "--")
        self.environment = {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            # Its Python may be another of the same version.
            "PYTHONPATH": os.pathsep.join(sys.path),
            "LANG": "C.UTF-8",
        }

    def python(self) -> str | None:
        """A Python of our version that this user can run, with kirsch."""
        for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
            tried = [*self.before, python, "-P", "-c", "import kirsch.cluster.daemon"]
            if subprocess.run(tried, env=self.environment, cwd="/", capture_output=True).returncode == 0:
                return python
        return None

    def folder(self) -> Folder:
        python = self.python()
        if python is None:
            pytest.skip("needs a Python, and a tree, that every user may read")
        os.chmod(self.home, 0o755)
        path = self.home / "app"
        path.mkdir()
        os.chown(path, self.account.pw_uid, self.account.pw_gid)
        kirsch = (python, "-P", "-m", "kirsch.cli.main")
        return Folder(path, self.environment, "localhost/base:1", kirsch, self.before)

    def remove(self) -> None:
        if pid := owner(self.home / "app/.kirsch"):
            os.kill(pid, signal.SIGTERM)
            ended(pid, 60)
        # podman's pause process ends by it.
        for words in (["system", "reset", "--force"], ["system", "migrate"]):
            command = [*self.before, "podman", *words]
            subprocess.run(command, env=self.environment, cwd="/", timeout=60, capture_output=True)
        subprocess.run(["userdel", "--remove", self.account.pw_name], check=True, capture_output=True)
        shutil.rmtree(self.runtime)


@pytest.fixture
def user() -> Iterator[User]:
    if not all(map(shutil.which, ("newuidmap", "slirp4netns", "useradd"))):
        pytest.skip("needs uidmap, slirp4netns and useradd")
    devices = [Path("/dev/net/tun"), Path("/dev/fuse")]
    modes = {device: device.stat().st_mode & 0o777 for device in devices if device.exists()}
    made = User(f"kirsch-{uuid.uuid4().hex[:6]}")
    try:
        for device in modes:
            # As udev has them.
            device.chmod(0o666)
        yield made
    finally:
        for device, mode in modes.items():
            device.chmod(mode)
        made.remove()
