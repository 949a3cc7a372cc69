"""Three machines of a cluster, real but for systemd: what people do with them by verbs."""

import http.client
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cli.application import wait_for
from tests.cluster.etcd_server import needs_etcd
from tests.cluster.members import KIRSCH, MemberMachine, Members, members
from tests.deadline import eventually

from kirsch.cli.waiting import pictures
from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.api.transport import Https
from kirsch.cluster.model.release import FINAL
from kirsch.cluster.provision.record import MachineRecord
from kirsch.websocket.threaded import connect

pytestmark = [needs_etcd, pytest.mark.services, pytest.mark.slow]

SLEEPER = "[Service]\nExecStart=sleep 1000\n"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    folder: Path = tmp_path_factory.mktemp("members")
    with members(folder, 3) as made:
        yield made


def test_machines_are_listed_as_fleetctl_does(cluster: Members):
    lines = cluster.ok("list-machines").splitlines()
    assert lines[0].split() == ["MACHINE", "IP", "METADATA"]
    shown = {tuple(line.split()[:2]) for line in lines[1:]}
    assert shown == {(f"{m.id[:8]}...", m.address) for m in cluster.machines}
    full = cluster.ok("list-machines", "--full")
    assert all(machine.id in full for machine in cluster.machines)


def test_the_life_of_a_unit_on_three_machines(cluster: Members):
    names = [f"life@{number}.service" for number in range(3)]
    cluster.ok(
        "submit",
        cluster.unit("life@.service", "[Service]\nExecStart=/bin/sh -c 'echo I am %i; exec sleep 1000'\n"),
    )
    printed = cluster.ok("start", *names).splitlines()
    addresses = {machine.address for machine in cluster.machines}
    assert {line.rpartition("/")[2] for line in printed} == addresses
    assert printed[0].startswith("Unit life@")
    assert " launched on " in printed[0]
    # From whichever machine is asked.
    for machine in cluster.machines:
        endpoint = ("--endpoint", machine.endpoint)
        table = cluster.ok(*endpoint, "list-units").splitlines()
        assert {
            line.split()[1].partition("/")[2] for line in table[1:] if line.startswith("life@")
        } == addresses
        lines = cluster.ok(*endpoint, "journal", *names).splitlines()
        assert sorted(line[-6:] for line in lines if "I am" in line) == ["I am 0", "I am 1", "I am 2"]
        status = cluster.ok(*endpoint, "status", "life@1")
        assert "Active: active (running)" in status
        assert "I am 1" in status
        path = "/kirsch/v1/units/life@2.service/environment"
        with pytest.raises(ClientError, match="ask at the machine's own Unix socket") as told:
            machine.client(cluster.certificates).get(path)
        assert told.value.status == 403
        if machine is machine_of(cluster, "life@2.service"):
            context = Client(machine.socket).get(path)
            assert context["environment"]["KIRSCH_UNIT"] == "life@2.service"
        else:
            with pytest.raises(ClientError, match=r"life@2.service is on machine [0-9a-f]+: ask there"):
                Client(machine.socket).get(path)
    assert cluster.ok("stop", *names) == f"Successfully stopped units [{' '.join(names)}].\n"
    cluster.ok("destroy", *names, "life@")
    assert not [name for name in cluster.lines() if name.startswith("life@")]


@pytest.fixture
def units(cluster: Members) -> Iterator[Members]:
    """The cluster; what a test submitted is gone afterwards, and no machine has marks."""
    yield cluster
    for machine in cluster.client.get("/kirsch/v1/machines")["machines"]:
        if machine["cordoned"]:
            cluster.ok("uncordon", machine["id"])
    wait_for(lambda: is_empty(cluster), "units and releases are gone")


def is_empty(cluster: Members) -> bool:
    """Destroy all units; True once there are none and no release is left that would bring one."""
    under_way = [r for r in cluster.client.get("/kirsch/v1/releases")["releases"] if r["state"] not in FINAL]
    if names := sorted(cluster.lines()):
        cluster.ok("destroy", *names)
    return not under_way and not names


def machine_of(cluster: Members, unit: str) -> MemberMachine:
    """The machine that a unit is on."""
    return next(m for m in cluster.machines if m.id == cluster.lines()[unit]["machine"])


