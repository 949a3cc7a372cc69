"""`kirsch cluster add` and `remove`: a host that nobody has prepared joins by ssh, and leaves as it was."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.machines.bare import USER, BareHost
from tests.machines.computer import Computer, parts, podman, traces
from tests.machines.served import ASK, IMAGE, WEB
from tests.machines.trial import eventually
from tests.port import free_port

from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.image import Images
from kirsch.cluster.provision.ingress import CONFIGURATION

pytestmark = [pytest.mark.machines, pytest.mark.soak]

ROOT = Path(__file__).parents[2]
SLEEP = "[Service]\nExecStart=/bin/sleep infinity\n"
HERE = "\n[X-Kirsch]\nMachineMetadata=zone=d\n"
TLS = "--cacert /etc/kirsch/tls/ca.crt --cert /etc/kirsch/tls/machine.crt --key /etc/kirsch/tls/machine.key"
ETCDCTL = f"ETCDCTL_API=3 etcdctl {TLS}"
KEYS = "cat /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys"


@pytest.fixture(scope="module")
def computer(tmp_path_factory):
    made = Computer(tmp_path_factory.mktemp("computer"), f"tests-{os.getpid()}")
    yield made
    made.close()


@pytest.fixture(scope="module")
def cluster(computer):
    return computer.create(
        "add", "--machines", "2", "--metadata", "zone=a/b", "--publish", f"{free_port()}:9"
    )


@pytest.fixture
def bare(cluster, tmp_path):
    """A host in the network of the cluster's machines."""
    (network,) = json.loads(podman("network", "inspect", f"kirsch-{cluster}"))
    prefix = network["subnets"][0]["subnet"].removesuffix("0/24")
    host = BareHost(f"{cluster}-bare", f"kirsch-{cluster}", f"{prefix}60", tmp_path, Runner())
    host.start()
    yield host
    host.remove()


@pytest.fixture
def modern(cluster, tmp_path):
    """A host with all that the flat network is made of: a machine's packages, and nothing of kirsch's."""
    (network,) = json.loads(podman("network", "inspect", f"kirsch-{cluster}"))
    address = network["subnets"][0]["subnet"].removesuffix("0/24") + "61"
    image = Images(Runner()).base()
    host = BareHost(f"{cluster}-modern", f"kirsch-{cluster}", address, tmp_path, Runner(), image)
    host.start()
    yield host
    host.remove()


@pytest.fixture
def kirsch(computer, cluster):
    def verb(*arguments, status=0):
        done = computer.kirsch("--cluster", cluster, *arguments)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return verb


def numbers(container):
    """The keys of numbers in the flat network that are given."""
    return podman(
        "exec", container, "sh", "-c",
        f"{ETCDCTL} --endpoints=https://$(hostname -i | cut -d' ' -f1):2379 get --prefix --keys-only "
        "/kirsch/v1/machine-numbers/",
    ).split()  # fmt: skip


def test_a_bare_host_joins_runs_units_and_leaves_as_it_was(computer, cluster, bare, kirsch, tmp_path):
    before, keys = bare.files(), bare.shell(KEYS)
    done = kirsch("cluster", "add", "bare-user", "--ssh-config", str(bare.config), "--metadata", "zone=d")
    assert f"bare is a machine of {cluster}, at {bare.address}" in done.stdout
    ingress = ("exec", f"kirsch-{cluster}-ingress", "cat", CONFIGURATION)
    assert f"server bare {bare.address}:9\n" in podman(*ingress)
    assert "its podman is 4.3.1, and Quadlet came with 4.4: it runs no .container" in done.stdout
    machines = json.loads(kirsch("cluster", "status", cluster, "--json").stdout)["machines"]
    assert [(m["machine"], m["kirschd"], m["container"]) for m in machines][-1] == ("bare", "ready", "")
    twice = kirsch("cluster", "add", "bare", "--ssh-config", str(bare.config), "--name", "other", status=1)
    assert "is bare already" in twice.stderr

    (tmp_path / "here.service").write_text(SLEEP + HERE)
    (tmp_path / "here.container").write_text("[Container]\nImage=nothing\n" + HERE)
    kirsch("start", str(tmp_path / "here.service"))
    assert bare.shell("systemctl is-active here.service") == "active\n"
    kirsch("start", "--no-block", str(tmp_path / "here.container"))
    eventually(lambda: "runs no .container units" in kirsch("why", "here.container").stdout)
    kirsch("destroy", "here.container")

    # A unit that can go nowhere else keeps the host; one that can goes.
    kept = kirsch("cluster", "remove", "n1", status=1)
    assert "keeps the cluster's images" in kept.stderr
    (tmp_path / "here.service").write_text(SLEEP)
    kirsch("submit", "--replace", str(tmp_path / "here.service"))
    # One that does not leave after all is an ingress as before.
    bare.shell("systemctl stop ssh")
    kept = kirsch("cluster", "remove", "bare", status=1)
    assert "kirsch: kirschd: " in kept.stderr
    assert f"server bare {bare.address}:9\n" in podman(*ingress)
    bare.shell("systemctl start ssh")
    gone = kirsch("cluster", "remove", "bare")
    assert gone.stdout.endswith(f"bare is no machine of {cluster} any more\n")
    assert "server bare" not in podman(*ingress)
    assert bare.files() - before == set()
    assert bare.shell(KEYS) == keys
    assert bare.shell("systemctl list-units --all --plain --no-legend 'here*' 'kirsch*'") == ""
    (unit,) = json.loads(kirsch("list-units", "--json").stdout)
    assert unit["active"] == "active"
    assert unit["machine_address"] != bare.address
    kirsch("destroy", "here.service")
    config = kirsch("cluster", "ssh-config", cluster).stdout
    assert "bare" not in config


