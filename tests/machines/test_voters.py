"""Machines that keep the registry: how they are chosen, and one that is lost or leaves has a successor."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cli.application import wait_for
from tests.machines.computer import Computer, run

from kirsch.cluster.provision.record import ClusterRecord, MachineRecord
from kirsch.cluster.provision.voters import (
    RESTART_MARK,
    Member,
    change_members,
    choose,
    parse_members,
    recommended,
    with_members,
)


def machines(zones: str) -> list[MachineRecord]:
    """A machine for each letter, which is its zone; none for a space."""
    return [
        MachineRecord(f"n{at}", f"{at}" * 32, f"10.0.0.{at}", metadata={"zone": zone} if zone != " " else {})
        for at, zone in enumerate(zones, 1)
    ]


@pytest.mark.parametrize(
    ("zones", "count", "now", "expected"),
    [
        ("abc", 3, "", "n1 n2 n3"),
        ("aabbc", 3, "", "n1 n3 n5"),
        ("aabbc", 3, "n2 n4 n5", "n2 n4 n5"),
        ("aabc", 3, "n1 n2 n3", "n1 n3 n4"),
        ("aab", 3, "", "n1 n2 n3"),
        ("     ", 3, "n2", "n1 n2 n3"),
        ("ab", 3, "n2", "n2"),
        ("a", 5, "", "n1"),
        ("aabbccd", 5, "", "n1 n2 n3 n5 n7"),
    ],
)
def test_voters_are_from_as_many_zones_as_there_are(zones: str, count: int, now: str, expected: str):
    assert " ".join(choose(machines(zones), count, now.split())) == expected


@given(st.text("abc ", min_size=1, max_size=9), st.sampled_from((1, 3, 5)), st.sets(st.integers(1, 9)))
def test_voters_are_odd_and_whoever_was_chosen_stays(zones: str, count: int, now: set[int]):
    there = machines(zones)
    chosen = choose(there, count, {f"n{at}" for at in now})
    assert len(chosen) % 2 == 1
    assert len(chosen) >= min(count, len(there)) - 1
    assert choose(there, count, chosen) == chosen


def test_as_many_as_are_worth_it():
    assert [recommended(count) for count in (1, 2, 3, 6, 7, 20)] == [1, 1, 3, 3, 5, 5]


def test_a_member_that_has_not_started_has_no_name_yet():
    listed = {
        "members": [
            {"ID": 255, "name": "n1", "peerURLs": ["https://10.0.0.1:2380"]},
            {"ID": 16, "peerURLs": ["https://10.0.0.2:2380"], "isLearner": True},
            {"ID": 17, "peerURLs": ["https://10.9.9.9:2380"]},
        ]
    }
    names = {"https://10.0.0.1:2380": "n1", "https://10.0.0.2:2380": "n2"}
    assert parse_members(json.dumps(listed), names) == [
        Member("n1", "ff", False),
        Member("n2", "10", True),
        Member("11", "11", False),
    ]


def test_a_restart_that_did_not_come_about_is_made_up_for(tmp_path: Path):
    """A driver may die between a machine's settings and the restart of its kirschd."""
    settings = tmp_path / "kirschd.toml"
    settings.write_text('a = 1\netcd = ["https://10.0.0.1:2379"]\nb = 2\n')

    def change(line: str) -> str:
        return subprocess.run(
            ["sh", "-c", change_members(str(tmp_path), line)], capture_output=True, text=True, check=True
        ).stdout

    line = 'etcd = ["https://10.0.0.2:2379"]'
    assert [change(line), change(line)] == ["changed\n", "changed\n"]
    assert settings.read_text().splitlines() == ["a = 1", line, "b = 2"]
    (tmp_path / RESTART_MARK).unlink()
    assert change(line) == ""


def test_members_that_changed_by_themselves_are_entered_and_images_stay():
    there = tuple(replace(machine, etcd=machine.name != "n3") for machine in machines("abc"))
    record = ClusterRecord("blue", "c0ffee", "2026-12-02", "", there)
    after = with_members(record, ["n2", "n3"])
    assert [machine.name for machine in after.members] == ["n2", "n3"]
    assert after.keeper == "n1"
    assert with_members(replace(record, keeper="n2"), ["n3"]).keeper == "n2"