def test_a_unit_waits_for_its_secret_and_nobody_is_told_it(units: Members, tmp_path: Path):
    asks = "\n[X-Kirsch]\nSecret=waited.for:WORD\n"
    script = "[Service]\nExecStart=/bin/sh -c 'echo length $${#WORD}; exec sleep 1000'" + asks
    units.ok("start", "--no-block", units.unit("a@1.service", script), units.unit("a@2.service", script))
    said = "waits for secret waited.for: kirsch secret set waited.for < FILE"
    eventually(lambda: units.ok("why", "a@1", "a@2").count(said) == 2)
    assert said in units.ok("status", "a@1")
    assert units.ok("secret", "list", "--no-legend").split() == [
        "waited.for", "missing", "a@1.service,", "a@2.service",
    ]  # fmt: skip
    value = "hush-" + "0123456789" * 4
    (tmp_path / "value").write_text(value + "\n")
    with (tmp_path / "value").open() as given:
        assert units.ok("secret", "set", "waited.for", stdin=given) == "Secret waited.for is set\n"
    names = ("a@1.service", "a@2.service")
    eventually(lambda: {units.lines()[name]["active"] for name in names} == {"active"})
    eventually(lambda: units.ok("journal", "a@1", "a@2").count("length 45") == 2)

    # In no answer, no log, no list, and not in the store.
    answers = [
        machine.client(units.certificates).get(f"/kirsch/v1/{path}")
        for machine in units.machines
        for path in ("secrets", "units", "units/a@1.service", "endpoints", "machines", "journal")
    ]
    logs = [machine.log.read_text() for machine in units.machines]
    assert not any("hush" in json.dumps(text) for text in (*answers, *logs))
    folders = [member.folder / member.name for member in units.etcd.members]
    stored = [path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert any(b"secrets/waited.for" in data for data in stored)
    assert not any(b"hush" in data for data in stored)
    assert [entry["set"] > 1e9 for entry in answers[0]["secrets"] if entry["name"] == "waited.for"] == [True]

    # Another value is the units' once they are started anew.
    (tmp_path / "value").write_text("shorter")
    with (tmp_path / "value").open() as given:
        told = units.ok("secret", "set", "waited.for", "--no-restart", stdin=given)
    assert told.splitlines() == [
        "Secret waited.for is changed",
        "Running units have the old value until they are restarted: kirsch restart a@1.service a@2.service",
    ]
    with (tmp_path / "value").open() as given:
        told = units.ok("secret", "set", "waited.for", stdin=given)
    assert "Restarted a@1.service a@2.service" in told
    eventually(lambda: units.ok("journal", "a@1", "a@2").count("length 7") == 2)
    with (tmp_path / "value").open() as given:
        assert units.fails("secret", "set", "waited.for", "--new", stdin=given).endswith("waited.for already")

    used = "secret waited.for is used by a@1.service, a@2.service"
    assert units.fails("secret", "rm", "waited.for").startswith(used)
    assert units.ok("secret", "rm", "--force", "waited.for") == "Secret waited.for is removed\n"
    assert {units.lines()[name]["active"] for name in names} == {"active"}
    units.ok("restart", "--no-block", "a@1")
    eventually(lambda: said in units.ok("why", "a@1"))
    assert units.fails("secret", "rm", "waited.for") == "there is no secret waited.for"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("a/b", b"x", '"a/b" cannot name a secret: letters, digits, "-", "_" and "." inside'),
        ("a", b"", "the value is empty: `kirsch secret set a < FILE`"),
        ("a", b"x" * 65537, "the value has more than 64 KiB"),
    ],
)
def test_what_can_be_no_secret(units: Members, tmp_path: Path, name: str, value: bytes, says: str):
    (tmp_path / "value").write_bytes(value)
    with (tmp_path / "value").open() as given:
        assert units.fails("secret", "set", name, stdin=given) == says
    assert "secrets" in units.client.get("/kirsch/v1/secrets")


def test_a_unit_is_moved(units: Members):
    units.ok("start", units.unit("a.service", SLEEPER))
    first = machine_of(units, "a.service")
    second = next(machine for machine in units.machines if machine is not first)
    shown = f"{second.id[:8]}.../{second.address}"
    assert units.ok("move", "a", second.name) == f"Unit a.service moved to {shown}\n"
    assert machine_of(units, "a.service") is second
    # As the tables show it, and to any other.
    assert units.fails("move", "a", shown) == f"a.service is on {second.id[:8]} already"
    assert units.ok("move", "a").startswith("Unit a.service moved to ")
    assert machine_of(units, "a.service") is not second
    assert units.ok("move", "a", second.id[:6], "--no-block") == "Triggered unit a.service move\n"
    wait_for(lambda: machine_of(units, "a.service") is second, "it moves")
    told = {"unit": "a.service", "from": second.id, "to": first.id, "moved": True}
    assert json.loads(units.ok("move", "a", first.name, "--json")) == told
    told = {"machine": first.id, "address": first.address, "drained": True, "keeps": {}}
    [drained] = json.loads(units.ok("drain", first.name, "--json"))
    [moved] = drained.pop("moved")
    assert (drained, moved["unit"], moved["active"]) == (told, "a.service", "active")
    units.ok("uncordon", first.name)
    assert json.loads(units.ok("metadata", first.name, "--json"))["hostname"] == first.name
    assert json.loads(units.ok("why", "a", "--json")) == [
        {"unit": "a.service", "machine": moved["to"], "reasons": []}
    ]
    assert units.fails("move", "a", "nowhere").startswith("there is no machine nowhere; ")
    assert units.fails("move", "nothing") == "there is no unit nothing"


