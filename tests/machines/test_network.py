"""The flat network of real machines: containers reach each other by addresses that they keep for life."""

import base64
import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator

import pytest
from tests.machines.served import ASK, IMAGE, SERVES, WEB
from tests.machines.trial import KIRSCH, PATIENCE, Trial, eventually

from kirsch.cluster.network.state import ANYBODY, BRIDGE, NETWORK, PORT
from kirsch.cluster.network.subnet import hardware_address
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord

pytestmark = [pytest.mark.machines, pytest.mark.slow]

# Asks again and again until somebody answers; how often it had to.
UNTIL = """\
import socket, sys, time
end = time.monotonic() + 60
while True:
    try:
        socket.create_connection((sys.argv[1], 8080), 0.2).close()
        break
    except OSError:
        time.monotonic() < end or sys.exit("nobody answers")
        time.sleep(0.02)
print("answered")
"""
# Listens until an address is announced (RFC 5227) from its hardware address.
HEARS = """\
import socket, sys
address = socket.inet_aton(sys.argv[1])
hardware = bytes.fromhex(sys.argv[2].replace(":", ""))
heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
heard.bind(("kirsch0", 0))
print("listens", flush=True)
while True:
    frame = heard.recv(100)
    if (frame[22:28], frame[28:32], frame[38:42]) == (hardware, address, address):
        break
print("announced")
"""
KEYS = "--cacert=/etc/kirsch/tls/ca.crt --cert=/etc/kirsch/tls/machine.crt --key=/etc/kirsch/tls/machine.key"


