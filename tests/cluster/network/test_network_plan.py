"""What is to be done that a machine's part of the flat network is as wanted, whatever was there before."""

import json
import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.network.plan import Command, guard, plan, podman_network, removal
from kirsch.cluster.network.state import (
    ANYBODY,
    BRIDGE,
    NETWORK,
    PORT,
    Desired,
    Guard,
    Link,
    Observed,
    PodmanNetwork,
    read_forwarding,
    read_guard,
    read_links,
    read_podman,
    vxlan_id,
)
from kirsch.cluster.network.subnet import Subnet, hardware_address

SUBNET = Subnet.parse("10.210.0.0/16")
UNDERLAY = Link(2, "eth0", "veth", True, 1500, "02:6b:0a:c9:01:0b", addresses=("10.201.1.11/24",))
WANTED = Desired(SUBNET, 3, "10.201.1.11", 77, peers=frozenset({"10.201.1.12", "10.201.1.13"}), joined=True)


class Machine:
    """As much of Linux and podman as the commands are about: what they would make of what is there."""

    def __init__(self, seen: Observed) -> None:
        self.links: dict[str, Link] = dict(seen.links)
        self.flooded, self.learned = set(seen.flooded), set(seen.learned)
        self.podman, self.guard = seen.podman, seen.guard
        self.index = max((link.index for link in self.links.values()), default=1)

    @property
    def seen(self) -> Observed:
        return Observed(
            dict(self.links), frozenset(self.flooded), frozenset(self.learned), self.podman, self.guard
        )

    def run(self, command: Command) -> None:
        match command:
            case ("ip", "link", "add", name, *words):
                assert name not in self.links, "RTNETLINK answers: File exists"
                at = words.index("type")
                self._add(name, words[at + 1], _pairs(words[:at]), _pairs(words[at + 2 :]))
            case ("ip", "link", "delete", name):
                del self.links[name]
                self.links = {
                    n: replace(link, master="" if link.master == name else link.master)
                    for n, link in self.links.items()
                }
                if name == PORT:
                    self.flooded, self.learned = set(), set()
            case ("ip", "link", "set", name, *words):
                self._set(name, words)
            case ("ip", "address", verb, address, "dev", name):
                link = self.links[name]
                assert (address in link.addresses) is (verb == "delete")
                left = tuple(a for a in link.addresses if a != address)
                self.links[name] = replace(link, addresses=left if verb == "delete" else (*left, address))
            case ("bridge", "fdb", "append", hardware, "dev", name, "dst", peer):
                assert (name, hardware) == (PORT, ANYBODY)
                assert self.links[PORT].kind == "vxlan"
                assert peer not in self.flooded
                self.flooded.add(peer)
            case ("bridge", "fdb", "delete", hardware, "dev", _, "dst", peer):
                entries: set[Any] = self.flooded if hardware == ANYBODY else self.learned
                entries.remove(peer if hardware == ANYBODY else (hardware, peer))
            case ("nft", "delete", "table", "ip", "kirsch"):
                assert self.guard
                self.guard = None
            case ("nft", script):
                self.guard = Guard(frozenset(re.findall(r"[\d.]{9,}", script)), script.count("add rule"))
                assert "udp dport 4789 ip saddr != @machines drop" in script
            case ("podman", "network", "rm", *_, name):
                assert name == NETWORK
                assert self.podman
                self.podman = None
            case ("podman", "network", "create", "--disable-dns", *words, name):
                assert name == NETWORK
                assert self.podman is None, "network name kirsch already used"
                options = _pairs(words)
                subnet = IPv4Interface(options["--subnet"]).network
                for link in self.links.values():
                    for address in link.addresses:
                        assert not IPv4Interface(address).network.overlaps(subnet), "already used on the host"
                block = IPv4Interface(options["--ip-range"]).network
                self.podman = PodmanNetwork(
                    options["--subnet"], options["--gateway"], str(block[1]), options["--interface-name"],
                    options["--opt"].removeprefix("mtu="), False,
                )  # fmt: skip
            case _:
                raise AssertionError(f"no such command: {command}")

    def _add(self, name: str, kind: str, own: dict[str, str], given: dict[str, str]) -> None:
        self.index += 1
        details = {"id": int(given["id"]), "port": int(given["dstport"])} if kind == "vxlan" else {}
        if "local" in given:
            assert given["local"] in self.seen.addresses
            details |= {"local": given["local"]}
        hardware = own.get("address", "5e:00:00:00:00:01")
        self.links[name] = Link(self.index, name, kind, False, int(own["mtu"]), hardware, details=details)

    def _set(self, name: str, words: list[str]) -> None:
        link = self.links[name]
        if words[-1] in ("up", "down"):
            link = replace(link, up=words.pop() == "up")
        values = _pairs(words)
        if "master" in values:
            assert self.links[values["master"]].kind == "bridge"
        self.links[name] = replace(
            link,
            mtu=int(values.get("mtu", link.mtu)),
            hardware=values.get("address", link.hardware),
            master=values.get("master", link.master),
        )