def test_a_move_that_no_machine_allows_waits_and_is_called_off(units: Members):
    first, second, _ = units.machines
    units.ok("start", units.unit("b.service", f"{SLEEPER}[X-Kirsch]\nMachineMetadata=zone=a\n"))
    assert machine_of(units, "b.service") is second
    error = units.fails("move", "b", "n1")
    assert error.startswith("b.service cannot move now, and will when it can: ")
    assert "zone" in error
    assert f"it is to leave machine {second.name}, and no other can have it" in units.ok("why", "b")
    assert units.ok("move", "b", "n2") == "Unit b.service stays where it is\n"
    assert units.ok("why", "b") == "b.service: it is as people want it\n"
    # Now it may: metadata changes while all runs.
    assert "zone=a" in units.ok("metadata", "n1", "zone=a").splitlines()
    assert units.ok("move", "b", "n1") == f"Unit b.service moved to {first.id[:8]}.../{first.address}\n"
    # And now it may not any more, anywhere but there.
    assert "zone" not in units.ok("metadata", "n1", "zone=")
    wait_for(lambda: machine_of(units, "b.service") is second, "it goes back to zone a")
    units.ok("metadata", "n1", "zone=b")
    assert "KEY=VALUE" in units.fails("metadata", "n1", "zone", status=2)


def test_drained_is_empty_but_for_what_is_sticky_or_everywhere(units: Members):
    names = [f"d@{number}.service" for number in range(6)]
    units.ok("submit", units.unit("d@.service", SLEEPER))
    units.ok("start", *names)
    units.ok("start", units.unit("everywhere.service", f"{SLEEPER}[X-Kirsch]\nGlobal=true\n"))
    units.ok("start", units.unit("data.service", f"{SLEEPER}[X-Kirsch]\nSticky=yes\n"))
    # What goes with a sticky unit has nowhere else to be, and that is no failure.
    units.ok("start", units.unit("beside.service", f"{SLEEPER}[X-Kirsch]\nMachineOf=data.service\n"))
    machine = machine_of(units, "data.service")
    here = {name for name, line in units.lines().items() if line["machine"] == machine.id}
    shown = f"{machine.id[:8]}.../{machine.address}"
    printed = units.ok("drain", machine.address).splitlines()
    assert {line.split()[1] for line in printed[:-1]} == here & set(names)
    assert (
        printed[-1]
        == f"Machine {shown} is drained; it keeps data.service (sticky), everywhere.service (global), "
        "beside.service (MachineOf=data.service is on another machine)"
    )
    lines = units.lines()
    assert {lines[name]["machine"] for name in names} == {m.id for m in units.machines} - {machine.id}
    assert all(lines[name]["active"] == "active" for name in names)
    table = units.ok("list-machines").splitlines()
    assert table[0].split() == ["MACHINE", "IP", "METADATA", "STATE"]
    assert [line.split()[-1] for line in table[1:] if machine.address in line] == ["drained"]
    [told] = json.loads(units.ok("drain", machine.address, "--json"))
    assert told["keeps"]["beside.service"] == "MachineOf=data.service is on another machine"
    units.ok("destroy", "beside.service")
    # A person may move what is sticky, and the machine takes no more units until it is told to.
    other = next(m for m in units.machines if m is not machine)
    assert "moved to" in units.ok("move", "data", other.name)
    assert units.ok("uncordon", machine.id[:8]) == f"Machine {shown} takes units again\n"
    assert "STATE" not in units.ok("list-machines")
    assert units.ok("cordon", machine.name) == f"Machine {shown} takes no more units\n"
    assert units.fails("move", "data", machine.name).startswith("data.service cannot move now")