@pytest.fixture(scope="module")
def package():
    """The Debian package for such a host."""
    subprocess.run(["make", "deb", "RELEASES=bookworm"], cwd=ROOT, check=True, capture_output=True)
    return max((ROOT / "dist").glob("kirsch_*~deb12_*.deb"), key=os.path.getmtime)


@pytest.mark.timeout(1800)
def test_a_host_joins_with_the_debian_package_and_leaves_as_it_was(cluster, package, bare, kirsch, tmp_path):
    before = bare.files()
    add = ["cluster", "add", "bare", "--ssh-config", str(bare.config), "--metadata", "zone=d", "--from"]
    wrong = kirsch(*add, str(tmp_path / "nothing.deb"), status=1)
    assert "is neither a Debian package (.deb) nor a folder of wheels" in wrong.stderr
    done = kirsch(*add, str(package))
    assert f"bare is a machine of {cluster}, at {bare.address}" in done.stdout
    assert bare.shell("dpkg-query --show --showformat '${db:Status-Status}' kirsch") == "installed"
    assert bare.shell("readlink /opt/kirsch") == "/usr/lib/kirsch\n"
    assert "(compiled)" in bare.shell("kirsch version")
    (tmp_path / "here.service").write_text(SLEEP + HERE)
    kirsch("start", str(tmp_path / "here.service"))
    assert bare.shell("systemctl is-active here.service") == "active\n"
    kirsch("destroy", "here.service")
    kirsch("cluster", "remove", "bare")
    assert bare.files() - before == set()


def test_a_host_that_joins_is_in_the_flat_network_and_leaves_nothing_of_it(cluster, modern, kirsch, tmp_path):
    first = f"kirsch-{cluster}-n1"
    add = ["cluster", "add", "bare", "--ssh-config", str(modern.config), "--metadata", "zone=d"]
    modern.shell(
        "ip link add taken type bridge && ip address add 10.210.5.1/24 dev taken && ip link set taken up"
    )
    refused = kirsch(*add, status=1).stderr.splitlines()[-1]
    assert "it has a route to 10.210.5.0/24, which the cluster's subnet 10.210.0.0/16 overlaps" in refused
    modern.shell("ip link delete taken")
    before = modern.files()
    kirsch(*add)
    modern.shell(IMAGE)
    (tmp_path / "there.container").write_text(f"{WEB}MachineMetadata=zone=d\n")
    kirsch("start", str(tmp_path / "there.container"))
    (unit,) = [u for u in json.loads(kirsch("list-units", "--json").stdout) if u["name"] == "there.container"]
    hostname = modern.shell("podman inspect systemd-there --format '{{.Config.Hostname}}'").strip()
    asked = podman("exec", first, "python3", "-c", ASK % (unit["address"], 10))
    assert (unit["address"].startswith("10.210."), asked.strip()) == (True, hostname)
    peers = ("exec", first, "bridge", "fdb", "show", "dev", "kirsch-vx0")
    assert f"dst {modern.address} " in podman(*peers)

    kirsch("destroy", "there.container")
    # One that cannot be reached may be there all the same: nobody else gets its number.
    modern.shell("systemctl stop ssh")
    assert "its number in the flat network stays" in " ".join(
        kirsch("cluster", "remove", "bare", "--force").stdout.split()
    )
    assert len(numbers(first)) == 3
    # It still runs, and nobody sends it anything of the flat network any more.
    eventually(lambda: f"dst {modern.address} " not in podman(*peers))
    id = modern.shell("cat /etc/machine-id").strip()
    there = kirsch("cluster", "remove", id, "--force", status=1)
    assert f"machine {id} is there, and uses its number" in there.stderr
    modern.shell("systemctl start ssh")
    kirsch(*add)
    kirsch("cluster", "remove", "bare")
    modern.shell("podman rmi --force flat:1")
    assert "kirsch" not in modern.shell("ip -brief link; podman network ls; ls /etc/containers/networks || :")
    # podman keeps locks and caches of its own.
    left = {path for path in modern.files() - before if "/containers" not in path}
    assert left == set()
    eventually(lambda: f"dst {modern.address} " not in podman(*peers))
    assert len(numbers(first)) == 2
    # Of one that is gone for good.
    kirsch("cluster", "remove", "0" * 32, "--force")