def _pairs(words: list[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


def done(wanted: Desired, seen: Observed) -> Observed:
    machine = Machine(seen)
    for command in plan(wanted, seen):
        machine.run(command)
    return machine.seen


ADDRESSES = st.sampled_from(["10.201.1.12", "10.201.1.13", "10.201.1.14", "10.201.1.15"])
OF_BRIDGE = st.lists(
    st.sampled_from([WANTED.gateway, "10.210.0.9/16", "10.210.7.1/24", "192.168.1.1/24"]), unique=True
).map(tuple)
KINDS = st.sampled_from(["bridge", "vxlan", "dummy", "veth"])


@st.composite
def links(draw: st.DrawFn) -> dict[str, Link]:
    found = {"eth0": UNDERLAY}
    if draw(st.booleans()):
        found[BRIDGE] = Link(
            10, BRIDGE, draw(KINDS), draw(st.booleans()), draw(st.sampled_from([1450, 1500])),
            draw(st.sampled_from([hardware_address("10.210.0.3"), "ba:00:00:00:00:01"])),
            addresses=draw(OF_BRIDGE),
        )  # fmt: skip
    # Only a bridge has ports.
    bridged = BRIDGE in found and found[BRIDGE].kind == "bridge"
    masters = st.sampled_from(["", BRIDGE] if bridged else [""])
    if draw(st.booleans()):
        details = {"id": draw(st.sampled_from([77, 78])), "port": 4789}
        if draw(st.booleans()):
            details["local"] = draw(st.sampled_from(["10.201.1.11", "10.201.1.99"]))
        found[PORT] = Link(
            11, PORT, draw(KINDS), draw(st.booleans()), draw(st.sampled_from([1450, 1500])),
            "ba:00:00:00:00:02", draw(masters), details=details,
        )  # fmt: skip
    for number in range(draw(st.integers(0, 3))):
        name = f"veth{number}"
        found[name] = Link(20 + number, name, "veth", True, 1450, "ba:00:00:00:00:03", draw(masters))
    return found


@st.composite
def seens(draw: st.DrawFn) -> Observed:
    found = draw(links())
    has_port = found.get(PORT) is not None and found[PORT].kind == "vxlan"
    learned = st.frozensets(st.tuples(st.sampled_from(["0a:00:00:00:00:01", "0a:00:00:00:00:02"]), ADDRESSES))
    networks = [None, podman_network(WANTED), podman_network(replace(WANTED, number=4))]
    return Observed(
        found,
        draw(st.frozensets(ADDRESSES)) if has_port else frozenset(),
        draw(learned) if has_port else frozenset(),
        draw(st.sampled_from(networks)),
        draw(st.none() | st.builds(Guard, st.frozensets(ADDRESSES), st.integers(0, 2))),
    )


@given(
    seens(),
    st.frozensets(ADDRESSES),
    st.booleans(),
    st.dictionaries(st.integers(20, 24), st.sampled_from(["veth0", "veth1", "veth2"]), max_size=3),
)
def test_whatever_was_there_it_is_as_wanted_when_all_is_done(
    seen: Observed, peers: frozenset[str], joined: bool, ports: dict[int, str]
):
    wanted = replace(WANTED, peers=peers, joined=joined, ports=ports)
    now = done(wanted, seen)
    assert plan(wanted, now) == []
    bridge, port = now.links[BRIDGE], now.links[PORT]
    assert (bridge.kind, bridge.up, bridge.mtu, bridge.addresses) == (
        "bridge",
        True,
        1450,
        ("10.210.0.3/16",),
    )
    assert (port.kind, port.up, port.mtu, port.master) == ("vxlan", joined, 1450, BRIDGE)
    assert port.details == {"id": 77, "port": 4789, "local": "10.201.1.11"}
    assert now.flooded == peers
    assert {peer for _, peer in now.learned} <= peers
    assert now.podman == podman_network(WANTED)
    assert now.guard == Guard(peers, 1)
    assert now.links["eth0"] == UNDERLAY


@given(seens())
def test_what_was_in_a_bridge_comes_back_into_it_and_nothing_else_does(seen: Observed):
    before = {link.index: name for name, link in seen.links.items() if name.startswith("veth")}
    wanted = replace(WANTED, ports={index: name for index, name in before.items() if index != 20})
    now = done(wanted, seen)
    for index, name in before.items():
        assert now.links[name].master == (BRIDGE if index != 20 else seen.links[name].master)


def test_a_machine_that_is_not_in_is_not_heard():
    there = done(WANTED, Observed({"eth0": UNDERLAY}))
    assert plan(replace(WANTED, joined=False), there) == [("ip", "link", "set", PORT, "down")]


def test_a_peer_that_left_is_forgotten_at_once():
    there = done(WANTED, Observed({"eth0": UNDERLAY}))
    there = replace(there, learned=frozenset({("02:6b:0a:d2:80:05", "10.201.1.12")}))
    assert plan(replace(WANTED, peers=frozenset({"10.201.1.13"})), there) == [
        guard(frozenset({"10.201.1.13"})),
        ("bridge", "fdb", "delete", ANYBODY, "dev", PORT, "dst", "10.201.1.12"),
        ("bridge", "fdb", "delete", "02:6b:0a:d2:80:05", "dev", PORT, "dst", "10.201.1.12"),
    ]


def test_behind_a_translated_address_the_port_has_no_address_of_its_own():
    now = done(replace(WANTED, address="203.0.113.7"), Observed({"eth0": UNDERLAY}))
    assert "local" not in now.links[PORT].details


@given(seens())
def test_a_removal_leaves_nothing(seen: Observed):
    machine = Machine(seen)
    for command in removal(seen):
        machine.run(command)
    assert machine.podman is None
    assert machine.guard is None
    assert not {BRIDGE, PORT} & machine.links.keys()
    assert removal(machine.seen) == []


def test_two_clusters_do_not_hear_each_other():
    ids = {vxlan_id(f"cluster {number}") for number in range(100)}
    assert len(ids) == 100
    assert all(0 < id < 1 << 24 for id in ids)


def test_what_programs_print_is_read():
    found = read_links(
        json.dumps(
            [
                {},
                {
                    "ifindex": 3, "ifname": BRIDGE, "flags": ["BROADCAST", "UP", "LOWER_UP"], "mtu": 1450,
                    "address": "02:6b:0a:d2:00:03", "linkinfo": {"info_kind": "bridge", "info_data": {}},
                    "addr_info": [
                        {"family": "inet", "local": "10.210.0.3", "prefixlen": 16},
                        {"family": "inet6", "local": "fe80::1", "prefixlen": 64},
                    ],
                },
                {
                    "ifindex": 4, "ifname": PORT, "flags": ["BROADCAST"], "mtu": 1450, "master": BRIDGE,
                    "address": "96:67:cc:55:72:d4",
                    "linkinfo": {
                        "info_kind": "vxlan",
                        "info_data": {"id": 77, "local": "10.201.1.11", "port": 4789, "learning": True},
                    },
                },
            ]
        )
    )  # fmt: skip
    assert (found[BRIDGE].up, found[BRIDGE].addresses) == (True, ("10.210.0.3/16",))
    assert (found[PORT].up, found[PORT].master, found[PORT].details["local"]) == (
        False,
        BRIDGE,
        "10.201.1.11",
    )
    flooded, learned = read_forwarding(
        json.dumps(
            [
                {"mac": "7e:40:a4:ef:98:ab", "flags": [], "master": BRIDGE, "state": ""},
                {"mac": "7e:40:a4:ef:98:ab", "dst": "10.201.1.13", "flags": ["self"], "state": ""},
                {"mac": ANYBODY, "dst": "10.201.1.12", "flags": ["self"], "state": "permanent"},
            ]
        )
    )
    assert flooded == {"10.201.1.12"}
    assert learned == {("7e:40:a4:ef:98:ab", "10.201.1.13")}
    network = {
        "name": "kirsch", "network_interface": BRIDGE, "dns_enabled": False, "options": {"mtu": "1450"},
        "subnets": [
            {
                "subnet": "10.210.0.0/16", "gateway": "10.210.0.3",
                "lease_range": {"start_ip": "10.210.3.1", "end_ip": "10.210.3.255"},
            }
        ],
    }  # fmt: skip
    assert read_podman(json.dumps([network])) == podman_network(WANTED)
    assert read_podman("[]") is None
    table: list[dict] = [
        {"metainfo": {"json_schema_version": 1}},
        {"table": {"family": "ip", "name": "kirsch", "handle": 3}},
        {"chain": {"family": "ip", "table": "kirsch", "name": "input", "hook": "input", "prio": -10}},
        {"set": {"name": "machines", "table": "kirsch", "type": "ipv4_addr", "elem": ["10.201.1.11"]}},
        {"rule": {"table": "kirsch", "chain": "input", "expr": [{"drop": None}]}},
    ]
    assert read_guard(json.dumps({"nftables": table})) == Guard(frozenset({"10.201.1.11"}), 1)
    del table[3]["set"]["elem"]
    assert read_guard(json.dumps({"nftables": table[:4]})) == Guard(frozenset(), 0)


def test_a_machine_without_nftables_has_no_guard():
    assert done(replace(WANTED, guarded=False), Observed({"eth0": UNDERLAY})).guard is None


@pytest.mark.parametrize("number", [1, 64, 127])
def test_podmans_own_addresses_are_the_machines_block(number: int):
    network = podman_network(replace(WANTED, number=number))
    assert re.fullmatch(rf"10\.210\.{number}\.1", network.first)
    assert IPv4Address(network.gateway) == SUBNET.network[number]
