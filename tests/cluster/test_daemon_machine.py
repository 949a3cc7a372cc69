"""kirschd on a machine: who it lets in, what it does while the store is away, and what it tells systemd."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cherrypy.process.wspbus import Bus
from tests.cli.application import wait_for
from tests.cluster.etcd_server import Authority, EtcdServer, free_ports, needs_etcd
from tests.cluster.members import MemberMachine, Members, members

from kirsch.bus import AsyncioPlugin
from kirsch.cluster.api.client import ClientError
from kirsch.cluster.daemon.command import beats
from kirsch.cluster.node.settings import Settings, SettingsError

pytestmark = [needs_etcd, pytest.mark.services]

SLEEPER = "[Service]\nExecStart=sleep 1000\n"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    """One machine."""
    with members(tmp_path_factory.mktemp("machine"), 1) as made:
        yield made


@pytest.fixture
def machine(cluster: Members) -> MemberMachine:
    return cluster.machines[0]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another cluster's authority."""
    return Authority(tmp_path_factory.mktemp("stranger"))


def log_since(machine: MemberMachine, size: int) -> list[str]:
    return machine.log.read_bytes()[size:].decode().splitlines()


class TestWhoIsLetIn:
    def test_sockets_are_their_owners_alone(self, machine: MemberMachine):
        for name in ("kirsch.sock", "endpoints.sock"):
            mode = (machine.folder / "run" / name).stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600

    def test_by_unix_socket(self, cluster: Members, machine: MemberMachine):
        shown = cluster.ok("list-machines", "--full", KIRSCH_ENDPOINT=f"unix://{machine.socket}")
        assert machine.id in shown

    def test_a_certificate_of_another_authority(
        self, cluster: Members, machine: MemberMachine, stranger: Authority
    ):
        size = machine.log.stat().st_size
        theirs = stranger.certificates("person")
        # They do not believe us, ...
        error = cluster.fails("list-units", certificates=theirs)
        assert error.startswith("no machine of ")
        assert "its certificate is not of this cluster's authority" in error
        [line] = wait_for(lambda: log_since(machine, size), "a line")
        # ... and we do not believe them.
        size = machine.log.stat().st_size
        mixed = type(theirs)(cluster.certificates.authority, theirs.certificate, theirs.key)
        error = cluster.fails("list-units", certificates=mixed)
        assert "does not accept this certificate: it is another cluster's" in error
        [line] = wait_for(lambda: log_since(machine, size), "a line")
        assert "127.0.0.1" in line
        assert "certificate" in line
        assert cluster.ok("list-machines")

    @pytest.mark.parametrize("speaks", ["TLS without a certificate", "TLS 1.2", "HTTP", "noise"])
    def test_nobody_without_a_certificate(self, cluster: Members, machine: MemberMachine, speaks: str):
        context = ssl.create_default_context(cafile=cluster.certificates.authority)
        if speaks == "TLS 1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(cluster.certificates.certificate, cluster.certificates.key)
        received = b""
        with socket.create_connection((machine.address, machine.port), 10) as sock:
            try:
                if speaks.startswith("TLS"):
                    sock = context.wrap_socket(sock, server_hostname=machine.address)
                sock.sendall(
                    b"\x00" * 1000
                    if speaks == "noise"
                    else b"GET /kirsch/v1/units HTTP/1.1\r\nHost: x\r\n\r\n"
                )
                received = sock.recv(4096)
            except OSError:
                pass
        # Plain HTTP may be told in plain HTTP that this is TLS.
        assert not received or received.startswith(b"HTTP/1.1 400")
        assert cluster.ok("list-machines")

    def test_fleets_api_over_tls(self, cluster: Members, machine: MemberMachine):
        """What fleetctl does with --cert-file, --key-file, --ca-file and --endpoint=https://…"""
        connection = http.client.HTTPSConnection(
            machine.address, machine.port, context=cluster.certificates.client(), timeout=30
        )
        options = [{"section": "Service", "name": "ExecStart", "value": "sleep 1000"}]
        body = json.dumps({"name": "f.service", "options": options, "desiredState": "launched"})
        headers = {"Content-Type": "application/json"}
        connection.request("PUT", "/fleet/v1/units/f.service", body, headers)
        with connection.getresponse() as answer:
            assert (answer.status, answer.read()) == (201, b"")

        def state() -> str:
            connection.request("GET", "/fleet/v1/state?unitName=f.service")
            with connection.getresponse() as answer:
                return "".join(s["systemdActiveState"] for s in json.load(answer).get("states", ()))

        wait_for(lambda: state() == "active", "it runs")
        connection.request("DELETE", "/fleet/v1/units/f.service", headers=headers)
        with connection.getresponse() as answer:
            assert answer.status == 204
        connection.close()

    @pytest.mark.soak
    @pytest.mark.slow
    def test_500_that_say_nothing_disturb_nobody(self, cluster: Members, machine: MemberMachine):
        """Half of them over TCP, where they do not even begin TLS; half at the Unix socket."""
        silent = []
        try:
            for _ in range(250):
                silent.append(socket.create_connection((machine.address, machine.port), 10))
                silent.append(socket.socket(socket.AF_UNIX))
                silent[-1].connect(str(machine.socket))
            client = machine.client(cluster.certificates)
            slowest = 0.0
            for _ in range(20):
                began = time.monotonic()
                assert client.get("/kirsch/v1/daemon")["machine"] == machine.id
                slowest = max(slowest, time.monotonic() - began)
            assert slowest < 2.0
            client.close()
            assert cluster.ok("list-machines", KIRSCH_ENDPOINT=f"unix://{machine.socket}")
            # And they are shown the door: in TLS without a word, for there is none yet; else with a 408.
            for sock in silent:
                sock.settimeout(60)
                said = b""
                with contextlib.suppress(ConnectionResetError):
                    while piece := sock.recv(4096):
                        said += piece
                if sock.family == socket.AF_UNIX:
                    assert said.startswith(b"HTTP/1.1 408 ")
                else:
                    assert said == b""
        finally:
            for sock in silent:
                sock.close()
        assert cluster.ok("list-machines")

    # It waits for 15 s; tests of the HTTP server have the same with less patience.
    @pytest.mark.soak
    def test_a_client_that_is_slow_times_out(self, machine: MemberMachine):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(60)
            sock.connect(str(machine.socket))
            sock.sendall(
                b"PUT /kirsch/v1/units/slow.service HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            )
            sock.sendall(b"Content-Length: 100\r\n\r\n{")
            began = time.monotonic()
            answer = sock.recv(65536)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 25  # 15 s, and once only

    def test_bodies_have_a_limit(self, cluster: Members):
        text = SLEEPER + "# A line.\n" * 110_000
        error = cluster.fails("submit", cluster.unit("large.service", text))
        assert "at most 1 MiB" in error


GOOD = """\
cluster = "c"
name = "n1"
address = "10.0.0.1"
etcd = ["https://10.0.0.1:2379"]
listen = "0.0.0.0:7117"
[tls]
authority = "/a"
certificate = "/c"
key = "/k"
"""


class TestSettings:
    def test_all_of_them(self):
        settings = Settings.parse(GOOD + '[metadata]\nzone = "a"\n')
        assert settings.listen == ("0.0.0.0", 7117)
        assert settings.metadata == {"zone": "a"}
        assert settings.certificates is not None
        assert str(settings.certificates.key) == "/k"
        assert settings.rebalance == "auto"
        assert Settings.parse('rebalance = "manual"\n' + GOOD).rebalance == "manual"

    @pytest.mark.parametrize(
        ("before", "after", "says"),
        [
            ("[tls]", "[metadata]", "listen needs [tls]"),
            ("[tls]", '[metadata]\n"a b" = "c"\n[tls]', "metadata: 'a b' is to be a key"),
            ('cluster = "c"', "cluster =", "is not TOML"),
            ('cluster = "c"', "", "cluster is missing"),
            ('name = "n1"', "name = 1", "name is to be a text"),
            ("etcd = ", "etcd2 = ", "etcd2 is no setting"),
            ('["https://10.0.0.1:2379"]', "[]", "etcd is missing"),
            ("https://10.0.0.1:2379", "10.0.0.1:2379", "is no https://ADDRESS:PORT"),
            ("https://10.0.0.1:2379", "https://10.0.0.1:x", "is no https://ADDRESS:PORT"),
            ("0.0.0.0:7117", "7117", "is no ADDRESS:PORT"),
            ("0.0.0.0:7117", "0.0.0.0:70000", "is no ADDRESS:PORT"),
            ('"/k"', '"k"', "is to be a path from the root"),
            (
                'name = "n1"',
                'name = "n1"\nrebalance = "yes"',
                "rebalance is to be one of auto, manual, not 'yes'",
            ),
            ('key = "/k"', "", "[tls] is to have authority, certificate, key"),
        ],
    )
    def test_wrong_ones(self, before: str, after: str, says: str):
        with pytest.raises(SettingsError, match=re.escape(says)) as error:
            Settings.parse(GOOD.replace(before, after))
        assert "\n" not in str(error.value)

    def fails(self, path: Path) -> str:
        """The line of a kirschd that does not start."""
        done = subprocess.run(
            [sys.executable, "-m", "kirsch.cluster.daemon", "--config", str(path)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]

    def test_plain_tcp_is_refused(self, machine: MemberMachine, tmp_path: Path):
        config = tmp_path / "kirschd.toml"
        config.write_text(machine.config.read_text().partition("[tls]")[0].replace("https:", "http:"))
        assert f"{config}: listen needs [tls]: over TCP both sides show certificates" in self.fails(config)

    def test_certificates_that_are_none(self, machine: MemberMachine, tmp_path: Path):
        config = tmp_path / "kirschd.toml"
        text = machine.config.read_text()
        config.write_text(text.replace(str(machine.certificates.key), "/nowhere.key"))
        assert "[tls]: cannot read /nowhere.key: No such file or directory" in self.fails(config)
        config.write_text(text.replace(str(machine.certificates.key), str(machine.certificates.authority)))
        assert "are not an authority, a certificate and its key" in self.fails(config)

    def test_a_port_that_is_taken(self, cluster: Members, machine: MemberMachine, tmp_path: Path):
        config = tmp_path / "kirschd.toml"
        text = machine.config.read_text()
        config.write_text(text.replace(f'run = "{machine.folder}', f'run = "{tmp_path}'))
        assert f"cannot listen on {machine.address}:{machine.port}: Address already in use" in self.fails(
            config
        )
        assert cluster.ok("list-machines")

    @pytest.mark.skipif(Path("/run/dbus/system_bus_socket").exists(), reason="systemd is there")
    def test_systemd_that_is_not_there(self, machine: MemberMachine, tmp_path: Path):
        config = tmp_path / "kirschd.toml"
        text = machine.config.read_text().replace('"process"', '"systemd"')
        text = text.replace(f":{machine.port}", f":{free_ports(machine.address, 1)[0]}", 1)
        config.write_text(text.replace(f'run = "{machine.folder}', f'run = "{tmp_path}'))
        assert "this machine cannot join: systemd cannot be asked: " in self.fails(config)

    def test_usage(self):
        done = subprocess.run(
            [sys.executable, "-m", "kirsch.cluster.daemon"], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2
        assert "give --config FILE, or --directory and --state" in done.stderr


class TestTheStoreIsAway:
    @pytest.mark.slow
    def test_what_runs_goes_on_and_verbs_say_so(self, tmp_path: Path):
        with members(tmp_path, 1) as cluster:
            [machine] = cluster.machines
            cluster.ok("start", cluster.unit("a.service", SLEEPER))
            pid = cluster.lines()["a.service"]["pid"]
            for member in cluster.etcd.members:
                member.kill()
            connection = http.client.HTTPSConnection(
                machine.address, machine.port, context=cluster.certificates.client(), timeout=60
            )
            connection.request(
                "PUT",
                "/kirsch/v1/units/a.service",
                '{"desiredState": "loaded"}',
                {"Content-Type": "application/json"},
            )
            with connection.getresponse() as answer:
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) > 0
                assert "etcd" in json.load(answer)["detail"]
            connection.close()
            assert "etcd" in cluster.fails("stop", "a")
            # What is known is told.
            assert "a.service" in cluster.ok("list-units")
            assert os.path.exists(f"/proc/{pid}")
            cluster.etcd.start(*cluster.etcd.members)
            wait_for(lambda: cluster.run("stop", "a").returncode == 0, "it can be stopped again")

    @pytest.mark.slow
    def test_a_machine_joins_when_the_store_comes(self, tmp_path: Path):
        authority = Authority(tmp_path / "tls")
        etcd = EtcdServer(tmp_path / "etcd", authority=authority)
        cluster = Members(tmp_path, etcd, authority, 1)
        [machine] = cluster.machines
        try:
            for member in etcd.members:
                member.kill()
            machine.spawn()
            machine.await_told(b"EXTEND_TIMEOUT_USEC=")
            error = cluster.fails("list-units")
            assert error == "this machine is not in the cluster yet: the store is away"
            assert cluster.fails("start", "a.service") == error
            etcd.start(*etcd.members)
            machine.await_told(b"READY=1")
            assert machine.id in cluster.ok("list-machines", "--full")
            assert machine.stop() == 0
            assert "Traceback" not in machine.log.read_text()
        finally:
            machine.close()
            etcd.stop()

    @pytest.mark.slow
    def test_it_can_be_stopped_while_it_waits(self, tmp_path: Path):
        authority = Authority(tmp_path / "tls")
        etcd = EtcdServer(tmp_path / "etcd", authority=authority)
        [machine] = Members(tmp_path, etcd, authority, 1).machines
        etcd.stop()
        try:
            machine.spawn()
            machine.await_told(b"STATUS=waits for the store")
            assert machine.stop() == 0
            assert "Traceback" not in machine.log.read_text()
        finally:
            machine.close()


class TestTheServiceManager:
    def test_no_sign_of_life_from_a_loop_that_is_stuck(self):
        loop = AsyncioPlugin(Bus())
        loop.start()
        try:
            assert beats(loop)
            stuck = threading.Event()

            async def wait() -> None:
                stuck.wait()

            future = loop.submit(wait())
            assert not beats(loop, 0.1)
            stuck.set()
            future.result(10)
            assert beats(loop)
        finally:
            loop.stop()
        assert not beats(loop)

    @pytest.mark.slow
    def test_signs_of_life_come_while_it_lives(self, cluster: Members, machine: MemberMachine):
        assert machine.stop() == 0
        machine.spawn(WATCHDOG_USEC="400000")
        machine.await_told(b"READY=1")
        machine.await_told(b"WATCHDOG=1")
        machine.await_told(b"WATCHDOG=1")
        assert machine.process is not None
        machine.process.send_signal(signal.SIGTERM)
        machine.await_told(b"STOPPING=1")
        assert machine.process.wait(60) == 0
        machine.start()
        assert "Traceback" not in machine.log.read_text()


@pytest.mark.slow
class TestThousands:
    @pytest.mark.soak
    def test_5000_units_by_one_verb(self, cluster: Members):
        """Submitted, listed, asked about, some loaded, all destroyed: and nothing of them is left in etcd."""
        folder = cluster.folder / "many"
        folder.mkdir()
        names = [f"many{number:04}.service" for number in range(5000)]
        for number, name in enumerate(names):
            (folder / name).write_text(f"[Service]\nExecStart=/bin/sleep {number}\n")
        before = cluster.etcd.etcdctl("get", "--prefix", "--keys-only", "/kirsch/v1/texts/").split()
        printed = cluster.ok("submit", *(f"many/{name}" for name in names)).splitlines()
        assert printed == [f"Unit {name} inactive" for name in names]
        listed = cluster.ok("list-unit-files", "--no-legend", "--fields", "unit").splitlines()
        assert [name for name in listed if name.startswith("many")] == names
        loaded = cluster.ok("load", *names[:50]).splitlines()
        assert len(loaded) == 50
        assert cluster.ok("destroy", *names).splitlines() == [f"Destroyed {name}" for name in names]
        assert not [name for name in cluster.lines() if name.startswith("many")]
        after = cluster.etcd.etcdctl("get", "--prefix", "--keys-only", "/kirsch/v1/texts/").split()
        assert after == before

    @pytest.mark.soak
    def test_one_request_of_5000_is_all_or_nothing(self, cluster: Members):
        changes = [{"name": f"all{number:04}.service", "text": SLEEPER} for number in range(5000)]
        changes[-1]["text"] = "[X-Kirsch]\nLinks=x\n"
        client = cluster.machines[0].client(cluster.certificates)
        with pytest.raises(ClientError, match="all4999") as error:
            client.patch("/kirsch/v1/units", {"change": changes})
        assert error.value.status == 400
        assert not [name for name in cluster.lines() if name.startswith("all")]
        changes.pop()
        assert len(client.patch("/kirsch/v1/units", {"change": changes})["created"]) == 4999
        client.patch("/kirsch/v1/units", {"destroy": [change["name"] for change in changes]})
        client.close()
        assert not [name for name in cluster.lines() if name.startswith("all")]


@pytest.mark.slow
def test_a_machine_to_which_etcd_moved_meanwhile_asks_the_others(tmp_path: Path):
    """All addresses of etcd that it knows are dead by the time it is back."""
    authority = Authority(tmp_path / "tls")
    cluster = Members(tmp_path, EtcdServer(tmp_path / "etcd", 1, authority), authority, 2)
    here, away = cluster.machines
    [member] = cluster.etcd.members
    try:
        for machine in cluster.machines:
            machine.start()
        known = away.folder / "state/machines.json"
        wait_for(lambda: known.exists() and here.id in known.read_text(), "who else is there")
        assert away.process is not None
        away.process.send_signal(signal.SIGSTOP)
        before = member.endpoint
        member.kill()
        member.endpoint = f"{before.rpartition(':')[0]}:{free_ports(member.address, 1)[0]}"
        cluster.etcd.start(member)
        here.kill()
        here.config.write_text(here.config.read_text().replace(before, member.endpoint))
        here.start()
        away.process.send_signal(signal.SIGCONT)

        def there() -> bool:
            machines = here.client(cluster.certificates).get("/kirsch/v1/machines")["machines"]
            return away.id in {machine["id"] for machine in machines}

        told = f"etcd is at {member.endpoint} by now, as another machine says"
        wait_for(lambda: told in away.log.read_text(), told)
        wait_for(there, "both in the cluster")
    finally:
        for machine in cluster.machines:
            machine.close()
        cluster.etcd.stop()