def test_a_machine_that_is_away_is_marked_for_when_it_is_back(units: Members):
    first = units.machines[0]

    def listed() -> dict[str, bool]:
        machines = json.loads(units.ok("list-machines", "--json"))
        return {machine["id"]: machine["cordoned"] for machine in machines}

    # What was ever set on it is how it is known while it is away.
    units.ok("uncordon", first.name)
    assert first.stop() == 0
    try:
        wait_for(lambda: first.id not in listed(), "it is away")
        away = f"{first.id[:8]}, which is away,"
        assert units.ok("cordon", first.id[:8]) == f"Machine {away} takes no more units\n"
        assert units.fails("cordon", "nobody").startswith("there is no machine nobody")
        # By its whole id also one of which nothing is known.
        units.ok("cordon", "f" * 32)
        units.ok("uncordon", "f" * 32)
    finally:
        first.start()
    assert listed()[first.id] is True


def test_a_unit_that_no_machine_can_have_says_why_of_each(units: Members):
    path = units.unit("never.service", f"{SLEEPER}[X-Kirsch]\nMachineMetadata=disk=gold\n")
    error = units.fails("start", path)
    assert error.startswith("never.service cannot be scheduled: ")
    why = units.ok("why", "never")
    # By the names that people know, as in what `start` said.
    assert all(f"machine {machine.name}: " in text for machine in units.machines for text in (why, error))
    assert all(f"machine {machine.name}: " in units.ok("status", "never") for machine in units.machines)
    assert not any(machine.id[:8] in text for machine in units.machines for text in (why, error))
    assert why.count("disk=gold") == 3


def test_files_are_verified_against_the_machines(units: Members):
    db = units.unit("db.service", f"{SLEEPER}[X-Kirsch]\nExpose=5432\nSecret=verified:WORD\n")
    web = units.unit("web@.service", f"{SLEEPER}[X-Kirsch]\nLink=db\n")
    bad = units.unit("gold.service", f"{SLEEPER}[X-Kirsch]\nMachineMetadata=disk=gold\n")
    odd = units.unit("odd.service", f"{SLEEPER}[X-Kirsch]\nLinks=db\n")
    there = ("verify", "--endpoint", units.machines[1].endpoint)
    done = units.run(*there, db, web)
    assert (done.returncode, done.stdout) == (0, f"{db}: ok\n{web}: ok\n")
    told = "secret verified is not set: kirsch secret set verified < FILE"
    assert done.stderr == f"warning: {db}: {told}\n"
    done = units.run(*there, "--json", web, bad, odd)
    assert done.returncode == 1
    lone, gold, wrong = json.loads(done.stdout)
    assert lone == {
        "file": web, "ok": True, "error": "", "warnings": [f"{web}: Link=db: there is no unit db"],
    }  # fmt: skip
    assert gold["error"].startswith(f"{bad}: no machine can have it: ")
    assert all(f"machine {machine.name}: " in gold["error"] for machine in units.machines)
    assert wrong["error"].startswith(f"{odd}:4:1: unrecognized requirement")
    # Nothing was submitted, and without a cluster each file is alone.
    assert not units.lines()
    assert units.run("verify", web, bad).returncode == 0


class Following:
    """A verb that goes on, and its lines."""

    def __init__(self, cluster: Members, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*KIRSCH, *arguments],
            cwd=cluster.folder,
            env=cluster.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def until(self, words: str) -> str:
        """The next line that ends so."""
        while not (line := self.lines.get(timeout=30)).endswith(words):
            pass
        return line

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


SAYS = """\
[Service]
ExecStart=/bin/sh -c 'while read line; do echo "%i heard $$line"; done < {fifo}; exec sleep 1000'
"""


def test_a_journal_is_followed_wherever_the_unit_goes(units: Members):
    for number in (1, 2, 3):
        os.mkfifo(units.folder / f"fifo{number}")
    text = SAYS.replace("{fifo}", f"{units.folder}/fifo%i")
    units.ok("submit", units.unit("says@.service", text))
    names = [f"says@{number}.service" for number in (1, 2, 3)]
    units.ok("start", *names)
    follow = Following(units, "journal", "-f", *names)
    try:
        for number in (1, 2, 3):
            (units.folder / f"fifo{number}").write_text(f"word {number}\n")
            assert f" says@{number}.service: " in follow.until(f"{number} heard word {number}")
        # It goes on where the unit does.
        units.ok("move", "says@1")
        (units.folder / "fifo1").write_text("again\n")
        follow.until("1 heard again")
    finally:
        follow.close()
    lines = units.ok("journal", "-n", "4", *names).splitlines()
    assert len(lines) == 4
    assert lines[-1].endswith("1 heard again")
    assert (
        sum(line.endswith("heard again") for line in units.ok("journal", "-n", "50", names[0]).splitlines())
        == 1
    )


