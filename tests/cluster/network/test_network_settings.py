"""The subnet on its way from a person's words to a machine's kirschd, and to what a host says against it."""

import asyncio
import json
import re

import pytest

from kirsch.cluster.network.capability import why_not
from kirsch.cluster.network.state import BRIDGE
from kirsch.cluster.network.subnet import Subnet
from kirsch.cluster.node.settings import Settings, SettingsError
from kirsch.cluster.provision import probe
from kirsch.cluster.provision.add import address_of
from kirsch.cluster.provision.create import planned
from kirsch.cluster.provision.record import ClusterRecord, ProvisionError
from kirsch.cluster.provision.settings import KIRSCHD, kirschd_toml
from kirsch.cluster.provision.specification import Site, Specification
from kirsch.unit import UnitFile

SITE = Site(Subnet.parse("10.201.7.0/24").network, 21000)
FACTS = {
    "python": [3, 13], "venv": True, "architecture": "x86_64", "libc": ["glibc", "2.41"], "systemd": True,
    "dbus": True, "machine_id": "0" * 32, "hostname": "h", "podman": "5.4.2", "host_keys": [], "cluster": "",
    "listened": False, "unreached": {},
}  # fmt: skip


def record(*subnet: str) -> ClusterRecord:
    return planned(Specification.parse("blue", 3, [], [], *subnet), "c0ffee", SITE)


def settings(made: ClusterRecord, *more: str) -> Settings:
    text = kirschd_toml(made, made.machines[0])
    for line in more:
        text = text.replace("[network]\n", f"[network]\n{line}\n")
    return Settings.parse(text)


@pytest.mark.parametrize("subnet", ["10.210.0.0/16", "192.168.4.0/22"])
def test_each_machines_kirschd_has_the_clusters_subnet(subnet: str):
    made = record(subnet)
    assert made.network == subnet
    read = settings(made).network
    assert read is not None
    assert (str(read.subnet), read.mtu) == (subnet, 1450)
    read = settings(made, "mtu = 1350").network
    assert read is not None
    assert read.mtu == 1350


def test_there_is_a_subnet_unless_a_person_wants_none():
    assert record().network == "10.210.0.0/16"
    assert record("none").network == ""
    assert settings(record("none")).network is None
    # A record of a cluster that was made before there were any.
    old = {"name": "x", "id": "1", "created": "", "subnet": "", "machines": [], "published": []}
    assert ClusterRecord.parse(json.dumps(old)).network == ""


@pytest.mark.parametrize(
    ("subnet", "count", "words"),
    [
        ("10.210.0.0/25", 1, "--subnet: a cluster's subnet is a /8 to a /24"),
        ("10.210.0.0/24", 8, "--subnet: 10.210.0.0/24 has room for 7 machines, not for 8"),
        ("fd00::/16", 1, "--subnet: 'fd00::/16' is no IPv4 subnet"),
        ("", 1, "--subnet: '' is no IPv4 subnet"),
    ],
)
def test_what_cannot_be_a_subnet_is_refused_before_anything_is_done(subnet: str, count: int, words: str):
    with pytest.raises(ProvisionError, match=re.escape(words)) as refused:
        Specification.parse("blue", count, [], [], subnet)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mtu = 100", "network.mtu is to be a number from 1280"),
        ('mtu = "1450"', "network.mtu is to be a number"),
        ("colour = 1", "[network] is to have subnet, perhaps mtu, and nothing else"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_a_line(line: str, words: str):
    with pytest.raises(SettingsError, match=re.escape(words)):
        settings(record(), line)


@pytest.mark.parametrize(
    ("networks", "words"),
    [
        ([], ""),
        (["10.88.0.0/16", "192.168.1.0/24", "fd00::/64", "nonsense"], ""),
        (
            ["10.210.7.0/24"],
            "it has a route to 10.210.7.0/24, which the cluster's subnet 10.210.0.0/16 overlaps",
        ),
        (["10.0.0.0/8"], "it has a route to 10.0.0.0/8"),
        (["10.210.3.4"], "it has a route to 10.210.3.4/32"),
    ],
)
def test_a_host_with_a_route_to_the_subnet_cannot_join(networks: list[str], words: str):
    facts = probe.Facts.parse(json.dumps({**FACTS, "networks": networks}))
    assert facts.overlap("10.210.0.0/16").startswith(words)
    assert bool(facts.overlap("10.210.0.0/16")) is bool(words)
    assert facts.overlap("") == ""


@pytest.mark.parametrize("address", ["attic.example", "fd00::7", "10.0.0.256"])
def test_a_machine_with_no_address_of_ipv4_is_in_no_flat_network(address: str):
    # Among the peers of all others it would be a command that fails, on each of them.
    said = asyncio.run(why_not(address, 1450))
    assert said == f"its address is {address}, and the flat network's packets go over IPv4"


def test_a_host_is_known_by_an_address():
    assert address_of("192.0.2.7") == "192.0.2.7"
    assert address_of("2001:db8::7") == "2001:db8::7"
    with pytest.raises(ProvisionError, match=r"cannot reach localhost at 127\.0\.0\.1: give --address"):
        address_of("localhost")
    for name in ("attic..example", "a" * 300):
        with pytest.raises(ProvisionError, match="is not known by that name here: give --address"):
            address_of(name)


def test_the_probe_leaves_out_what_is_kirschs_own():
    # A host that was a machine of the cluster before, and is asked to join again.
    assert f'!= "{BRIDGE}"' in probe.SCRIPT
    assert 'name != "kirsch"' in probe.SCRIPT


def test_kirschd_may_make_devices_and_send_arp():
    file = UnitFile.parse(KIRSCHD, "kirschd.service")
    families = file.get("Service", "RestrictAddressFamilies")
    assert families is not None
    assert {"AF_NETLINK", "AF_PACKET"} <= set(families.value.split())
    dropped = " ".join(entry.value for entry in file.values("Service", "CapabilityBoundingSet"))
    assert "CAP_NET_ADMIN" not in dropped
    assert "CAP_NET_RAW" not in dropped
