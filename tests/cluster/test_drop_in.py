"""What the cluster adds to a unit on a machine with systemd: the drop-in, and the files beside it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.runtime.base import Prepared
from kirsch.cluster.runtime.systemd.files import compose, drop_in_text, hosts_text
from kirsch.unit import UnitFile, UnitName

HOSTS = {"postgres": "10.210.128.1", "webdb": "10.210.128.1"}
MACHINE = b"127.0.0.1 localhost\n"


def prepared(name: str, text: str, **added) -> Prepared:
    return Prepared(UnitName.parse(name), UnitFile.parse(text, name), **added)


def test_a_containers_hosts_are_podmans_affair():
    text = drop_in_text(prepared("a.container", "[Container]\nImage=x\n", hosts=HOSTS))
    assert text.splitlines()[-3:] == [
        "[Container]",
        "PodmanArgs=--add-host=postgres:10.210.128.1",
        "PodmanArgs=--add-host=webdb:10.210.128.1",
    ]


def test_a_container_asks_for_names_where_it_is_told_to_and_says_nothing_else():
    added = {"dns": "10.210.0.1"}
    text = drop_in_text(prepared("a.container", "[Container]\nImage=x\n", **added))
    assert text.splitlines()[-2:] == ["[Container]", "PodmanArgs=--dns=10.210.0.1"]
    own = drop_in_text(prepared("a.container", "[Container]\nImage=x\nDNS=10.0.0.1\n", **added))
    assert "--dns" not in own


@pytest.mark.parametrize(
    "line", ["Pod=a.pod", "Network=container:b", "Network=b.container", "Network=ns:/run/netns/x"]
)
def test_a_container_in_anothers_network_has_that_ones_hosts(line: str):
    text = drop_in_text(prepared("a.container", f"[Container]\nImage=x\n{line}\n", hosts=HOSTS))
    assert "add-host" not in text


def test_a_service_sees_the_machines_hosts_and_its_own():
    unit = prepared("a@1.service", "[Service]\nExecStart=/bin/x\n", hosts=HOSTS)
    assert drop_in_text(unit).splitlines()[1:] == [
        "[Service]",
        "BindReadOnlyPaths=/run/kirsch/units/a@1.service.hosts:/etc/hosts",
    ]
    (hosts,) = (file for file in compose(unit, machine_hosts=MACHINE) if file.path.endswith(".hosts"))
    assert hosts.content == b"10.210.128.1 postgres webdb\n127.0.0.1 localhost\n"
    # Whoever the service runs as is to read it.
    assert hosts.mode == 0o644


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.service", "[Service]\nExecStart=/bin/x\nPrivateMounts=No\n"), ("a.socket", "[Socket]\n")],
)
def test_where_no_mount_namespace_is_to_be_there_is_no_hosts_file(name: str, text: str):
    unit = prepared(name, text, hosts=HOSTS)
    assert "etc/hosts" not in drop_in_text(unit)
    assert not [file for file in compose(unit) if file.path.endswith(".hosts")]


def test_a_unit_without_links_has_none():
    assert "hosts" not in drop_in_text(prepared("a.service", "[Service]\nExecStart=/bin/x\n"))


names = st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True)


@given(st.dictionaries(names, st.ip_addresses(v=4).map(str)))
def test_a_hosts_file_says_all_of_it(hosts: dict[str, str]):
    read = {name: line.split()[0] for line in hosts_text(hosts).splitlines() for name in line.split()[1:]}
    assert read == hosts
