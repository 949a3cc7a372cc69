"""`kirsch cluster stop` and `start`: machines switched off and on again."""

import json
import os
import re

import pytest
from tests.machines.computer import Computer

from kirsch.cluster.provision.power import choose
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, ProvisionError

UNIT = "[Service]\nExecStart=/bin/sleep infinity\n\n[X-Kirsch]\nSticky=yes\n"


def machine(name: str, **more: str) -> MachineRecord:
    return MachineRecord(name, name * 16, "10.201.0.11", **more)


def test_all_machines_are_meant_or_those_that_are_named():
    n1, n2 = (machine(name, container=f"kirsch-c-{name}") for name in ("n1", "n2"))
    attic = machine("attic", host="attic.example")
    record = ClusterRecord("c", "i", "", "10.201.0.0/24", (n1, n2, attic))
    assert choose(record, []) == [n1, n2]
    assert choose(record, ["n2", "n2"]) == [n2]
    with pytest.raises(ProvisionError, match="c has no machine n9; there are n1, n2, attic"):
        choose(record, ["n9"])
    with pytest.raises(ProvisionError, match="attic is a host"):
        choose(record, ["attic"])


@pytest.mark.machines
@pytest.mark.soak
def test_a_cluster_is_switched_off_and_on_with_its_units(tmp_path):
    computer = Computer(tmp_path, f"tests-power-{os.getpid()}")
    try:
        name = computer.create("one", "--machines", "2")
        (tmp_path / "nap.service").write_text(UNIT)
        started = computer.kirsch("--cluster", name, "start", str(tmp_path / "nap.service"))
        assert started.returncode == 0, started.stderr

        stopped = computer.kirsch("cluster", "stop", name)
        assert stopped.returncode == 0, stopped.stderr
        assert f"`kirsch cluster start {name}`" in stopped.stdout
        status = json.loads(computer.kirsch("cluster", "status", name, "--json").stdout)
        assert [each["container"] for each in status["machines"]] == ["exited", "exited"]
        assert status["etcd"] == {"problem": "etcd's state is not known, for no machine's kirschd answers"}

        again = computer.kirsch("cluster", "start", name)
        assert again.returncode == 0, again.stderr
        assert computer.kirsch("cluster", "status", name).returncode == 0
        shown = computer.kirsch("--cluster", name, "start", "nap.service")
        assert shown.returncode == 0, shown.stderr
        listed = computer.kirsch("--cluster", name, "list-units", "--no-legend").stdout
        assert listed.split()[-2:] == ["active", "running"]

        one = computer.kirsch("cluster", "stop", name, "n2")
        assert one.returncode == 0, one.stderr
        status = json.loads(computer.kirsch("cluster", "status", name, "--json").stdout)
        assert [each["container"] for each in status["machines"]] == ["running", "exited"]
        assert computer.kirsch("cluster", "start", name, "n2").returncode == 0
        assert computer.kirsch("cluster", "status", name).returncode == 0
        # Who looks often is not locked out: OpenSSH 9.8 and newer would have it so.
        for _ in range(20):
            assert computer.kirsch("cluster", "status", name).returncode == 0
        there = computer.kirsch("--cluster", name, "ssh", "n1", "true")
        assert there.returncode == 0, there.stderr
        wrong = computer.kirsch("cluster", "start", name, "n9")
        assert (wrong.returncode, wrong.stderr) == (
            1, f"kirsch: {name} has no machine n9; there are n1, n2\n",
        )  # fmt: skip
    finally:
        computer.close()


@pytest.mark.machines
@pytest.mark.soak
def test_status_says_that_a_member_of_etcd_is_missing(tmp_path):
    computer = Computer(tmp_path, f"tests-etcd-{os.getpid()}")
    try:
        name = computer.create("three", "--machines", "3")
        well = computer.kirsch("cluster", "status", name)
        assert (well.returncode, well.stderr) == (0, "")
        assert re.search(r"^etcd: 3 of 3 members answer, n[123] leads, [0-9.]+ MB$", well.stdout, re.M)

        assert computer.kirsch("cluster", "stop", name, "n3").returncode == 0
        ill = computer.kirsch("cluster", "status", name)
        assert (ill.returncode, ill.stderr) == (
            1,
            "kirsch: etcd's n3 does not answer, and the next loss stops all changes: "
            f"switch it on (`kirsch cluster start {name} n3`), or replace it if it is lost for good "
            f"(`kirsch cluster etcd {name} --replace n3`)\n",
        )
        assert computer.kirsch("cluster", "stop", name, "n2").returncode == 0
        lost = json.loads(computer.kirsch("cluster", "status", name, "--json").stdout)
        assert (lost["well"], lost["etcd"]["quorum"]) == (False, False)
        assert lost["etcd"]["problem"].startswith("etcd has no quorum: 1 of 3 members answers")
        assert [each["etcd"] for each in lost["machines"]] == ["follower", "silent", "silent"]

        assert computer.kirsch("cluster", "start", name, "n2", "n3").returncode == 0
        assert computer.kirsch("cluster", "status", name).returncode == 0
    finally:
        computer.close()
