"""`kirsch cluster rotate`: all keys are new, units run on, and a rotation that died half way goes on."""

import os
import re
import ssl
import subprocess
import tarfile

import pytest
from tests.machines.computer import KIRSCH, Computer, run

from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.api.transport import Https
from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.node.authority import Pair, authority
from kirsch.cluster.provision.keyring import generate
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord
from kirsch.cluster.provision.rotate import KNOW_USERS, Change, Phase, machine_keys, sealing, trusted
from kirsch.cluster.provision.settings import kirschd_toml
from kirsch.cluster.secrets.seal import Key, Unsealable

OLD, NEW = Key.generate(), Key.generate()
UNIT = "[Service]\nExecStart=/bin/sleep infinity\n[X-Kirsch]\nSecret=word:WORD\n"
ASK = "systemctl show -p InvocationID --value nap@1.service nap@2.service nap@3.service"


def test_from_phase_to_phase_everybody_trusts_whoever_signs_and_opens_what_is_sealed():
    before: tuple[bytes, Key] = (b"old ", OLD)
    for phase in Phase:
        now = (trusted(phase, b"old ", b"new "), sealing(phase, OLD, NEW))
        # Some machines are through, and others are not yet.
        for one, other in ((before, now), (now, before)):
            assert one[0].split()[0] in other[0].split()
            assert other[1].open("a", one[1].seal("a", b"value", 1.0)) == b"value"
        before = now
    assert before == (b"new ", NEW)


def test_a_key_of_two_lines_seals_with_the_first():
    both = Key(NEW.secret, OLD)
    assert Key.parse(both.text) == both
    assert NEW.open("a", both.seal("a", b"value", 1.0)) == b"value"
    assert both.open("a", OLD.seal("a", b"value", 1.0)) == b"value"
    with pytest.raises(Unsealable):
        both.open_alone("a", OLD.seal("a", b"value", 1.0))


@pytest.mark.parametrize("etcd", [True, False])
def test_the_authority_s_key_is_on_machines_that_keep_etcd(etcd: bool):
    made, users = authority("id"), authority("id", "kirsch users of ")
    change = Change(b"old\n", made, b"old users\n", users, "ssh", generate())
    machine = MachineRecord("n1", "1", "10.0.0.1", etcd=etcd)
    pair = Pair(b"certificate", b"key")
    files = {file.path: file for file in machine_keys(Phase.USE, change, machine, pair, NEW)}
    assert ("/etc/kirsch/tls/ca.key" in files) is etcd
    assert files["/etc/kirsch/tls/machine.key"].mode == 0o600
    assert files["/etc/kirsch/tls/ca.crt"].content == made.certificate + b"old\n"
    trusting = {file.path for file in machine_keys(Phase.TRUST, change, machine, None, NEW)}
    assert trusting == {f"/etc/kirsch/{name}" for name in ("tls/ca.crt", "tls/users.crt", "secrets.key")}


def test_a_machine_of_an_older_kirsch_learns_of_users_once(tmp_path):
    machine = MachineRecord("n1", "1", "10.0.0.1")
    now = kirschd_toml(ClusterRecord("c", "id", "now", "10.0.0.0/24", (machine,)), machine)
    before = "".join(line for line in now.splitlines(keepends=True) if not line.startswith("users = "))
    assert before != now
    file = tmp_path / "kirschd.toml"
    file.write_text(before)
    for _ in range(2):
        run("sh", "-c", KNOW_USERS.replace("/etc/kirsch/kirschd.toml", str(file)))
        assert file.read_text() == now


