"""The machines of a new cluster: what runs on them, who they are, who may come in."""

import json
import subprocess
from pathlib import Path

import pytest
from tests.machines.trial import KIRSCH, eventually

pytestmark = pytest.mark.machines


def test_every_unit_of_a_machine_is_well(trial):
    for machine in trial.machines:
        # Units of other tests are not ours.
        failed = trial.shell(
            machine, "systemctl list-units --failed --plain --no-legend 'etcd*' 'kirsch*' 'ssh*' '*.mount'"
        )
        assert failed == ""
        assert trial.shell(machine, "systemctl is-active etcd kirschd ssh").split() == ["active"] * 3
        assert trial.shell(machine, "systemctl is-enabled etcd kirschd ssh").split() == ["enabled"] * 3


def test_machines_have_identities_of_their_own(trial):
    there = {m["id"]: m for m in trial.client.get("/kirsch/v1/machines")["machines"]}
    for number, machine in enumerate(trial.machines):
        assert trial.shell(machine, "cat /etc/machine-id").strip() == machine.id
        assert trial.shell(machine, "hostname").strip() == machine.name
        assert there[machine.id]["metadata"] == {"hostname": machine.name, "zone": "abc"[number]}
    host_keys = {trial.shell(m, "cat /etc/ssh/ssh_host_ed25519_key.pub") for m in trial.machines}
    assert len(host_keys) == 3
    assert all(trial.shell(m, "ls /etc/ssh").count("ssh_host_") == 2 for m in trial.machines)


def test_the_network_keeps_its_hardware_address_when_a_machine_goes(trial):
    """A bridge that takes the lowest of its ports' has another once that machine is killed (net_device.h:
    NET_ADDR_SET), and connections from this computer to the others stall."""
    route = json.loads(subprocess.check_output(["ip", "-json", "route", "get", trial.machines[0].address]))
    assert Path(f"/sys/class/net/{route[0]['dev']}/addr_assign_type").read_text() == "3\n"


def test_kirschd_is_hardened_and_watched(trial):
    machine = trial.machines[0]
    names = "Type,WatchdogUSec,NoNewPrivileges,ProtectSystem,ProtectHome,PrivateTmp,Restart,NotifyAccess"
    shown = trial.shell(machine, f"systemctl show --property={names} kirschd")
    values = dict(line.split("=", 1) for line in shown.splitlines())
    assert values == {
        "Type": "notify", "WatchdogUSec": "30s", "NoNewPrivileges": "yes", "ProtectSystem": "strict",
        "ProtectHome": "yes", "PrivateTmp": "yes", "Restart": "always", "NotifyAccess": "main",
    }  # fmt: skip
    exposure = trial.shell(machine, "systemd-analyze security --no-pager kirschd | tail -1", check=False)
    level = float(exposure.partition("kirschd.service:")[2].split()[0])
    # 9.6 is a unit without any hardening. It is root, and systemd's master.
    assert level < 7.0, exposure


def test_what_is_secret_is_readable_by_root_alone(trial):
    for machine in trial.machines:
        open_to_others = trial.shell(machine, "find /etc/kirsch -perm /077 -type f ! -name '*.crt'")
        assert open_to_others == ""
        assert trial.shell(machine, "stat -c %a /etc/kirsch/tls /root/.ssh").split() == ["700", "700"]
    folder = trial.record.folder
    modes = {path: path.stat().st_mode & 0o077 for path in folder.rglob("*")}
    assert not any(modes.values()), modes


def test_etcd_speaks_to_nobody_without_a_certificate(trial):
    machine = trial.machines[0]
    ask = "curl --silent --show-error --cacert /etc/kirsch/tls/ca.crt {keys} https://{at}:2379/health"
    keys = "--cert /etc/kirsch/tls/machine.crt --key /etc/kirsch/tls/machine.key"
    known = trial.shell(machine, ask.format(keys=keys, at=machine.address))
    assert json.loads(known)["health"] == "true"
    refused = trial.shell(machine, ask.format(keys="", at=machine.address) + " 2>&1 || true")
    assert "certificate" in refused
    plain = trial.shell(
        machine, f"curl --silent --show-error http://{machine.address}:2379/health 2>&1 || true"
    )
    assert "health" not in plain