def test_a_journal_is_followed_on_at_another_machine(units: Members):
    first, second, third = units.machines
    ticks = "[Service]\nExecStart=/bin/sh -c 'while :; do echo tick; sleep 0.1; done'\n"
    units.ok("start", units.unit("ticks.service", f"{ticks}[X-Kirsch]\nMachineID={second.id}\n"))
    follow = Following(units, "--endpoint", f"{first.endpoint},{third.endpoint}", "journal", "-f", "ticks")
    try:
        follow.until("tick")
        assert first.stop() == 0
        follow.until("lines may be missing here")
        follow.until("tick")
    finally:
        follow.close()
        first.start()


def test_a_verb_waits_on_at_another_machine(units: Members):
    first, second, third = units.machines
    os.mkfifo(units.folder / "gate")
    slow = f"ExecStart=/bin/sh -c 'read line < {units.folder}/gate'\nType=oneshot\nRemainAfterExit=yes\n"
    units.unit("slow.service", f"[Service]\n{slow}[X-Kirsch]\nMachineID={second.id}\n")
    start = Following(units, "--endpoint", f"{first.endpoint},{third.endpoint}", "start", "slow.service")
    try:
        start.until("Unit slow.service inactive")
        wait_for(lambda: units.lines()["slow.service"]["active"] == "activating", "it starts")
        first.kill()
        (units.folder / "gate").write_text("go on\n")
        start.until(f"Unit slow.service launched on {second.id[:8]}.../{second.address}")
        assert start.process.wait(30) == 0
    finally:
        start.close()
        first.start()


@pytest.mark.soak
def test_a_picture_has_what_there_is_also_after_a_machine_has_left(units: Members):
    """Who waits until a Global unit is well everywhere does not wait for a machine that is no more."""
    first, second, third = units.machines
    slow = "[Service]\nType=notify\nExecStart=sleep 1000\n[X-Kirsch]\nGlobal=true\n"
    units.ok("start", "--no-block", units.unit("slow.service", slow))
    seen: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()

    def follow() -> None:
        # The second machine tells, and when it is gone another one.
        places = [(machine.address, machine.port) for machine in (second, first)]
        client = Client(Https(places, units.certificates, "cluster test"))
        for lines, _ in pictures(client, ["slow.service"], 120):
            seen.put({line["machine"]: line["active"] for line in lines.get("slow.service", {}).values()})
            if "slow.service" not in lines:
                return  # it was destroyed

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()

    def until(machines: set[str]) -> None:
        while (now := seen.get(timeout=30)).keys() != machines or set(now.values()) - {"activating"}:
            pass

    until({first.id, second.id, third.id})
    try:
        third.kill()
        until({first.id, second.id})
        second.kill()
        until({first.id})
    finally:
        second.start()
        third.start()
    units.ok("destroy", "slow")
    until(set())
    thread.join(30)


def test_a_verb_waits_for_all_machines_of_a_global_unit(units: Members):
    first = units.folder / "first"
    slow = (
        f"mkdir {first} && slow=1 || slow=0; trap 'sleep $$slow; exit 0' TERM; while :; do sleep 0.05; done"
    )
    text = f'[Service]\nExecStart=/bin/sh -c "{slow}"\n[X-Kirsch]\nGlobal=true\n'

    def states() -> list[str]:
        lines = units.client.get("/kirsch/v1/units", unit="wide.service")["units"]
        return [line["active"] for line in lines]

    said = units.ok("start", units.unit("wide.service", text))
    assert states() == ["active"] * 3
    assert said.count("Unit wide.service launched on ") == 3
    assert units.ok("stop", "wide") == "Successfully stopped units [wide.service].\n"
    assert states() == ["inactive"] * 3
    assert first.is_dir()


NOTIFIES = """\
import os, socket, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service_manager:
    service_manager.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"].replace("@", "\\0", 1))
time.sleep(1000)
"""


