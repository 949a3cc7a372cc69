"""What clusters are made of, as values: what people ask for, sites, commands, settings, sources."""

import json
import re
import shlex
import subprocess
from dataclasses import replace
from ipaddress import IPv4Network
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.network.subnet import hardware_address
from kirsch.cluster.node.settings import Settings
from kirsch.cluster.provision import install, podman, probe, recipe
from kirsch.cluster.provision.create import planned
from kirsch.cluster.provision.image import bootstrap, inspectable
from kirsch.cluster.provision.record import ClusterRecord, ProvisionError
from kirsch.cluster.provision.settings import KIRSCHD, etcd_environment, kirschd_toml
from kirsch.cluster.provision.shell import HostShell, known_host, ssh_config
from kirsch.cluster.provision.specification import (
    FIRST_PORT,
    MAX_MACHINES,
    PORTS,
    Site,
    Specification,
    metadata_of_one,
    sites,
)
from kirsch.unit import UnitFile

SITE = Site(IPv4Network("10.201.7.0/24"), 21280)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def cluster(machines=3, *metadata):
    return planned(Specification.parse("blue", machines, metadata), "c0ffee", SITE)


def test_metadata_is_for_all_for_one_after_another_or_for_one():
    asked = Specification.parse("blue", 3, ["disk=ssd,zone=a/b", "n3:zone=x"])
    assert asked.metadata == (
        {"disk": "ssd", "zone": "a"}, {"disk": "ssd", "zone": "b"}, {"disk": "ssd", "zone": "x"},
    )  # fmt: skip
    assert metadata_of_one(["zone=a", "disk=ssd,size=1"]) == {"zone": "a", "disk": "ssd", "size": "1"}


