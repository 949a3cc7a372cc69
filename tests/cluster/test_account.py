"""Accounts of databases in the cluster's etcd: what they may use, and that machines go on as before."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.etcd_server import EtcdServer, needs_etcd
from tests.cluster.members import Members, members

from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.provision.account import account_name, admission, dismissal, script
from kirsch.cluster.provision.record import ProvisionError


def etcdctl(etcd: EtcdServer, certificates: Certificates | None = None) -> str:
    own = certificates or etcd.certificates
    assert own is not None
    return (
        f"ETCDCTL_API=3 etcdctl --endpoints={etcd.endpoints[0]} --cacert={own.authority} "
        f"--cert={own.certificate} --key={own.key}"
    )


def run(words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", words], input=given, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("service", ["", "Web", "a/b", "a b", "1a", "x" * 33, "root", "n1"])
def test_what_can_have_no_account(service: str):
    with pytest.raises(ProvisionError):
        account_name(service, ["n1"])


def test_the_password_stands_in_no_command():
    words = script("webdb", ["n1"])
    assert "IFS= read -r password" in words
    assert words.rstrip().endswith("etcd auth enable >/dev/null")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Members]:
    with members(tmp_path, 2) as made:
        yield made


@pytest.mark.slow
@needs_etcd
@pytest.mark.services
def test_machines_go_on_and_a_database_has_its_own_prefix_alone(cluster: Members):
    two = cluster.machines[1]
    # The tests' own certificate is called client; of a person's etcd knows nothing from then on.
    words = script("webdb", ["n1", "n2", "client"], etcdctl(cluster.etcd))
    for password in ("first", "second"):
        done = run(words, f"{password}\n")
        assert done.returncode == 0, done.stderr
    cluster.ok("start", cluster.unit("sleeps.service", "[Service]\nExecStart=sleep 1000\n"))
    # One that comes back has to log in, and so has a watch that begins anew.
    two.stop()
    two.start()
    cluster.ok("restart", "sleeps")
    assert cluster.lines()["sleeps.service"]["active"] == "active"

    nameless = cluster.authority.certificates("webdb", common_name=False)
    own = f"{etcdctl(cluster.etcd, nameless)} --user=webdb:second"
    assert run(f"{own} put /postgres/webdb/leader one").returncode == 0
    refused = ("get /kirsch/v1/leader", "put /kirsch/v1/leader x", "get --prefix /postgres/", "user list")
    for words in (*refused, "snapshot save copy", "member remove 1"):
        done = run(f"cd {cluster.folder}; {own} {words}")
        assert "permission denied" in done.stderr, f"{words}: {done}"
    assert "authentication failed" in run(f"{own.replace('second', 'first')} get /postgres/webdb/x").stderr
    stranger = etcdctl(cluster.etcd, cluster.certificates)
    assert "Error" in run(f"{stranger} get /kirsch/v1/leader").stderr
    # A machine that joins is let in first.
    third = cluster.authority.certificates("n3")
    joining = etcdctl(cluster.etcd, third)
    assert run(f"{joining} get /kirsch/v1/leader").returncode != 0
    assert run(admission(["n3"], etcdctl(cluster.etcd))).returncode == 0
    assert run(f"{joining} get /kirsch/v1/leader").returncode == 0
    # One that leaves is none of etcd's users any more; it may be said twice.
    for _ in range(2):
        assert run(dismissal("n3", etcdctl(cluster.etcd))).returncode == 0
    assert run(f"{joining} get /kirsch/v1/leader").returncode != 0
    assert "n3" not in run(f"{etcdctl(cluster.etcd)} user list").stdout.split()