@pytest.mark.machines
@pytest.mark.soak
def test_all_keys_are_new_though_the_first_attempt_was_killed(tmp_path, monkeypatch):
    computer = Computer(tmp_path, f"tests-rotate-{os.getpid()}")
    monkeypatch.setenv("XDG_DATA_HOME", str(computer.data))
    try:
        name = computer.create("c", "--machines", "3")
        record = ClusterRecord.load(name)

        def kirsch(*arguments: str) -> str:
            done = computer.kirsch("--cluster", name, *arguments)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        def shell(machine: str, script: str) -> str:
            return run("podman", "--runtime", "runc", "exec", f"kirsch-{name}-{machine}", "sh", "-c", script)

        def everywhere(script: str) -> list[str]:
            return [shell(machine.name, script) for machine in record.machines]

        (tmp_path / "nap@.service").write_text(UNIT)
        (tmp_path / "word").write_text("hush")
        subprocess.run(
            [KIRSCH, "--cluster", name, "secret", "set", "word"],
            input="hush", text=True, check=True, env=computer.environment(),
        )  # fmt: skip
        kirsch("submit", str(tmp_path / "nap@.service"))
        kirsch("start", "nap@1", "nap@2", "nap@3")
        kirsch("cluster", "user", "add", "ann", "--role", "view", "--out", str(tmp_path / "ann.tar"))
        with tarfile.open(tmp_path / "ann.tar") as archive:
            archive.extractall(tmp_path / "ann", filter="data")
        was = tmp_path / "was"
        run("cp", "--recursive", str(record.folder), str(was))
        before, secret = everywhere(ASK), everywhere("cat /etc/kirsch/secrets.key")

        killed = subprocess.Popen(
            [KIRSCH, "cluster", "rotate", name],
            stdout=subprocess.PIPE, text=True, env=computer.environment(),
        )  # fmt: skip
        assert killed.stdout
        for line in killed.stdout:
            if "own certificate" in line:
                killed.kill()
        killed.wait()
        assert computer.kirsch("cluster", "status", name).returncode == 0
        assert (record.folder / "rotation").is_dir()
        said = kirsch("cluster", "rotate", name)
        assert not re.search(r"[0-9] s  (new keys|own certificate)$", said, re.MULTILINE)
        assert "ann needs a new archive: kirsch cluster user add ann --role view" in said

        assert not (record.folder / "rotation").exists()
        assert computer.kirsch("cluster", "status", name).returncode == 0
        assert everywhere(ASK) == before
        after = everywhere("cat /etc/kirsch/secrets.key")
        assert len({*secret, *after}) == 2
        kirsch("start", "nap@4")
        machine = next(m for m in record.machines if m.id == unit_machine(record, "nap@4.service"))
        shown = shell(machine.name, "cat /proc/$(systemctl show -p MainPID --value nap@4)/environ")
        assert "WORD=hush" in shown.split("\0")
        assert run("ssh", "-F", str(record.folder / "ssh/config"), "n2", "hostname").strip() == "n2"

        # What somebody has copied before is worth nothing: a person's key, a user's, a machine's, ssh's.
        place = [(record.machines[0].host, record.machines[0].api_port)]
        authority_now = record.certificates.authority
        for folder in (was / "tls", tmp_path / "ann" / name / "tls"):
            stolen = Certificates(authority_now, folder / "client.crt", folder / "client.key")
            with pytest.raises((ClientError, ssl.SSLError)):
                Client(Https(place, stolen, "n1")).get("/kirsch/v1/units")
        old_key = ["-i", str(was / "ssh/id_ed25519"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        words = ["-p", str(record.machines[0].ssh_port), "root@127.0.0.1", "true"]
        refused = subprocess.run(
            ["ssh", "-F", "none", *old_key, "-o", f"UserKnownHostsFile={was / 'ssh/known_hosts'}", *words],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert "Permission denied" in refused.stderr
    finally:
        computer.close()


def unit_machine(record: ClusterRecord, unit: str) -> str:
    """The id of a unit's machine."""
    place = [(record.machines[0].host, record.machines[0].api_port)]
    client = Client(Https(place, record.certificates, "n1"))
    try:
        return next(u["machine"] for u in client.get("/kirsch/v1/units")["units"] if u["name"] == unit)
    finally:
        client.close()