@pytest.mark.machines
@pytest.mark.soak
def test_a_voter_that_is_lost_for_good_has_a_successor_by_itself(tmp_path, monkeypatch):
    computer = Computer(tmp_path, f"tests-successor-{os.getpid()}")
    monkeypatch.setenv("XDG_DATA_HOME", str(computer.data))
    try:
        name = computer.create("c", "--machines", "4")

        def status() -> str:
            done = computer.kirsch("cluster", "status", name)
            return done.stdout + done.stderr

        def shell(machine: str, script: str) -> str:
            return run("podman", "--runtime", "runc", "exec", f"kirsch-{name}-{machine}", "sh", "-c", script)

        for number in range(1, 5):
            settings = "sed -i -e '/^replace-voters/d' -e '1i replace-voters = 5' /etc/kirsch/kirschd.toml"
            shell(f"n{number}", f"{settings} && systemctl restart kirschd")
        wait_for(lambda: "3 of 3 members answer" in status(), "all answer", 120)
        run("podman", "--runtime", "runc", "kill", f"kirsch-{name}-n3")
        wait_for(lambda: "2 of 3 members answer" in status(), "one is away", 120)
        wait_for(lambda: "3 of 3 members answer" in status(), "another has its place", 300)
        assert [machine.name for machine in ClusterRecord.load(name).members] == ["n1", "n2", "n4"]
        addresses = shell("n1", "grep '^etcd = ' /etc/kirsch/kirschd.toml")
        assert addresses.count("https://") == 3
        assert ClusterRecord.load(name).machine("n4").address in addresses
        assert shell("n4", "ls /etc/kirsch/tls/ca.key").strip()
        # Of two lost ones the cluster would be dead without it.
        run("podman", "--runtime", "runc", "kill", f"kirsch-{name}-n2")
        (tmp_path / "nap.service").write_text("[Service]\nExecStart=/bin/sleep infinity\n")
        started = computer.kirsch("--cluster", name, "start", str(tmp_path / "nap.service"))
        assert started.returncode == 0, started.stderr
        # Who comes back is a voter no more, and keeps nothing of etcd once it is told.
        assert computer.kirsch("cluster", "start", name).returncode == 0
        done = computer.kirsch("cluster", "etcd", name)
        assert done.returncode == 0, done.stdout + done.stderr
        wait_for(lambda: computer.kirsch("cluster", "status", name).returncode == 0, "all is well", 120)
    finally:
        computer.close()


@pytest.mark.machines
@pytest.mark.soak
def test_a_lost_voter_is_replaced_and_one_that_leaves_has_a_successor(tmp_path, monkeypatch):
    computer = Computer(tmp_path, f"tests-voters-{os.getpid()}")
    monkeypatch.setenv("XDG_DATA_HOME", str(computer.data))
    try:
        name = computer.create("c", "--machines", "4", "--metadata", "zone=a/a/b/c")

        def members() -> list[str]:
            return [machine.name for machine in ClusterRecord.load(name).members]

        def kirsch(*arguments: str, status: int = 0) -> str:
            done = computer.kirsch("--cluster", name, *arguments)
            assert done.returncode == status, done.stdout + done.stderr
            return done.stdout + done.stderr

        def shell(machine: str, script: str) -> str:
            return run("podman", "--runtime", "runc", "exec", f"kirsch-{name}-{machine}", "sh", "-c", script)

        assert members() == ["n1", "n3", "n4"]
        (tmp_path / "nap@.service").write_text("[Service]\nExecStart=/bin/sleep infinity\n")
        kirsch("submit", str(tmp_path / "nap@.service"))
        kirsch("start", "nap@1", "nap@2", "nap@3", "nap@4")
        run("podman", "--runtime", "runc", "kill", f"kirsch-{name}-n3")
        assert f"kirsch cluster etcd {name} --replace n3" in kirsch("cluster", "status", name, status=1)
        assert "n1, n2, n4 keep the registry" in kirsch("cluster", "etcd", name, "--replace", "n3")
        assert members() == ["n1", "n2", "n4"]
        assert "3 of 3 members answer" in kirsch("cluster", "status", name, status=1)
        kirsch("start", "nap@5")

        # It comes back with what it had, and is told.
        kirsch("cluster", "start", name, "n3")
        assert "n1, n3, n4 keep the registry" in kirsch("cluster", "etcd", name)
        assert "n1, n3, n4 keep the registry" in kirsch("cluster", "etcd", name)
        kirsch("cluster", "status", name)

        # All units have to leave first; then another keeps the registry.
        kirsch("cluster", "remove", "n4")
        assert members() == ["n1", "n2", "n3"]
        kirsch("cluster", "status", name)
        for machine in ("n1", "n2", "n3"):
            assert shell(machine, "ls /etc/kirsch/tls/ca.key").strip()
        assert kirsch("list-units", "--no-legend").count("running") == 5
    finally:
        computer.close()