@pytest.mark.parametrize(
    ("name", "count", "metadata", "published", "words"),
    [
        ("Blue", 1, [], [], "'Blue' cannot be a cluster's name"),
        ("-blue", 1, [], [], "cannot be a cluster's name"),
        ("../etc", 1, [], [], "cannot be a cluster's name"),
        ("b" * 33, 1, [], [], "at most 32"),
        ("blue", MAX_MACHINES + 1, [], [], f"1 to {MAX_MACHINES} machines"),
        ("blue", 1, ["zone"], [], "write KEY=VALUE"),
        ("blue", 1, ["zone="], [], "write KEY=VALUE"),
        ("blue", 1, ["n2:zone=a"], [], "there is no machine n2; there are n1"),
        ("blue", 2, ["n2:zone=a/b"], [], "one machine has one value of zone"),
        ("blue", 1, [], ["7070"], "write PORT-HERE:PORT-OF-THE-MACHINE"),
        ("blue", 1, [], ["0:80"], "write PORT-HERE:PORT-OF-THE-MACHINE"),
        ("blue", 1, [], ["70000:80"], "write PORT-HERE:PORT-OF-THE-MACHINE"),
        ("blue", 1, [], ["80:1", "80:2"], "port 80 of this computer is given twice"),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_line(name, count, metadata, published, words):
    with pytest.raises(ProvisionError) as refused:
        Specification.parse(name, count, metadata, published)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_site_is_free_in_both_its_subnet_and_its_ports():
    taken = [IPv4Network("10.201.0.0/23"), IPv4Network("10.201.3.128/25")]
    # A port of the site that would be at 10.201.2.0.
    busy = FIRST_PORT + 2 * PORTS + 5
    found = list(islice(sites(3, taken, lambda port: port != busy), 2))
    assert [str(site.subnet) for site in found] == ["10.201.4.0/24", "10.201.5.0/24"]
    assert next(sites(2, taken, lambda port: port != busy)).subnet == IPv4Network("10.201.2.0/24")
    assert list(sites(1, [IPv4Network("10.0.0.0/8")], lambda port: True)) == []


def test_no_two_sites_share_a_port_or_leave_room_for_the_kernels_own():
    every = list(sites(MAX_MACHINES, [], lambda port: True))
    ports = [
        port for site in every for n in range(MAX_MACHINES) for port in (site.ssh_port(n), site.api_port(n))
    ]
    assert len(set(ports)) == len(ports)
    assert max(ports) < 32768


def test_etcd_is_on_one_machine_or_on_three():
    assert [len(cluster(count).members) for count in (1, 2, 3, 5)] == [1, 1, 3, 3]


def test_a_record_comes_back_as_it_was_saved_for_its_owner_alone():
    record = cluster(3, "zone=a/b/c")
    record.save()
    assert ClusterRecord.load("blue") == record
    assert ClusterRecord.names() == ["blue"]
    assert record.folder.stat().st_mode & 0o777 == 0o700
    assert (record.folder / "cluster.json").stat().st_mode & 0o777 == 0o600
    changed = ClusterRecord.change("blue", lambda now: replace(now, complete=True))
    assert ClusterRecord.load("blue") == changed != record


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machines": [{"name": 1}], "published": []}', "\0"])
def test_a_record_that_is_none_is_an_error_in_a_line(text):
    cluster().save()
    (cluster().folder / "cluster.json").write_text(text)
    with pytest.raises(ProvisionError, match=r"cluster\.json: "):
        ClusterRecord.load("blue")


def test_a_record_of_a_newer_kirsch_is_told_as_that():
    cluster().save()
    path = cluster().folder / "cluster.json"
    for place in (lambda known: known, lambda known: known["machines"][0]):
        known = json.loads(path.read_text())
        place(known)["colour"] = "blue"
        path.write_text(json.dumps(known))
        with pytest.raises(ProvisionError, match=r"a newer kirsch wrote it, for colour is not known"):
            ClusterRecord.load("blue")
        cluster().save()


def test_a_cluster_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(ProvisionError, match="there is no cluster green; make one"):
        ClusterRecord.load("green")
    cluster().save()
    with pytest.raises(ProvisionError, match="there is no cluster green; there are blue"):
        ClusterRecord.load("green")


def test_a_machine_is_found_by_name_address_id_and_its_beginning():
    record = cluster()
    second = record.machines[1]
    for name in ("n2", second.address, second.id, second.id[:8], f"{second.id[:8]}..."):
        assert record.machine(name) == second
    with pytest.raises(ProvisionError, match="cluster blue has no machine n9; it has n1, n2, n3"):
        record.machine("n9")


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9_.-]{1,9}", fullmatch=True),
        st.from_regex(r"[^\s,/=\"\\\x00-\x1f\x7f-\xa0]{1,9}", fullmatch=True).filter(str.isprintable),
    )
)
def test_kirschd_reads_the_settings_that_we_write(metadata):
    record = cluster()
    machine = replace(record.machines[0], metadata=metadata)
    settings = Settings.parse(kirschd_toml(record, machine))
    assert (settings.cluster, settings.name, settings.address) == (record.id, "n1", "10.201.7.11")
    assert settings.metadata == metadata
    assert settings.etcd == tuple(f"https://10.201.7.{n}:2379" for n in (11, 12, 13))
    assert settings.listen == ("0.0.0.0", 7117)
    assert settings.certificates is not None


def test_etcd_speaks_tls_to_clients_and_peers_alike():
    record = cluster()
    lines = dict(line.split("=", 1) for line in etcd_environment(record, record.machines[1]).splitlines())
    for peer in ("", "PEER_"):
        assert lines[f"ETCD_{peer}CLIENT_CERT_AUTH"] == "true"
    assert all("http://" not in value for value in lines.values())
    assert lines["ETCD_INITIAL_CLUSTER"].split(",")[1] == "n2=https://10.201.7.12:2380"
    assert lines["ETCD_INITIAL_CLUSTER_TOKEN"] == record.id


@pytest.mark.services
def test_etcd_knows_each_of_its_settings():
    """etcd warns of a variable that it does not know, and goes on without it."""
    record = cluster()
    names = [line.partition("=")[0] for line in etcd_environment(record, record.machines[1]).splitlines()]
    flags = set(
        re.findall(r"--([a-z-]+)", subprocess.run(["etcd", "--help"], capture_output=True, text=True).stdout)
    )
    assert [name for name in names if name.removeprefix("ETCD_").lower().replace("_", "-") not in flags] == []


def test_kirschd_is_told_ready_watched_and_started_again():
    unit = UnitFile.parse(KIRSCHD.encode(), "kirschd.service")
    values = {
        name: unit.get("Service", name).value for name in ("Type", "WatchdogSec", "Restart", "ExecStart")
    }
    assert values == {
        "Type": "notify", "WatchdogSec": "30", "Restart": "always",
        "ExecStart": "/opt/kirsch/bin/kirschd --config /etc/kirsch/kirschd.toml",
    }  # fmt: skip