@pytest.mark.soak
def test_an_instance_does_not_start_anew_while_another_s_machine_was_lost(units: Members):
    """Of two instances one serves: the lost one is about to be elsewhere, and is waited for there."""
    (units.folder / "notifies.py").write_text(NOTIFIES)
    command = f"{sys.executable} {units.folder}/notifies.py {units.folder}/go%i"
    text = f"[Service]\nType=notify\nExecStart={command}\n[X-Kirsch]\nSpread=hostname\n"
    units.ok("submit", units.unit("pair@.service", text))
    for number in (1, 2):
        (units.folder / f"go{number}").touch()
    units.ok("start", "pair@1", "pair@2")
    eventually(lambda: all(line["ready"] for line in units.lines().values() if line["machine"]))
    (units.folder / "go1").unlink()
    before = units.lines()["pair@2.service"]
    lost = machine_of(units, "pair@1.service")
    units.ok("restart", "--no-block", "pair@1", "pair@2")
    wait_for(lambda: units.lines()["pair@1.service"]["active"] == "activating", "the first starts anew")
    lost.kill()

    def elsewhere() -> bool:
        line = units.lines()["pair@1.service"]
        return line["machine"] not in ("", lost.id) and line["active"] == "activating"

    try:
        wait_for(elsewhere, "the first starts elsewhere")
        now = units.lines()["pair@2.service"]
        assert (now["pid"], now["ready"]) == (before["pid"], True)
        release = units.client.get("/kirsch/v1/releases", application="pair")["releases"][0]
        assert (release["state"], release["replaced"]) == ("running", ["pair@1.service"])
        (units.folder / "go1").touch()
        wait_for(lambda: units.lines()["pair@2.service"]["pid"] != before["pid"], "the second starts anew")
    finally:
        lost.start()


def put(units: Members, name: str, texts: dict[str, str], start: list[str], query: str = "") -> None:
    """Make an application what its folder says."""
    units.client.put(f"/kirsch/v1/applications/{name}{query}", {"units": texts, "start": start})


def came_with(units: Members, name: str) -> list[str]:
    found: list[str] = units.client.get(f"/kirsch/v1/applications/{name}")["units"]
    return found


def test_an_application_is_checked_before_anything_is_done(units: Members):
    texts = {"a.service": f"{SLEEPER}[X-Kirsch]\nLink=b\n", "b.service": f"{SLEEPER}[X-Kirsch]\nLink=a\n"}
    for query in ("?check=yes", ""):
        with pytest.raises(ClientError, match="links go in a circle: a"):
            put(units, "round", texts, ["a.service"], query)
    good = {"a.service": SLEEPER}
    put(units, "round", good, ["a.service"], "?check=yes")
    assert "a.service" not in units.lines()
    with pytest.raises(ClientError, match="there is no application round"):
        came_with(units, "round")
    put(units, "round", good, ["a.service"])
    assert came_with(units, "round") == ["a.service"]


def test_units_of_one_application_are_not_taken_by_another(units: Members):
    put(units, "one", {"db.service": SLEEPER, "one.service": SLEEPER}, ["db.service"])
    other = {"db.service": SLEEPER.replace("1000", "2000"), "two.service": SLEEPER}
    for query in ("?check=yes", ""):
        with pytest.raises(ClientError, match="came with application one; give your own") as told:
            put(units, "two", other, ["db.service"], query)
        assert told.value.status == 409
    assert "two.service" not in units.lines()
    assert units.ok("cat", "db") == SLEEPER
    # Once it is gone it can be another's, and the first does not take it back.
    units.ok("destroy", "db")
    put(units, "two", other, ["db.service"])
    wait_for(lambda: came_with(units, "one") == ["one.service"], "db.service is no longer of one")
    wait_for(lambda: came_with(units, "two") == ["db.service", "two.service"], "db.service is of two")
    with pytest.raises(ClientError, match="came with application two"):
        put(units, "one", {"db.service": SLEEPER}, [])
    put(units, "one", {}, [])
    wait_for(lambda: units.lines().keys() == {"db.service", "two.service"}, "one.service is gone")


def test_what_another_machine_has_to_say_is_missed_when_it_is_away(units: Members):
    units.ok("start", units.unit("away.service", SLEEPER))
    there = machine_of(units, "away.service")
    other = next(machine for machine in units.machines if machine is not there)
    assert there.process is not None
    there.process.send_signal(signal.SIGSTOP)
    try:
        lines = units.ok("--endpoint", other.endpoint, "journal", "away").splitlines()
        assert len(lines) == 1
        assert f"machine {there.name} ({there.address}) does not answer; its lines are missing" in lines[0]
    finally:
        there.process.send_signal(signal.SIGCONT)
    wait_for(lambda: len(units.ok("list-machines").splitlines()) == 4, "it is back")