def test_a_removed_host_is_refused_by_api_etcd_and_network_and_when_it_comes_back(
    computer, cluster, modern, kirsch, tmp_path
):
    first = f"kirsch-{cluster}-n1"
    kirsch("cluster", "add", "bare", "--ssh-config", str(modern.config))
    id = modern.shell("cat /etc/machine-id").strip()
    (tmp_path / "everywhere.service").write_text(f"{SLEEP}[X-Kirsch]\nGlobal=true\n")
    kirsch("start", str(tmp_path / "everywhere.service"))
    runs = "systemctl is-active everywhere.service || :"
    eventually(lambda: modern.shell(runs) == "active\n")

    address = podman("exec", first, "hostname", "-i").split()[0]
    status = f"curl --silent --output /dev/null --write-out '%{{http_code}}' {TLS} https://{address}:7117"
    api = f"{status}/kirsch/v1/machines || :"
    etcd = f"{ETCDCTL} --endpoints=https://{address}:2379 get / >/dev/null 2>&1 && echo known || :"

    def flat(shell):
        (bridge,) = json.loads(shell("ip -json address show dev kirsch0"))
        return next(each["local"] for each in bridge["addr_info"] if each["family"] == "inet")

    def at_first(script):
        return podman("exec", first, "sh", "-c", script)

    pings = "ping -c 1 -W 1 {} >/dev/null && echo yes || :"
    there, back = pings.format(flat(at_first)), pings.format(flat(modern.shell))
    assert (modern.shell(api), modern.shell(etcd)) == ("200", "known\n")
    eventually(lambda: (modern.shell(there), at_first(back)) == ("yes\n", "yes\n"))

    # It runs on, with its old connection to etcd, and its root can do as if nothing had happened.
    modern.shell("systemctl stop ssh")
    kirsch("cluster", "remove", "bare", "--force")
    assert modern.shell(api) == "403"
    eventually(lambda: modern.shell(etcd) == "")
    peers = f"bridge fdb append 00:00:00:00:00:00 dev kirsch-vx0 dst {address} 2>/dev/null || :"
    modern.shell(f"systemctl kill --signal STOP kirschd; ip link set kirsch-vx0 up; {peers}")
    assert (modern.shell(there), at_first(back)) == ("", "")
    assert f"dst {address} " in modern.shell("bridge fdb show dev kirsch-vx0")

    modern.reboot()
    waits = "systemctl show --property StatusText kirschd || :"
    eventually(lambda: "waits for the store" in modern.shell(waits))
    assert (modern.shell(api), modern.shell(etcd), modern.shell(there), at_first(back)) == ("403", "", "", "")
    assert modern.shell(runs) == "inactive\n"
    assert id not in [machine["id"] for machine in json.loads(kirsch("list-machines", "--json").stdout)]
    kirsch("destroy", "everywhere.service")
    # Once its lease has ended its number is anybody's.
    forget = ("--cluster", cluster, "cluster", "remove", id, "--force")
    eventually(lambda: computer.kirsch(*forget).returncode == 0)


def test_what_fails_half_way_leaves_the_host_as_it_was(cluster, bare, kirsch):
    before, keys = bare.files(), bare.shell(KEYS)
    # Nothing fits into /opt.
    bare.shell("mount -t tmpfs -o size=256k none /opt")
    done = kirsch("cluster", "add", "bare", "--ssh-config", str(bare.config), status=1)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("kirsch: kirsch: bare: ")
    assert last.endswith("; nothing is left behind")
    assert "No space left" in last
    assert bare.shell("ls /opt") == ""
    bare.shell("umount /opt")
    assert bare.files() - before == set()
    assert bare.shell(KEYS) == keys
    assert "bare" not in kirsch("cluster", "ssh-config", cluster).stdout


