"""Applications of containers whose programs are this computer's: their base image has only links to /usr."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from kirsch.cluster.application.embedded import running
from kirsch.cluster.provision.podman import limits

KIRSCH = str(Path(sys.executable).with_name("kirsch"))
needs_podman = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("podman") or not shutil.which("runc"),
    reason="containers are run by root here, with podman and runc",
)


class Folder:
    """An application's folder. `command` is kirsch, `before` goes in front of each command."""

    def __init__(
        self,
        path: Path,
        environment: Mapping[str, str],
        image: str,
        command: Sequence[str] = (KIRSCH,),
        before: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.environment = environment
        self.image = image
        self.command = (*before, *command)
        self.before = before

    def unit(self, name: str, container: str, more: str = "") -> None:
        (self.path / name).write_text(
            f"[Container]\nImage={self.image}\nVolume=/usr:/usr:ro\n{container}{more}"
        )

    def kirsch(self, *arguments: str, input: str = "") -> str:
        done = subprocess.run(
            [*self.command, *arguments],
            capture_output=True, text=True, cwd=self.path, env=self.environment, input=input, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def podman(self, *arguments: str) -> str:
        command = [*self.before, "podman", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.path, env=self.environment, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def boxes(self) -> list[str]:
        names = self.podman("ps", "--format", "{{.Names}}", "--filter", f"ancestor={self.image}")
        return sorted(names.split())

    def import_base(self, folder: Path) -> None:
        root = folder / "root.tar"
        with tarfile.open(root, "w") as tar:
            for each in ("bin", "sbin", "lib", "lib64"):
                link = tarfile.TarInfo(each)
                link.type, link.linkname = tarfile.SYMTYPE, f"usr/{each}"
                tar.addfile(link)
            for each, mode in (("usr", 0o755), ("tmp", 0o1777), ("etc", 0o755), ("run", 0o755)):
                made = tarfile.TarInfo(each)
                made.type, made.mode = tarfile.DIRTYPE, mode
                tar.addfile(made, io.BytesIO())
        self.podman("import", "--quiet", str(root), self.image)


@contextmanager
def application_folder(folder: Path) -> Iterator[Folder]:
    """Make a folder and its base image; at the end the application is stopped, its images are removed."""
    most = limits()
    conf = folder / "containers.conf"
    conf.write_text(
        f'[engine]\nruntime = "runc"\n[containers]\ndefault_ulimits = ["nofile={most.files}:{most.files}", '
        f'"nproc={most.processes}:{most.processes}"]\n'
    )
    environment = {**os.environ, "CONTAINERS_CONF": str(conf), "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    (path := folder / "app").mkdir()
    made = Folder(path, environment, f"localhost/kirsch-test:{uuid.uuid4().hex[:8]}")
    made.import_base(folder)
    yield made
    if running(path / ".kirsch"):
        made.kirsch("down", ".")
    made.podman("image", "rm", "--force", made.image)


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def page_or_none(url: str) -> str | None:
    """Return the page; None while nobody answers."""
    try:
        return page(url)
    except OSError:
        return None