def test_events_are_a_websocket(units: Members):
    machine = units.machines[0]
    with connect(
        f"wss://{machine.address}:{machine.port}/kirsch/v1/events?unit=e.service",
        ssl=units.certificates.client(),
    ) as stream:
        assert json.loads(stream.recv(30)) == {"units": [], "left": [], "releases": []}
        units.ok(
            "start", "--no-block", units.unit("e.service", SLEEPER), units.unit("other.service", SLEEPER)
        )
        seen = []
        while not seen or seen[-1]["active"] != "active":
            seen += json.loads(stream.recv(30))["units"]
        assert {line["name"] for line in seen} == {"e.service"}
        units.ok("destroy", "e")
        while not seen[-1].get("gone"):
            seen += json.loads(stream.recv(30))["units"]
        assert seen[-1] == {"name": "e.service", "gone": True}


def test_events_say_which_machines_are_there_when_one_has_changed(units: Members):
    """The dashboard asks for machines then: one without units is missed as soon as one with some."""
    there = units.machines[0]
    ids = sorted(machine.id for machine in units.machines)
    with connect(
        f"wss://{there.address}:{there.port}/kirsch/v1/events", ssl=units.certificates.client()
    ) as stream:
        assert "machines" not in json.loads(stream.recv(30))
        units.ok("cordon", units.machines[1].name)
        while (message := json.loads(stream.recv(30))).get("machines") is None:
            pass
        assert message["machines"] == ids
        units.machines[2].stop()
        try:
            while (message := json.loads(stream.recv(60))).get("machines") in (None, ids):
                pass
            assert message["machines"] == sorted(set(ids) - {units.machines[2].id})
        finally:
            units.machines[2].start()
            units.ok("uncordon", units.machines[1].name)


def test_a_machine_by_its_cluster(units: Members):
    """--cluster goes by this computer's record of the cluster, to any machine that answers."""
    machines = [
        MachineRecord(m.name, m.id, m.address, host=m.address, api_port=m.port, etcd=True)
        for m in units.machines
    ]
    record = {
        "name": "mine", "id": "c", "created": "2026-01-01T00:00:00+00:00", "subnet": "127.0.0.0/8",
        "machines": [asdict(machine) for machine in machines], "published": [], "complete": True,
    }  # fmt: skip
    folder = units.folder / "data/kirsch/clusters/mine"
    (folder / "tls").mkdir(parents=True)
    for name, path in (
        ("ca.crt", units.certificates.authority),
        ("client.crt", units.certificates.certificate),
        ("client.key", units.certificates.key),
    ):
        (folder / "tls" / name).symlink_to(path)
    (folder / "cluster.json").write_text(json.dumps(record))
    bare = {name: "" for name in units.environment() if name.startswith("KIRSCH_")}
    assert units.machines[0].id in units.ok("--cluster", "mine", "list-machines", "--full", **bare)
    assert units.machines[0].id in units.ok("list-machines", "--full", **bare | {"KIRSCH_CLUSTER": "mine"})
    # Of an endpoint the certificates are found by the record that has it.
    assert units.ok("--endpoint", units.machines[1].endpoint, "list-machines", **bare)
    error = units.fails("--endpoint", "https://127.0.0.1:1", "list-machines", **bare)
    assert error.startswith("which certificates? ")
    assert units.fails("--cluster", "other", "list-machines", **bare).startswith(
        "there is no cluster other; there are mine"
    )
    assert "two ways" in units.fails("--endpoint", "https://x:1", "--tunnel", "x", "list-machines")
    # One machine away, the next is asked.
    first = units.machines[0]
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    try:
        assert units.ok("--cluster", "mine", "list-units", **bare) is not None
    finally:
        first.process.send_signal(signal.SIGCONT)
    wait_for(lambda: len(units.ok("list-machines").splitlines()) == 4, "it is back")


FLEETCTL = os.environ.get("FLEETCTL") or shutil.which("fleetctl")