def test_who_cannot_log_in_is_told_what_to_do(bare, kirsch, tmp_path):
    stranger = tmp_path / "stranger"
    stranger.write_text(bare.config.read_text().replace(f"{bare.folder}/known", "/dev/null"))
    done = kirsch("cluster", "add", "bare", "--ssh-config", str(stranger), status=1)
    assert "its host key is not known here" in done.stderr
    bare.shell(f"rm /home/{USER}/.ssh/authorized_keys")
    done = kirsch("cluster", "add", "bare-user", "--ssh-config", str(bare.config), status=1)
    assert "ssh-copy-id" in done.stderr
    nobody = kirsch("cluster", "add", "nobody.invalid", "--ssh-config", str(bare.config), status=1)
    assert nobody.stderr.startswith("kirsch: login: nobody.invalid: ")


def test_a_host_without_a_way_to_the_registry_is_refused(cluster, bare, kirsch):
    before = bare.files()
    # The first machine's address is its own now: nobody listens there.
    bare.shell(f"ip address add {bare.address.removesuffix('60')}11/32 dev lo")
    done = kirsch("cluster", "add", "bare", "--ssh-config", str(bare.config), status=1)
    assert "it does not reach the cluster's etcd" in done.stderr
    assert "Connection refused" in done.stderr
    assert bare.files() - before == set()


def test_a_machine_that_is_a_container_leaves_with_all_that_it_was(cluster, kirsch, tmp_path):
    machines = json.loads(kirsch("list-machines", "--json").stdout)
    number = {machine["metadata"]["hostname"]: machine["id"] for machine in machines}
    only = "\n[X-Kirsch]\nMachineMetadata=zone=b\n"
    (tmp_path / "data.service").write_text(f"{SLEEP}{only}Sticky=yes\n")
    (tmp_path / "free.service").write_text(SLEEP)
    kirsch("start", str(tmp_path / "data.service"), str(tmp_path / "free.service"))
    kept = kirsch("cluster", "remove", "n2", status=1)
    assert "not all units leave it: data.service" in kept.stderr
    # It is as it was before.
    (state,) = [m for m in json.loads(kirsch("list-machines", "--json").stdout) if m["id"] == number["n2"]]
    assert (state["cordoned"], state["drained"]) == (False, False)
    before = traces(cluster, [])
    kirsch("cluster", "remove", "n2", "--force")
    assert [line for line in traces(cluster, []) if f"{cluster}-n2" in line] == []
    assert [line for line in before if f"{cluster}-n2" in line]
    (free,) = [u for u in json.loads(kirsch("list-units", "--json").stdout) if u["name"] == "free.service"]
    assert (free["machine"], free["active"]) == (number["n1"], "active")
    assert "data.service: " in kirsch("why", "data.service").stdout
    kirsch("destroy", "data.service", "free.service")
    known = json.loads(kirsch("cluster", "status", cluster, "--json").stdout)["machines"]
    assert [machine["machine"] for machine in known] == ["n1"]
    asked = "curl --silent --unix-socket /run/kirsch/kirsch.sock http://localhost/kirsch/v1/certificates"
    listed = json.loads(podman("exec", f"kirsch-{cluster}-n1", "sh", "-c", asked))["certificates"]
    revoked = {each["name"]: each["revoked"] for each in listed}
    assert revoked.pop("n1") is False
    # Besides n2 these are hosts that other tests here had join and leave.
    assert revoked.pop("n2") is True
    assert all(revoked.values())


def test_destroying_a_cluster_frees_the_hosts_that_joined(computer, bare, cluster, kirsch):
    """The last test here: it takes the cluster away."""
    before, keys = bare.files(), bare.shell(KEYS)
    kirsch("cluster", "add", "bare", "--ssh-config", str(bare.config))
    # It is in the network of the cluster's machines, and no part of the cluster: it is not to go with it.
    done = kirsch("cluster", "destroy", cluster, status=1)
    assert "network: " in done.stderr
    assert bare.files() - before == set()
    assert bare.shell(KEYS) == keys
    bare.remove()
    kirsch("cluster", "destroy", cluster)
    assert parts(cluster) == []
