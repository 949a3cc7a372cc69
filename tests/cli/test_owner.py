"""Root's `kirsch up` in somebody else's folder: what it runs is theirs, as if they had typed it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from tests.cli.application import Application

pytestmark = [
    pytest.mark.services,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start what is another user's"),
]
NOBODY = 65534
ROOT = Path(__file__).parents[2]
# A Python of root's, as pyenv's below /root, is nobody's to run; the system's then reads the same packages.
PACKAGES = [ROOT / "src", *(ROOT / "packages").glob("*/src"), Path(click.__file__).parents[1]]
ENVIRONMENT = {**os.environ, "PYTHONPATH": ":".join(map(str, PACKAGES))}
Kirsch = Callable[..., str]


def runs_for_all(python: str) -> bool:
    command = [python, "-c", "import kirsch.cluster.daemon"]
    try:
        done = subprocess.run(
            command, env=ENVIRONMENT, user=NOBODY, group=NOBODY, extra_groups=[], timeout=60
        )
    except OSError:
        return False
    return done.returncode == 0


@pytest.fixture(scope="module")
def python() -> str:
    for found in (sys.executable, shutil.which("python3", path="/usr/bin")):
        if found and runs_for_all(found):
            return found
    pytest.skip("nobody but root may run a Python with kirsch here")


@pytest.fixture
def theirs() -> Iterator[Path]:
    """Nobody's folder."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        os.chown(folder, NOBODY, NOBODY)
        yield Path(folder)


@pytest.fixture
def kirsch(theirs: Path, python: str) -> Iterator[Kirsch]:
    """Runs a command line in the folder; what it prints."""

    def run(*words: str) -> str:
        command = [python, "-m", "kirsch.cli.main", *words]
        done = subprocess.run(
            command, cwd=theirs, env=ENVIRONMENT, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    yield run
    run("down", ".")


def user_of(pid: int) -> int:
    return os.stat(f"/proc/{pid}").st_uid


def unit(kirsch: Kirsch) -> dict:
    (line,) = json.loads(kirsch("list-units", "--json"))
    return line


@pytest.mark.slow
def test_it_runs_as_the_owner_of_the_folder(theirs: Path, kirsch: Kirsch):
    (theirs / "a.service").write_text("[Service]\nExecStart=sleep 1000\nStateDirectory=a\n")
    state = theirs / ".kirsch"
    state.mkdir()
    (state / "machine-id").write_text(f"{'1' * 32}\n")  # what root has left
    assert "It runs as nobody, the owner of its folder." in kirsch("up", "-d")
    assert user_of(unit(kirsch)["pid"]) == NOBODY
    assert {path.stat().st_uid for path in (state, *state.rglob("*")) if not path.is_symlink()} == {NOBODY}
    for verb in ("exec", "run"):
        assert kirsch(verb, "a", "id", "-u").split() == [str(NOBODY)]
    assert kirsch("exec", "a", "sh", "-c", "echo $USER") == "nobody\n"
    assert json.loads(kirsch("down", "--volumes", "--json")) == {
        "stopped": True,
        "removed": [".kirsch/state"],
    }


@pytest.mark.slow
def test_root_is_warned_in_a_folder_of_its_own(application: Application):
    path = application.sleeper("a.service")
    said = "warning: units without User= run as root: `chown -R USER DIR` changes that\n"
    assert application.run("up", "-d").stderr == said
    assert user_of(application.units()["a.service"]["pid"]) == 0
    application.ok("down")
    path.write_text("[Service]\nExecStart=sleep 1000\nUser=root\n")
    assert application.run("up", "-d").stderr == ""


@pytest.mark.slow
def test_units_that_name_a_user_are_started_by_root(theirs: Path, kirsch: Kirsch):
    (theirs / "a.service").write_text("[Service]\nExecStart=sleep 1000\nUser=daemon\n")
    assert "It runs as" not in kirsch("up", "-d")
    assert (theirs / ".kirsch").stat().st_uid == 0
    assert user_of(unit(kirsch)["pid"]) == 1


@pytest.mark.slow
def test_in_root_s_own_folder_it_runs_as_nobody(theirs: Path, kirsch: Kirsch):
    os.chown(theirs, 0, 0)
    program = "touch $STATE_DIRECTORY/kept; ! touch here; echo at $HOME; exec sleep 1000"
    (theirs / "a.service").write_text(f"[Service]\nExecStart=/bin/sh -c '{program}'\nStateDirectory=a\n")
    assert "It runs as nobody, for the folder is root's" in kirsch("up", "-d")
    assert user_of(unit(kirsch)["pid"]) == NOBODY
    assert (theirs / ".kirsch/state/a/kept").stat().st_uid == NOBODY
    assert not (theirs / "here").exists()
    assert f"at {theirs}/.kirsch\n" in kirsch("journal", "-n", "100", "a")
    assert theirs.stat().st_uid == 0


@pytest.mark.slow
def test_a_port_that_only_root_may_bind_is_root_s(theirs: Path, kirsch: Kirsch):
    os.chown(theirs, 0, 0)
    (theirs / "a.service").write_text("[Service]\nExecStart=sleep 1000\n[X-Kirsch]\nExpose=80\n")
    assert "It runs as" not in kirsch("up", "-d")
    assert user_of(unit(kirsch)["pid"]) == 0


@pytest.mark.slow
def test_sudo_in_root_s_folder_is_the_person_s(theirs: Path, kirsch: Kirsch, monkeypatch: pytest.MonkeyPatch):
    os.chown(theirs, 0, 0)
    monkeypatch.setitem(ENVIRONMENT, "SUDO_UID", "1")
    (theirs / "a.service").write_text("[Service]\nExecStart=sleep 1000\n")
    assert "It runs as daemon, for the folder is root's" in kirsch("up", "-d")
    assert user_of(unit(kirsch)["pid"]) == 1


@pytest.mark.slow
def test_root_of_a_user_s_namespace_is_that_user_and_is_not_warned(theirs: Path, python: str):
    """As in a rootless container."""
    (theirs / "a.service").write_text("[Service]\nExecStart=sleep 1000\n")
    (theirs / ".kirsch").mkdir()
    os.chown(theirs / ".kirsch", NOBODY, NOBODY)
    inside = ["unshare", "--user", "--map-root-user"]
    nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": theirs, "env": ENVIRONMENT}
    if subprocess.run([*inside, "true"], capture_output=True, **nobody).returncode:
        pytest.skip("the kernel gives a user no namespace here")
    kirsch = [*inside, python, "-m", "kirsch.cli.main"]
    try:
        up = subprocess.run([*kirsch, "up", "-d"], capture_output=True, text=True, timeout=120, **nobody)
        assert (up.returncode, up.stderr) == (0, "")
        assert "It runs as" not in up.stdout
    finally:
        subprocess.run([*kirsch, "down"], timeout=120, check=True, **nobody)