OLDER = """
from datetime import timedelta
from pathlib import Path
from kirsch.cluster.node.authority import Pair, renew
tls = Path("/etc/kirsch/tls")
file = tls / "machine.crt"
signer = Pair.read(tls / "ca.crt", tls / "ca.key")
file.write_bytes(renew(signer, file.read_bytes(), timedelta(hours=1)))
"""


def test_a_certificate_that_is_about_to_end_is_renewed_and_etcd_uses_it(trial):
    machine = trial.machines[2]
    trial.shell(machine, f"/opt/kirsch/bin/python -c '{OLDER}'")
    before = trial.shell(machine, "cat /etc/kirsch/tls/machine.crt; systemctl restart kirschd")
    after = trial.shell(machine, "cat /etc/kirsch/tls/machine.crt")
    assert after != before
    assert trial.shell(machine, "cat /run/kirsch-etcd/machine.crt") == after
    ended = int(
        trial.shell(machine, "openssl x509 -checkend 2500000 -in /etc/kirsch/tls/machine.crt; echo $?")[-2]
    )
    assert ended == 0
    at = f"{machine.address}:2379"
    asked = f"openssl s_client -connect {at} -CAfile /etc/kirsch/tls/ca.crt -cert /etc/kirsch/tls/machine.crt"
    seen = trial.shell(
        machine,
        f"echo | {asked} -key /etc/kirsch/tls/machine.key 2>/dev/null | openssl x509 -noout -serial; "
        "openssl x509 -noout -serial -in /etc/kirsch/tls/machine.crt",
    ).split()
    assert seen[0] == seen[1]
    listed = {each["serial"]: each for each in trial.client.get("/kirsch/v1/certificates")["certificates"]}
    eventually(lambda: {m.id for m in trial.machines} <= {each["machine"] for each in listed.values()})
    trial.until_present(machine)


def test_a_backup_brings_units_and_secrets_back(trial):
    word, file = trial.folder / "word", trial.folder / "kept.backup"
    word.write_text("correct horse\n")
    text = "[Service]\nExecStart=/bin/sleep infinity\n[X-Kirsch]\nSecret=kept\nMachineMetadata=zone=b\n"
    path = trial.write("kept.service", text)
    subprocess.run(
        [KIRSCH, "--cluster", trial.record.name, "secret", "set", "kept"],
        input=b"hush",
        check=True,
        timeout=60,
    )
    trial.kirsch("start", path)
    trial.kirsch("cluster", "backup", str(file), "--passphrase-file", str(word))
    assert "hush" not in file.read_text()
    again = trial.kirsch("cluster", "backup", str(file), "--passphrase-file", str(word), check=False)
    assert (again.status, "is there: give another name" in again.err) == (1, True)
    trial.kirsch("destroy", "kept.service")
    trial.kirsch("secret", "rm", "kept")
    word.write_text("other")
    wrong = trial.kirsch("cluster", "restore", str(file), "--passphrase-file", str(word), check=False)
    assert "the passphrase is not that of the backup" in wrong.err
    word.write_text("correct horse")
    trial.kirsch("cluster", "restore", str(file), "--passphrase-file", str(word))
    trial.until(lambda lines: "kept.service" in lines and lines["kept.service"]["active"] == "active")
    assert trial.machine_of("kept.service").name == "n2"
    trial.kirsch("destroy", "kept.service")
    trial.kirsch("secret", "rm", "kept")
    for machine in trial.machines:
        assert trial.shell(machine, "ls /var/lib/kirsch/backups").endswith("Z.json\n")


