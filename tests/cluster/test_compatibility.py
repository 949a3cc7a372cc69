"""The API and the registry next to those of the release before: machines and verbs of both in one cluster.

The release before is git's last tag before this commit; until there is one, the commit BEFORE.
"""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.etcd_server import Authority, EtcdServer, needs_etcd
from tests.cluster.members import MemberMachine, Members
from tests.deadline import eventually

pytestmark = [needs_etcd, pytest.mark.services, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
# Until there is a tag: the first that reads entries with fields it does not know.
BEFORE = "9d725f1e6d8fce46b8208fb2e4c11d71ee4b8663"
TEXT = "[Service]\nExecStart=sleep 1000\n[X-Kirsch]\nSpread=zone\nSecret=word:WORD\n"


def git(*arguments: str) -> bytes | None:
    """Return git's answer about this tree; None where it has no answer, or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> str:
    """PYTHONPATH of the release before."""
    # A release's own commit, which has a tag of its own, is next to the one before too.
    tag = git("describe", "--tags", "--abbrev=0", "HEAD^")
    reference = tag.decode().strip() if tag else BEFORE
    source = git("archive", reference, "src", "packages/kirsch-websocket/src")
    if source is None:
        pytest.skip("git has no release before this one")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(source)) as archive:
        archive.extractall(folder, filter="data")
    return f"{folder / 'src'}{os.pathsep}{folder / 'packages/kirsch-websocket/src'}"


@pytest.fixture
def mixed(tmp_path: Path, before: str) -> Iterator[Members]:
    """Two machines: the first has the release before."""
    authority = Authority(tmp_path / "tls")
    made = Members(tmp_path, EtcdServer(tmp_path / "etcd", 1, authority), authority, 2)
    old, new = made.machines
    try:
        old.spawn(PYTHONPATH=before)
        new.spawn()
        for machine in made.machines:
            machine.await_told(b"READY=1")
        yield made
    finally:
        for machine in made.machines:
            machine.close()
        made.etcd.stop()


def test_machines_and_verbs_of_two_releases_work_together(mixed: Members, before: str):
    old, new = mixed.machines
    verbs_of: list[tuple[dict[str, str], MemberMachine]] = [({}, old), ({"PYTHONPATH": before}, new)]
    word = mixed.folder / "word"
    word.write_text("hush")

    def all_run() -> bool:
        lines = mixed.lines()
        return all(lines[name]["active"] == "active" and lines[name]["ready"] for name in units)

    units: set[str] = set()
    for number, (environment, machine) in enumerate(verbs_of):
        to = ("--endpoint", machine.endpoint)
        with word.open() as value:
            mixed.ok(*to, "secret", "set", "word", stdin=value, **environment)
        names = [f"a{number}@{instance}.service" for instance in (1, 2)]
        mixed.ok(*to, "submit", mixed.unit(f"a{number}@.service", TEXT), **environment)
        mixed.ok(*to, "start", *names, **environment)
        units |= set(names)
        assert "active" in mixed.ok(*to, "list-units", **environment)
        assert "Active: active" in mixed.ok(*to, "status", names[0], **environment)
        assert mixed.ok(*to, "list-machines", "--no-legend", **environment).count("\n") == 2
        # A text that changes is a release, which whoever leads carries out.
        mixed.ok(*to, "start", mixed.unit(names[0], f"{TEXT}# {number}\n"), **environment)
        mixed.ok(*to, "restart", names[1], **environment)
        mixed.ok(*to, "stop", names[1], **environment)
        mixed.ok(*to, "start", names[1], **environment)
    eventually(all_run)
    lines = mixed.lines()
    assert {lines[name]["machine"] for name in units} == {old.id, new.id}

    # Each leads in its turn.
    new.stop()
    eventually(all_run)
    new.start()
    old.stop()
    eventually(all_run)
    old.start()  # with the new release: an upgrade
    mixed.ok("destroy", *sorted(mixed.lines()))
    eventually(lambda: not mixed.lines())
