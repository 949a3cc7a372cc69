"""A one-off container like a unit's, from the command that Quadlet runs."""

import pytest

from kirsch.cluster.runtime.systemd_box import box
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
    assert box(COMMAND, UnitName.parse("x@1.container")) == (
        *("--tmpfs", "/tmp", "--network", "kirsch", "--user", "1000", "-v", "/srv/1:/data:ro", "--read-only"),
        *("--env", "A=b", "--env", "C=d e", "--env", "N=1", "--secret", "foo", "--env=KIRSCH_UNIT"),
        *("--add-host=postgres:10.0.0.1", "registry/foo:1"),
    )


def test_specifiers_are_the_systems():
    found = box("podman run -v %S/x:/x --env P=100%% a $$x", UnitName.parse("x.container"))
    assert found == ("-v", "/var/lib/x:/x", "--env", "P=100%", "a")


@pytest.mark.parametrize("command", ["", "podman start x", "podman run --name", "podman run -d"])
def test_what_runs_no_container_is_refused(command: str):
    with pytest.raises(UnitError):
        box(command, UnitName.parse("x.container"))
