"""`kirsch up DIR --on CLUSTER`: what it does, what it lets be, and what it says when it cannot."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.machines.conftest import KIRSCH
from tests.machines.trial import Trial

from kirsch.cluster.api.client import applied
from kirsch.cluster.application.target import Target
from kirsch.cluster.provision.record import ClusterRecord

pytestmark = [pytest.mark.machines, pytest.mark.root, pytest.mark.slow]

LONG = 600
SETTINGS = """\
name = "{name}"
start = ["{name}-db", "{name}@1", "{name}@2"]
[images."{name}"]
build = "."
[images."{name}-db"]
build = "db"
"""
UNIT = """\
[Container]
Image=localhost/{image}
Exec=/bin/sleep 1000
StopTimeout=1
[X-Kirsch]
{options}
[Service]
Restart=always
"""


class Folder:
    """An application of two images, with a name of its own."""

    def __init__(self, path: Path, cluster: str) -> None:
        self.path = path
        self.cluster = cluster
        self.name = f"up{os.getpid()}"
        for image in (path, path / "db"):
            _root(image / "root")
            (image / "Containerfile").write_text("FROM scratch\nCOPY root /\nCOPY version /\n")
            (image / "version").write_text("1")
        (path / ".containerignore").write_text("db\nunits\nkirsch.toml\n")
        (path / "kirsch.toml").write_text(SETTINGS.format(name=self.name))
        (path / "units").mkdir()
        self.unit(f"{self.name}-db.container", "Expose=1", f"{self.name}-db")
        self.unit(f"{self.name}@.container", f"Link={self.name}-db:db\nSpread=hostname", self.name)

    def unit(self, name: str, options: str, image: str) -> None:
        (self.path / "units" / name).write_text(UNIT.format(image=image, options=options))

    def kirsch(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [KIRSCH, *arguments], capture_output=True, text=True, timeout=LONG, cwd=self.path
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def up(self, *options: str) -> str:
        done = self.kirsch("up", ".", "--on", self.cluster, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fails(self, *options: str) -> str:
        done = self.kirsch("up", ".", "--on", self.cluster, *options)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr

    def started(self, trial: Trial) -> dict[str, str]:
        """What tells one start of a unit from another, by its name in systemd, whatever the machine."""
        found = {}
        for units in trial.everywhere(f"{self.name}*").values():
            found |= {name: running.invocation for name, running in units.items()}
        return found


def _root(folder: Path) -> None:
    """A file system with `sleep` in it."""
    (folder / "bin").mkdir(parents=True)
    program = shutil.which("sleep")
    assert program
    shutil.copy(program, folder / "bin/sleep")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for word in listed.split():
        if word.startswith("/"):
            place = folder / word.removeprefix("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(word).resolve(), place)


@pytest.fixture
def folder(tmp_path: Path, cluster: ClusterRecord) -> Iterator[Folder]:
    made = Folder(tmp_path, cluster.name)
    yield made
    target = Target.load(cluster.name)
    names = applied(target.client, made.name)["units"]
    there = {line["name"] for line in target.client.get("/kirsch/v1/units")["units"]}
    for name in [name for name in names if name in there]:
        target.client.delete(f"/kirsch/v1/units/{name}")
    listed = subprocess.run(
        ["podman", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"], capture_output=True, text=True
    )
    mine = [image for image in listed.stdout.split() if made.name in image]
    subprocess.run(["podman", "image", "rm", "--force", *mine], capture_output=True)


def test_an_application_s_life_on_a_cluster(folder: Folder, trial: Trial):
    web, db = folder.name, f"{folder.name}-db"
    planned = folder.up("--dry-run")
    assert planned.count("push ") == 2
    assert f"submit   {web}@1.container" in planned
    assert folder.started(trial) == {}

    said = folder.up()
    # Each by its name and by its content.
    assert said.count("push ") == 4
    assert f"{web}@1.container" in said
    done = folder.kirsch("--cluster", folder.cluster, "run", f"localhost/{web}", "sleep", "0")
    assert done.returncode == 0, done.stderr
    first = folder.started(trial)
    assert first.keys() == {f"{web}@1.service", f"{web}@2.service", f"{db}.service"}

    again = folder.up()
    assert "Nothing has changed." in again
    assert "push " not in again
    assert folder.started(trial) == first

    (folder.path / "version").write_text("2")
    changed = folder.up()
    assert changed.count("push ") == 2
    second = folder.started(trial)
    assert second[f"{db}.service"] == first[f"{db}.service"]
    assert second[f"{web}@1.service"] != first[f"{web}@1.service"]
    assert second[f"{web}@2.service"] != first[f"{web}@2.service"]

    settings = folder.path / "kirsch.toml"
    settings.write_text(settings.read_text().replace(f', "{web}@2"', ""))
    assert f"{web}@2.container: destroyed" in folder.up()
    trial.until(lambda lines: f"{web}@2.container" not in lines)

    down = folder.kirsch("down", ".", "--on", folder.cluster)
    assert down.returncode == 0, down.stderr
    assert down.stdout.splitlines()[:2] == [f"  {web}@1.container stopped", f"  {db}.container stopped"]
    assert folder.started(trial) == {}
    assert "is not up" in folder.kirsch("down", ".", "--on", folder.cluster).stdout
    folder.up()
    assert folder.started(trial).keys() == {f"{web}@1.service", f"{db}.service"}


@pytest.mark.soak
def test_what_cannot_be_is_said_and_changes_nothing(folder: Folder, trial: Trial):
    name = folder.name
    containerfile = folder.path / "Containerfile"
    containerfile.write_text("FROM scratch\nCOPY nothing /\n")
    assert "nothing" in folder.fails()
    assert trial.client.get("/kirsch/v1/units")["units"] == [
        line for line in trial.client.get("/kirsch/v1/units")["units"] if name not in line["name"]
    ]
    containerfile.write_text("FROM scratch\nCOPY root /\n")
    (folder.path / "units/other.container").write_text(UNIT.format(image="never-built", options=""))
    said = folder.fails()
    assert "units/other.container: there is no image localhost/never-built:latest here" in said
    (folder.path / "units/other.container").unlink()

    folder.unit(f"{name}-db.container", f"Expose=1\nLink={name}\nSecret={name}.word:WORD", f"{name}-db")
    for options in ((), ("--dry-run",)):
        done = folder.kirsch("up", ".", "--on", folder.cluster, *options)
        assert "links go in a circle: " in done.stderr
        assert f"units/{name}" in done.stderr
        assert (done.returncode, done.stdout.count("push ")) == (1, 0)
    assert not [unit for unit in trial.lines() if name in unit]
    assert f"{name}.word" not in Target.load(folder.cluster).secrets()

    folder.unit(f"{name}-db.container", "Expose=1\nHealth=tcp://:1", f"{name}-db")
    said = folder.fails("--timeout", "8")
    assert f"not ready after 8 s: {name}-db.container (started, not ready yet)" in said
    assert f"{name}@1.container (waits for {name}-db to be ready)" in said

    folder.unit(f"{name}-db.container", "MachineMetadata=zone=nowhere", f"{name}-db")
    assert f"{name}-db.container cannot be scheduled" in folder.fails()
    assert "there is no cluster no-such-one" in folder.kirsch("up", ".", "--on", "no-such-one").stderr