@pytest.fixture(scope="module")
def started(cluster: ClusterRecord, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Flat"]:
    """An instance of a container on each machine."""
    trial = Trial(cluster, tmp_path_factory.mktemp("flat"))
    trial.until_present()
    for machine in trial.machines:
        trial.shell(machine, IMAGE)
    # Without Spread=: by it the cluster would move back what a test moves to another machine.
    trial.submit("flat@.container", WEB)
    names = [f"flat@{number}.container" for number in range(1, 4)]
    trial.kirsch("start", *names)
    made = Flat(trial, names)
    made.until_ready()
    yield made
    trial.until_present()
    trial.clear()


@pytest.fixture
def flat(started: "Flat") -> "Flat":
    """The same for each test, all of it whole, wherever the units are by now."""
    started.trial.until_present()
    started.spread()
    return started


class Flat:
    """The flat network, and three units in it."""

    def __init__(self, trial: Trial, names: list[str]) -> None:
        self.trial = trial
        self.names = names

    def until_ready(self) -> None:
        """Wait until they serve."""
        self.trial.until(lambda lines: all(lines.get(n, {}).get("ready") for n in self.names))

    def spread(self) -> None:
        """One on each machine, and each ready."""
        self.until_ready()
        for name, machine in zip(self.names, self.trial.machines, strict=True):
            if self.machine(name).id != machine.id:
                self.trial.kirsch("move", name, machine.id)
        self.until_ready()

    def endpoint(self, name: str) -> dict:
        """Where a unit serves."""
        return next(
            e for e in self.trial.client.get("/kirsch/v1/endpoints")["endpoints"] if e["unit"] == name
        )

    def address(self, name: str) -> str:
        return str(self.endpoint(name)["address"])

    def machine(self, name: str) -> MachineRecord:
        return self.trial.machine_of(name)

    def container(self, name: str) -> str:
        return f"systemd-{name.partition('.')[0].replace('@', '_')}"

    def hosts(self, name: str) -> str:
        """What the container of a unit calls itself."""
        shown = self.trial.shell(self.machine(name), f"podman inspect {self.container(name)}")
        return str(json.loads(shown)[0]["Config"]["Hostname"])

    def from_machine(self, machine: MachineRecord, address: str, seconds: int = 10) -> str:
        """Who answers at an address, asked by a machine itself."""
        return self.trial.shell(machine, f"python3 -c {shlex.quote(ASK % (address, seconds))}").strip()

    def from_container(self, name: str, address: str, seconds: int = 10) -> str:
        """The same, asked from a unit's container."""
        ask = f"podman exec {self.container(name)} python3 -c {shlex.quote(ASK % (address, seconds))}"
        return self.trial.shell(self.machine(name), ask).strip()

    def until_answered(self, machine: MachineRecord, address: str) -> None:
        """Somebody answers a machine at an address."""
        said = self.trial.shell(machine, f"python3 -c {shlex.quote(UNTIL)} {address}")
        assert said.strip() == "answered"

    def addresses(self) -> dict[str, str]:
        """What the registry has given: by unit and slot."""
        etcd = self.trial.record.members[0]
        shown = self.trial.shell(
            self.trial.by_id(etcd.id),
            f"ETCDCTL_API=3 etcdctl {KEYS} --endpoints=https://{etcd.address}:2379 get --prefix "
            "/kirsch/v1/addresses/ -w json",
        )
        found = {}
        for pair in json.loads(shown).get("kvs", ()):
            key, value = (base64.b64decode(pair[part]).decode() for part in ("key", "value"))
            found[key.removeprefix("/kirsch/v1/addresses/")] = value
        return found

    def links(self, machine: MachineRecord) -> dict[str, dict]:
        return {
            link["ifname"]: link for link in json.loads(self.trial.shell(machine, "ip -j -d addr")) if link
        }

    def peers(self, machine: MachineRecord) -> set[str]:
        """Where a machine sends what goes to anybody."""
        shown = json.loads(self.trial.shell(machine, f"bridge -j fdb show dev {PORT}") or "[]")
        return {entry["dst"] for entry in shown if entry["mac"] == ANYBODY and "dst" in entry}

    def whole(self, machine: MachineRecord) -> bool:
        """Whether a machine's part of it is as it is to be."""
        links = self.links(machine)
        if BRIDGE not in links or PORT not in links:
            return False
        bridge, port = links[BRIDGE], links[PORT]
        addresses = [a["local"] for a in bridge["addr_info"] if a["family"] == "inet"]
        networks = self.trial.shell(machine, "podman network ls --format '{{.Name}}'").split()
        others = {m.address for m in self.trial.machines} - {machine.address}
        guard = self.trial.shell(machine, "nft list table ip kirsch 2>/dev/null || :")
        return (
            len(addresses) == 1
            and addresses[0].startswith("10.210.0.")
            and (bridge["mtu"], port["mtu"]) == (1450, 1450)
            and port.get("master") == BRIDGE
            and all("UP" in link["flags"] for link in (bridge, port))
            and self.peers(machine) == others
            and others == set(re.findall(r"(?:\d+\.){3}\d+", guard))
            and guard.count("@machines drop") == 1
            and NETWORK in networks
        )


def test_containers_and_machines_reach_each_other_by_address(flat: Flat):
    addresses = {name: flat.address(name) for name in flat.names}
    assert len({flat.machine(name).name for name in flat.names}) == 3
    assert len(set(addresses.values())) == 3
    for name, address in addresses.items():
        assert address.startswith("10.210.")
        assert int(address.split(".")[2]) >= 128
        # It is the container's own, and what it serves at is what the registry has.
        assert flat.addresses()[f"{name}/-"] == address
        container = flat.hosts(name)
        for other in flat.names:
            assert flat.from_container(other, address) == container
        for machine in flat.trial.machines:
            assert flat.from_machine(machine, address) == container
    # And a container reaches the machines, by the addresses that they have in it.
    gateways = {
        a["local"]
        for machine in flat.trial.machines
        for a in flat.links(machine)[BRIDGE]["addr_info"]
        if a["family"] == "inet"
    }
    assert len(gateways) == 3
    reach = "import socket; s = socket.socket(); s.settimeout(10); print(s.connect_ex(('%s', 22)))"
    container = flat.container(flat.names[0])
    for gateway in gateways:
        asked = f"podman exec {container} python3 -c {shlex.quote(reach % gateway)}"
        assert flat.trial.shell(flat.machine(flat.names[0]), asked).strip() == "0"


def test_a_container_that_names_another_network_is_left_alone(flat: Flat):
    where = f"[X-Kirsch]\nExpose=8081\nMachineID={flat.trial.machines[0].id}\n"
    text = SERVES.replace("8080", "8081")
    flat.trial.submit(
        "apart.container", f"[Container]\nNetwork=host\n{text}[Service]\nTimeoutStopSec=3\n{where}"
    )
    flat.trial.kirsch("start", "apart.container")
    assert flat.address("apart.container") == flat.trial.machines[0].address
    assert "apart.container/-" not in flat.addresses()
    flat.trial.kirsch("destroy", "apart.container")


def test_a_full_packet_passes_whole_and_a_larger_one_does_not(flat: Flat):
    first, second = (flat.machine(name) for name in flat.names[:2])
    address = flat.address(flat.names[1])
    # ping(8): 28 bytes are IP's and ICMP's; -M do forbids to take it apart.
    ping = "ping -c 1 -W 5 -M do -s {size} {address} >/dev/null 2>&1; echo $?"
    assert flat.trial.shell(first, ping.format(size=1422, address=address)).strip() == "0"
    assert flat.trial.shell(first, ping.format(size=1423, address=address)).strip() != "0"
    mtu = "podman exec systemd-flat_2 python3 -c \"print(open('/sys/class/net/eth0/mtu').read())\""
    assert flat.trial.shell(second, mtu).strip() == "1450"


def test_the_address_moves_with_the_unit_and_a_third_party_is_answered_soon(flat: Flat):
    moving = flat.names[0]
    address, before, was = flat.address(moving), flat.machine(moving), flat.hosts(moving)
    third = flat.machine(flat.names[1])
    target = flat.machine(flat.names[2])
    assert flat.from_machine(third, address) == was
    hears = f"timeout 60 python3 -c {shlex.quote(HEARS)} {address} {hardware_address(address)}"
    listening = subprocess.Popen(
        ["podman", "--runtime", "runc", "exec", third.container, "sh", "-c", hears],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert listening.stdout
    assert listening.stdout.readline() == "listens\n"
    flat.trial.kirsch("move", moving, target.id)
    flat.trial.until(lambda lines: lines[moving]["ready"] and lines[moving]["machine"] == target.id)
    assert flat.address(moving) == address
    assert listening.communicate(timeout=PATIENCE)[0] == "announced\n"
    for name in flat.names[1:]:
        assert flat.from_container(name, address, 2) == flat.hosts(moving) != was
    for machine in (third, before, target):
        assert flat.from_machine(machine, address, 2) == flat.hosts(moving)


@pytest.mark.soak
def test_when_a_machine_dies_its_units_are_elsewhere_at_their_addresses(flat: Flat):
    lost = flat.names[0]
    address, dead, third = flat.address(lost), flat.machine(lost), flat.machine(flat.names[1])
    was = flat.from_machine(third, address)
    flat.trial.kill(dead)
    try:
        flat.trial.until(lambda lines: lines[lost]["ready"] and lines[lost]["machine"] != dead.id)
        flat.until_answered(third, address)
        assert flat.address(lost) == address
        assert flat.from_machine(third, address, 2) == flat.hosts(lost) != was
        others = [machine for machine in flat.trial.machines if machine.id != dead.id]
        # Who is away is nobody's peer.
        eventually(lambda: all(dead.address not in flat.peers(machine) for machine in others))
    finally:
        flat.trial.boot(dead)
    flat.trial.until_present()
    eventually(lambda: all(flat.whole(machine) for machine in flat.trial.machines))
    assert flat.from_machine(dead, address, 2) == flat.hosts(lost)


@pytest.mark.soak
def test_a_machine_that_was_cut_off_does_not_bring_an_address_back(flat: Flat):
    lost = flat.names[0]
    address, away = flat.address(lost), flat.machine(lost)
    others = [machine for machine in flat.trial.machines if machine.id != away.id]
    with flat.trial.cut_off(away):
        flat.trial.until(lambda lines: lines[lost]["ready"] and lines[lost]["machine"] != away.id)
        now = flat.hosts(lost)
        assert flat.from_machine(others[0], address) == now
        # It runs there still, for whoever is cut off with it.
        assert flat.from_machine(away, address) not in ("", now)
    # It is answered by one and the same all the time, while the machine comes back and gives up what it had.
    end, answered = time.monotonic() + 60, 0
    while not (away.id in flat.trial.present() and flat.whole(away)):
        assert time.monotonic() < end
        for machine in others:
            assert flat.from_machine(machine, address) == now
            answered += 1
    assert answered
    assert flat.from_machine(away, address) == now


BREAKAGES = {
    "the bridge is deleted": f"ip link delete {BRIDGE}",
    "the port is deleted": f"ip link delete {PORT}",
    "the port is down": f"ip link set {PORT} down",
    "the port is out of the bridge": f"ip link set {PORT} nomaster",
    "the bridge is down": f"ip link set {BRIDGE} down",
    "the bridge has lost its address": f"ip address flush dev {BRIDGE}",
    "the bridge has another address too": f"ip address add 10.99.0.1/24 dev {BRIDGE}",
    "the bridge's packets are too large": f"ip link set {BRIDGE} mtu 1500",
    "nobody is a peer": f"bridge fdb show dev {PORT} | grep '^{ANYBODY}' | cut -d' ' -f1-3 |"
    f" while read mac dst at; do bridge fdb delete $mac dev {PORT} dst $at; done",
    "a stranger is a peer": f"bridge fdb append {ANYBODY} dev {PORT} dst 203.0.113.9",
    "the guard is gone": "nft delete table ip kirsch",
    "the guard lets anybody in": "nft flush chain ip kirsch input",
    "the guard lets a stranger in": "nft add element ip kirsch machines '{ 203.0.113.9 }'",
    "podman's network is another": f"podman network rm --force {NETWORK} && "
    f"podman network create --subnet 10.77.0.0/24 {NETWORK}",
    "podman's network is gone": f"podman network rm --force {NETWORK}",
    "all of it is gone": f"ip link delete {PORT}; ip link delete {BRIDGE}; "
    f"podman network rm --force {NETWORK}",
}


@pytest.mark.soak
def test_what_somebody_breaks_is_mended(flat: Flat):
    victim, other = flat.machine(flat.names[0]), flat.machine(flat.names[1])
    addresses, others = [flat.address(name) for name in flat.names], flat.hosts(flat.names[1])
    own = flat.hosts(flat.names[0])
    for what, how in BREAKAGES.items():
        assert flat.whole(victim), what
        flat.trial.shell(victim, how)
        eventually(lambda: flat.whole(victim), 60)
        # Where podman's network goes its containers go with it.
        if "podman" in how:
            flat.trial.kirsch("start", flat.names[0], check=False)
            flat.until_ready()
            own = flat.hosts(flat.names[0])
        assert flat.from_machine(other, addresses[0]) == own, what
    assert flat.from_container(flat.names[0], addresses[1]) == others


@pytest.mark.soak
def test_an_address_comes_back_when_its_unit_has_stopped_for_good_and_not_before(flat: Flat):
    text = WEB.replace("TimeoutStopSec=3", "ExecStop=/bin/sleep 4\nTimeoutStopSec=9")
    flat.trial.submit("slow.container", f"{text}MachineID={flat.trial.machines[0].id}\n")
    flat.trial.kirsch("start", "slow.container")
    address = flat.address("slow.container")
    flat.trial.kirsch("stop", "slow.container")
    # It is its own for life, and its life is not over.
    assert flat.addresses()["slow.container/-"] == address
    flat.trial.kirsch("start", "slow.container")
    assert flat.address("slow.container") == address
    going = subprocess.Popen([KIRSCH, "--cluster", flat.trial.record.name, "destroy", "slow.container"])
    running = "systemctl is-active slow.service | grep -cE '^(active|deactivating)' || :"
    end, seen = time.monotonic() + PATIENCE, 0
    while int(flat.trial.shell(flat.trial.machines[0], running)):
        assert time.monotonic() < end
        # What was given is read first: it may stop in between.
        given = flat.addresses().get("slow.container/-")
        if int(flat.trial.shell(flat.trial.machines[0], running)):
            assert given == address
            seen += 1
    assert going.wait(PATIENCE) == 0
    assert seen
    eventually(lambda: "slow.container/-" not in flat.addresses())


@pytest.mark.soak
def test_a_machine_without_vxlan_gets_no_containers_and_why_says_so(flat: Flat):
    machine = flat.trial.machines[2]
    # What the kernel of such a machine says.
    refuses = "#!/bin/sh\ncase \"$*\" in *vxlan*) echo 'Error: Unknown device type.' >&2; exit 2;; esac\n"
    script = shlex.quote(f'{refuses}exec /usr/sbin/ip "$@"\n')
    lacking = (
        f"printf %s {script} > /usr/local/sbin/ip; chmod +x /usr/local/sbin/ip; systemctl stop kirschd; "
        f"/usr/sbin/ip link delete {PORT}; systemctl start kirschd"
    )
    flat.trial.shell(machine, lacking)
    try:
        flat.trial.submit("lacks.container", f"{WEB}MachineID={machine.id}\n")
        flat.trial.kirsch("start", "--no-block", "lacks.container")
        eventually(lambda: "its kernel has no VXLAN" in flat.trial.kirsch("why", "lacks.container").out)
        # Its other units run on, and those that can be elsewhere are.
        flat.trial.until(lambda lines: all(lines[n]["ready"] for n in flat.names))
        assert all(flat.machine(name).id != machine.id for name in flat.names)
    finally:
        flat.trial.shell(machine, "rm /usr/local/sbin/ip; systemctl restart kirschd")
    flat.trial.until(lambda lines: lines.get("lacks.container", {}).get("ready"))
    flat.trial.kirsch("destroy", "lacks.container")


@pytest.mark.soak
def test_units_find_their_addresses_again_after_kirschd_was_restarted(flat: Flat):
    before = {name: (flat.address(name), flat.hosts(name)) for name in flat.names}
    for machine in flat.trial.machines:
        flat.trial.shell(machine, "systemctl restart kirschd")
    flat.until_ready()
    assert {name: (flat.address(name), flat.hosts(name)) for name in flat.names} == before
    for machine in flat.trial.machines:
        eventually(lambda machine=machine: flat.whole(machine))
    assert (
        flat.from_machine(flat.machine(flat.names[1]), before[flat.names[0]][0]) == before[flat.names[0]][1]
    )


def test_a_subnet_that_overlaps_one_of_this_computer_is_refused_and_nothing_is_made():
    routes = json.loads(subprocess.run(["ip", "-j", "-4", "route"], capture_output=True, check=True).stdout)
    own = [route["dst"] for route in routes if re.search(r"/(2[0-4]|1[6-9])$", route["dst"])]
    assert own
    name = f"overlap-{os.getpid()}"
    for subnet in (own[0], "10.201.0.0/16", "10.200.0.0/15"):
        done = subprocess.run(
            [KIRSCH, "cluster", "create", name, "--subnet", subnet],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert f"--subnet: {subnet} overlaps" in done.stderr
    assert name not in subprocess.run([KIRSCH, "cluster", "list"], capture_output=True, text=True).stdout