def test_ssh_itself_reads_our_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "a folder"))
    record = cluster()
    config = tmp_path / "config"
    config.write_text(ssh_config(record))
    for name in ("n2", "blue-n2"):
        shown = subprocess.run(["ssh", "-G", "-F", config, name], capture_output=True, text=True, check=True)
        values = dict(line.split(" ", 1) for line in shown.stdout.splitlines() if " " in line)
        assert (values["hostname"], values["port"], values["user"]) == ("127.0.0.1", "21282", "root")
        assert values["identityfile"] == str(record.folder / "ssh/id_ed25519")
        assert values["userknownhostsfile"] == str(record.folder / "ssh/known_hosts")
        assert values["stricthostkeychecking"] == "true"
        assert (values["serveraliveinterval"], values["serveralivecountmax"]) == ("5", "4")
    assert known_host(record.machines[1], "ssh-ed25519 AAAA") == "[127.0.0.1]:21282 ssh-ed25519 AAAA\n"


def test_a_machines_container_has_its_ports_address_and_limits():
    record = cluster()
    argv = podman.create_machine(record, record.machines[0], "image", podman.Limits(1000, 200)).argv
    text = shlex.join(argv)
    assert "--publish 127.0.0.1:21280:22 --publish 127.0.0.1:21281:7117" in text
    assert "--ip 10.201.7.11 --mac-address 02:6b:0a:c9:07:0b" in text
    assert "--ulimit nofile=1000:1000 --ulimit nproc=200:200" in text
    assert "--add-host n2:10.201.7.12 --add-host n3:10.201.7.13" in text
    assert hardware_address("10.201.0.11") != hardware_address("10.201.1.11")


def test_what_a_mirror_is_called_never_stands_in_a_commands_arguments():
    command = bootstrap("out.tar", "deb http://me:secret@mirror/debian trixie main\n")
    assert not any("mirror" in word or "secret" in word for word in command.argv)
    assert b"secret" in command.input
    assert "secret" not in repr(command)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("debian", "debian"),
        ("debian:trixie-slim", "debian:trixie-slim"),
        ("debian@sha256:5", "debian@sha256:5"),
        ("debian:trixie-slim@sha256:5", "debian@sha256:5"),
        ("here:5000/base@sha256:5", "here:5000/base@sha256:5"),
        ("here:5000/base:1@sha256:5", "here:5000/base@sha256:5"),
    ],
)
def test_podman_is_asked_for_a_tag_or_a_digest(reference: str, expected: str):
    assert inspectable(reference) == expected


def test_sources_are_read_in_both_forms():
    lists = {
        "sources.list": "# deb http://no/ bookworm main\n"
        "deb [signed-by=/k] http://one/debian bookworm main contrib\n"
        "deb-src http://no/ bookworm main\ndeb http://two/security bookworm-security main\n",
    }
    stanzas = {
        "debian.sources": "Types: deb deb-src\nURIs: http://one/debian\nSuites: bookworm bookworm-updates\n"
        "Components: main\nSigned-By: /k\n\nTypes: deb\nURIs: http://two/security\n"
        "Suites: bookworm-security\nComponents: main\n\nEnabled: no\nTypes: deb\nURIs: http://no\n"
        "Suites: trixie\nComponents: main\n",
    }
    wanted = "deb http://one/debian trixie main\ndeb http://two/security trixie-security main\n"
    assert recipe.mirror_lines(lists, "trixie") == wanted
    assert recipe.mirror_lines(stanzas, "trixie") == wanted
    assert recipe.mirror_lines({"sources.list": "deb http://x jammy main"}, "trixie") == ""


@given(st.dictionaries(st.sampled_from(["a.list", "b.sources"]), st.text()))
def test_no_source_file_breaks_it(texts):
    recipe.mirror_lines(texts, "trixie")


def test_an_image_is_another_when_what_it_is_made_of_is():
    assert recipe.node_digest("x86_64", ["a", "b"]) == recipe.node_digest("x86_64", ["b", "a"])
    digests = {
        recipe.node_digest("x86_64", ["a"]), recipe.node_digest("x86_64", ["b"]),
        recipe.node_digest("aarch64", ["a"]), recipe.base_digest("x86_64"), recipe.base_digest("aarch64"),
    }  # fmt: skip
    assert len(digests) == 5


