"""A one-off container like a unit's, from the command that Quadlet runs; and what is left of one."""

import os
import subprocess
from pathlib import Path

import pytest

from kirsch.cluster.runtime.systemd.podman import container_arguments, sweep_containers
from kirsch.unit import UnitError, UnitName

# As podman 5.4's generator writes it.
COMMAND = (
    "/usr/bin/podman --log-level=debug run --name systemd-%p_%i --cidfile=%t/%N.cid --replace --rm "
    "--cgroups=split --ip 10.210.128.1 --tmpfs /tmp --network kirsch --sdnotify=conmon -d --user 1000 "
    '-v /srv/%i:/data:ro --publish 80:80 --read-only --env A=b --env "C=d e" --env N=%i --secret foo '
    '--health-cmd "true --bla" --log-driver=journald --env=KIRSCH_UNIT --add-host=postgres:10.0.0.1 '
    'registry/foo:1 sleep "in finity" $$HOME'
)


def test_it_has_what_the_units_container_has_but_what_is_its_own():
    assert container_arguments(COMMAND, UnitName.parse("x@1.container")) == (
        *("--tmpfs", "/tmp", "--network", "kirsch", "--user", "1000", "-v", "/srv/1:/data:ro", "--read-only"),
        *("--env", "A=b", "--env", "C=d e", "--env", "N=1", "--secret", "foo", "--env=KIRSCH_UNIT"),
        *("--add-host=postgres:10.0.0.1", "registry/foo:1"),
    )


def test_specifiers_are_the_systems():
    found = container_arguments("podman run -v %S/x:/x --env P=100%% a $$x", UnitName.parse("x.container"))
    assert found == ("-v", "/var/lib/x:/x", "--env", "P=100%", "a")


@pytest.mark.parametrize("command", ["", "podman start x", "podman run --name", "podman run -d"])
def test_what_runs_no_container_is_refused(command: str):
    with pytest.raises(UnitError):
        container_arguments(command, UnitName.parse("x.container"))


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The folder of a one-off container, with a secret, on a machine whose podman writes down what it is
    asked."""
    folder = tmp_path / "run/kirsch-run-0123456789ab"
    folder.mkdir(parents=True)
    (folder / "PGPASSWORD").write_text("a stone's secret")
    os.utime(folder, (0, 0))
    return folder


def test_what_is_left_of_a_kirsch_that_was_killed_is_removed(left: Path, tmp_path: Path):
    asked = tmp_path / "asked"
    sweep_containers(tmp_path, ["sh", "-c", f'echo "$@" >> {asked}', "sh"])
    name = left.name
    assert not left.exists()
    assert asked.read_text().splitlines() == [
        f"podman rm --force --ignore --time=0 {name}",
        f"podman secret rm --ignore {name}-PGPASSWORD",
    ]


def test_what_somebody_holds_or_has_just_made_is_let_be(left: Path, tmp_path: Path):
    asked = tmp_path / "asked"
    prefix = ["sh", "-c", f'echo "$@" >> {asked}', "sh"]
    holder = subprocess.Popen(["flock", left, "sh", "-c", "echo holds; exec cat"], stdin=-1, stdout=-1)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"holds\n"
        sweep_containers(tmp_path, prefix)
        assert (left / "PGPASSWORD").exists()
    finally:
        holder.communicate()
    os.utime(left)
    sweep_containers(tmp_path, prefix)
    assert (left / "PGPASSWORD").exists()
    assert not asked.exists()