@pytest.mark.skipif(not FLEETCTL, reason="there is no fleetctl: put one on the path, or name it in FLEETCTL")
def test_fleetctl_over_tls(units: Members):
    machine = units.machines[1]
    flags = ["--endpoint", machine.endpoint, "--ca-file", units.certificates.authority]
    flags += ["--cert-file", units.certificates.certificate, "--key-file", units.certificates.key]

    def fleetctl(*words: str) -> str:
        done = subprocess.run(
            [str(FLEETCTL), *map(str, flags), *words],
            cwd=units.folder,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert all(f"{m.id[:8]}...\t{m.address}" in fleetctl("list-machines") for m in units.machines)
    units.unit("f@.service", SLEEPER)
    fleetctl("submit", "f@.service")
    assert "Unit f@1.service launched" in fleetctl("start", "f@1")
    wait_for(lambda: re.search(r"f@1\.service\s.*active\s+running", fleetctl("list-units")), "it runs")
    assert fleetctl("cat", "f@1").strip() == SLEEPER.strip()
    assert "Unit f@1.service loaded" in fleetctl("stop", "f@1")
    assert "Destroyed f@1.service" in fleetctl("destroy", "f@1.service", "f@.service")


def test_reads_while_the_store_is_away_say_from_when_they_are(units: Members):
    units.ok("start", units.unit("old.service", SLEEPER))
    first = units.machines[0]
    fresh = first.client(units.certificates).get("/kirsch/v1/units")
    assert "asOf" not in fresh
    for member in units.etcd.members:
        member.signal(signal.SIGSTOP)
    try:
        before = datetime.now(UTC)
        client = first.client(units.certificates)
        as_of = eventually(lambda: client.get("/kirsch/v1/units").get("asOf"), 60)
        at = datetime.fromisoformat(as_of)
        assert before - timedelta(seconds=10) < at < datetime.now(UTC)
        # In text, and to fleet's clients by a header alone.
        told = units.run("list-units", "--no-legend", KIRSCH_ENDPOINT=first.endpoint)
        assert (told.returncode, told.stdout.split()[0]) == (0, "old.service")
        local = datetime.fromisoformat(as_of).astimezone()
        assert told.stderr == f"kirsch: as of {local:%H:%M:%S}; the registry has not answered since\n"
        for path in ("/kirsch/v1/machines", "/fleet/v1/units", "/fleet/v1/machines"):
            assert header(first, units, path) == as_of
        assert "asOf" not in client.get("/fleet/v1/machines")
    finally:
        for member in units.etcd.members:
            member.signal(signal.SIGCONT)
    eventually(lambda: "asOf" not in first.client(units.certificates).get("/kirsch/v1/units"), 60)
    assert header(first, units, "/kirsch/v1/units") is None
    assert units.run("list-units").stderr == ""


def header(machine: Any, units: Members, path: str) -> str | None:
    """The header Kirsch-As-Of of an answer."""
    connection = http.client.HTTPSConnection(
        machine.address, machine.port, timeout=30, context=units.certificates.client()
    )
    try:
        connection.request("GET", path)
        return connection.getresponse().headers["Kirsch-As-Of"]
    finally:
        connection.close()


# A balancer that answers the line in which the web is not ready only after a while, in which the web could
# have been stopped.
BALANCER = """\
import json, os, pathlib, socket, select
follower = socket.socket(socket.AF_UNIX)
follower.connect(os.environ["KIRSCH_ENDPOINTS"])
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
served = False
for line in follower.makefile():
    told = json.loads(line)
    serves = any(each["ready"] and each["service"] == "drained" for each in told["endpoints"])
    if served and not serves:
        stopped = os.open("stopped", os.O_RDONLY | os.O_NONBLOCK)
        select.select([stopped], [], [], 0.3)
        pathlib.Path("answered").touch()
    follower.sendall(b"%d\\n" % told["number"])
    served = serves
"""
# Whoever stops it learns whether the balancer had answered.
DRAINED = """\
import os, pathlib, signal, socket, sys
def stop(*_):
    pathlib.Path("order").write_text("after" if pathlib.Path("answered").exists() else "before")
    sys.exit()
signal.signal(signal.SIGTERM, stop)
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    signal.pause()
"""


def test_a_unit_stops_once_balancers_of_other_machines_have_let_it_go(units: Members, tmp_path: Path):
    os.mkfifo(tmp_path / "stopped")
    for name, text in (("balancer.py", BALANCER), ("drained.py", DRAINED)):
        (tmp_path / name).write_text(text)
    service = (
        f"[Service]\nType=notify\nWorkingDirectory={tmp_path}\nExecStart={sys.executable} %s\n[X-Kirsch]\n"
    )
    far, near = units.machines[1], units.machines[0]
    balancer = service % "balancer.py" + f"Endpoints=yes\nMachineID={far.id}\n"
    drained = service % "drained.py" + f"Expose=1\nMachineID={near.id}\n"
    units.ok("start", units.unit("follows.service", balancer), units.unit("drained.service", drained))
    eventually(lambda: units.lines()["drained.service"]["ready"])
    units.ok("stop", "drained")
    assert (tmp_path / "order").read_text() == "after"