def test_etcd_has_a_member_on_each_of_three(trial):
    keys = (
        "--cacert=/etc/kirsch/tls/ca.crt --cert=/etc/kirsch/tls/machine.crt --key=/etc/kirsch/tls/machine.key"
    )
    endpoints = ",".join(trial.record.etcd)
    shown = trial.shell(
        trial.machines[0], f"ETCDCTL_API=3 etcdctl {keys} --endpoints={endpoints} endpoint health -w json"
    )
    assert [entry["health"] for entry in json.loads(shown)] == [True] * 3


def test_ssh_lets_in_by_the_clusters_key_alone(trial):
    config = trial.record.folder / "ssh/config"
    for machine in trial.machines:
        command = ["ssh", "-F", str(config), machine.name, "cat /etc/machine-id"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.stdout.strip() == machine.id, done.stderr
        options = [f"UserKnownHostsFile={trial.record.folder}/ssh/known_hosts", "BatchMode=yes"]
        options += ["IdentityFile=/dev/null", "IdentityAgent=none"]
        words = [word for option in options for word in ("-o", option)]
        keyless = subprocess.run(
            ["ssh", "-F", "/dev/null", *words, "-p", str(machine.ssh_port), f"root@{machine.host}", "true"],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert keyless.returncode == 255
        assert "Permission denied (publickey)" in keyless.stderr


def test_podman_runs_containers_on_a_machine(trial):
    machine = trial.machines[0]
    script = (
        "set -e; cd $(mktemp -d); mkdir -p bin; cp /bin/true bin/true; "
        "tar -c --dereference bin $(ldd /bin/true | grep -o '/[^ ]*') 2>/dev/null | "
        "podman import --quiet - t:1 >/dev/null; "
        "podman run --rm --network none t:1 /bin/true && echo ran; podman rmi --force t:1 >/dev/null"
    )
    assert trial.shell(machine, script).strip() == "ran"


def test_ssh_goes_to_a_machine_and_to_a_units(trial):
    for machine in trial.machines:
        assert trial.kirsch("ssh", machine.name, "hostname").out == f"{machine.name}\n"
        assert trial.kirsch("ssh", machine.id[:8], "cat", "/etc/machine-id").out.strip() == machine.id
    ended = trial.kirsch("ssh", "n1", "sh", "-c", "echo said >&2; exit 7", check=False)
    assert (ended.status, ended.err) == (7, "said\n")
    trial.submit("where.service", "[Service]\nExecStart=/bin/sleep infinity\n")
    trial.kirsch("start", "where.service")
    try:
        there = trial.machine_of("where.service")
        assert trial.kirsch("ssh", "where.service", "hostname").out == f"{there.name}\n"
    finally:
        trial.kirsch("destroy", "where.service")
    nobody = trial.kirsch("ssh", "nobody", "true", check=False)
    assert nobody.status == 1
    assert "nobody" in nobody.err


def test_verbs_go_through_a_tunnel(trial):
    shown = trial.kirsch("--tunnel", "n2", "list-machines", "--json").out
    assert {machine["id"] for machine in json.loads(shown)} == {machine.id for machine in trial.machines}
    lost = trial.kirsch("--tunnel", "nobody.invalid", "list-machines", check=False)
    assert lost.status == 1
    assert "nobody.invalid" in lost.err


@pytest.mark.soak
@pytest.mark.slow
def test_a_kirschd_that_hangs_is_started_again_and_a_unit_runs_once(trial):
    trial.submit("rest.service", "[Service]\nExecStart=/bin/sleep infinity\n")
    trial.kirsch("start", "rest.service")
    try:
        machine = trial.machine_of("rest.service")
        shown = "systemctl show --property=NRestarts --value kirschd"
        restarts = int(trial.shell(machine, shown))
        trial.shell(machine, "kill -STOP $(systemctl show --property=MainPID --value kirschd)")
        # Elsewhere the unit starts once the lease has run out, and here it is stopped as kirschd is back.
        eventually(lambda: int(trial.shell(machine, shown)) == restarts + 1)
        trial.until_present()
        eventually(
            lambda: sum("rest.service" in units for units in trial.everywhere("rest.service").values()) == 1
        )
    finally:
        trial.kirsch("destroy", "rest.service")