FACTS = {
    "python": [3, 13], "venv": True, "architecture": "x86_64", "libc": ["glibc", "2.41"], "systemd": True,
    "dbus": True, "machine_id": "0" * 32, "hostname": "h", "podman": "5.4.2", "host_keys": [], "cluster": "",
    "listened": False, "unreached": {"10.0.0.1:2379": ""}, "networks": [],
}  # fmt: skip


def facts(**changed):
    return probe.Facts.parse(json.dumps({**FACTS, **changed}))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"python": [3, 9]}, "its Python is 3.9; kirsch needs one of 3.11 to 3.14"),
        ({"python": [3, 15]}, "its Python is 3.15"),
        ({"venv": False}, "apt-get install python3-venv"),
        ({"libc": ["", ""]}, "glibc 2.17"),
        ({"libc": ["glibc", "2.12"]}, "glibc 2.17"),
        ({"systemd": False}, "systemd does not run"),
        ({"dbus": False}, "D-Bus does not run"),
        ({"cluster": "beef"}, "a machine of another cluster (beef)"),
        ({"listened": True}, "another program listens at its port 7117"),
        ({"unreached": {"10.0.0.1:2379": "No route to host"}}, "(10.0.0.1:2379: No route to host)"),
    ],
)
def test_a_host_that_cannot_join_is_told_why(changed, words):
    assert words in facts(**changed).refusal("c0ffee")


def test_a_host_that_can_join_may_have_been_one_of_us():
    assert facts().refusal("c0ffee") == ""
    assert facts(cluster="c0ffee", listened=True).refusal("c0ffee") == ""
    assert facts(libc=["glibc", "2.36"]).target.platforms[0] == "manylinux_2_36_x86_64"


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("", "it has no podman, and runs no .container"),
        ("4.3.1", "its podman is 4.3.1, and Quadlet came with 4.4: it runs no .container"),
        ("4.9.3", "its podman is 4.9.3, too old for .pod, .build units"),
        ("5.4.2", ""),
    ],
)
def test_what_a_hosts_podman_cannot_run_is_said_with_the_reason(version, words):
    assert facts(podman=version).lacks().startswith(words)
    assert bool(facts(podman=version).lacks()) == bool(words)


@pytest.mark.parametrize("text", ["", "Welcome!\n", "{}", '{"python": [3, 11]}', "[1]"])
def test_a_host_that_says_something_else_is_an_error(text):
    with pytest.raises(ProvisionError, match="said something else"):
        probe.Facts.parse(text)


def test_this_computer_answers_the_probe():
    script, given_ = probe.script([("127.0.0.1", 1)])
    done = subprocess.run(["sh", "-c", script], input=given_, capture_output=True, timeout=60, check=True)
    found = probe.Facts.parse("a greeting\n" + done.stdout.decode())
    assert found.libc[0] == "glibc"
    assert found.unreached == {"127.0.0.1:1": "Connection refused"}


def test_keys_that_let_people_in_come_once_and_go_alone(tmp_path):
    def run(script):
        home = f"HOME={tmp_path}; "
        text = (home + script).replace("~root", "$HOME").replace("chown root: ", "true ")
        subprocess.run(["sh", "-c", text], check=True)

    file = tmp_path / ".ssh/authorized_keys"
    ours, theirs = "ssh-ed25519 AAAA it's ours", "ssh-ed25519 BBBB a.*b\n"
    file.parent.mkdir()
    file.write_text(theirs.rstrip())  # as editors leave it
    for _ in range(2):
        run(install.authorize("root", ours))
    assert file.read_text() == f"{theirs}{ours}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    run(install.unauthorize("root", ours))
    assert file.read_text() == theirs


def test_a_script_goes_through_ssh_and_sudo_as_it_is():
    script = "echo \"a b\" '$x' | cat"
    argv = HostShell("me@there", port=2222, sudo=True).command(script).argv
    assert argv[-3:-1] == ("--", "me@there")
    assert shlex.split(argv[-1]) == ["sudo", "-n", "sh", "-c", script]
    assert argv[argv.index("-p") :][:2] == ("-p", "2222")
