"""Containers under the process runtime, run by podman: their options, and some that run."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.deadline import eventually
from tests.port import free_port

from kirsch.cluster.application.embedded import owner, running
from kirsch.cluster.provision.podman import limits
from kirsch.cluster.runtime.host import Host
from kirsch.cluster.runtime.process.podman import check
from kirsch.unit import UnitError, UnitFile, UnitName

KIRSCH = str(Path(sys.executable).with_name("kirsch"))
needs_podman = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("podman") or not shutil.which("runc"),
    reason="containers are run by root here, with podman and runc",
)


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


class Folder:
    """An application of containers whose programs are this computer's: their image has only links to /usr."""

    def __init__(self, path: Path, environment: dict[str, str], image: str) -> None:
        self.path = path
        self.environment = environment
        self.image = image

    def unit(self, name: str, container: str, more: str = "") -> None:
        (self.path / name).write_text(
            f"[Container]\nImage={self.image}\nVolume=/usr:/usr:ro\n{container}{more}"
        )

    def kirsch(self, *arguments: str, input: str = "") -> str:
        done = subprocess.run(
            [KIRSCH, *arguments],
            capture_output=True, text=True, cwd=self.path, env=self.environment, input=input, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def podman(self, *arguments: str) -> str:
        command = ["podman", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=self.environment, timeout=60, check=True
        ).stdout

    def boxes(self) -> list[str]:
        names = self.podman("ps", "--format", "{{.Names}}", "--filter", f"ancestor={self.image}")
        return sorted(names.split())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    most = limits()
    conf = tmp_path / "containers.conf"
    conf.write_text(
        f'[engine]\nruntime = "runc"\n[containers]\ndefault_ulimits = ["nofile={most.files}:{most.files}", '
        f'"nproc={most.processes}:{most.processes}"]\n'
    )
    environment = {**os.environ, "CONTAINERS_CONF": str(conf), "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    root = tmp_path / "root.tar"
    with tarfile.open(root, "w") as tar:
        for each in ("bin", "sbin", "lib", "lib64"):
            link = tarfile.TarInfo(each)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{each}"
            tar.addfile(link)
        for each in ("usr", "tmp", "etc"):
            made = tarfile.TarInfo(each)
            made.type, made.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(made, io.BytesIO())
    (path := tmp_path / "app").mkdir()
    made = Folder(path, environment, f"localhost/kirsch-test:{uuid.uuid4().hex[:8]}")
    made.podman("import", "--quiet", str(root), made.image)
    yield made
    if running(path / ".kirsch"):
        made.kirsch("down", ".")
    made.podman("image", "rm", "--force", made.image)


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


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
