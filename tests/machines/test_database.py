"""The notes' database on three machines under load, while one of its machines has a fault.

`kirsch up examples/notes --on` runs it with replicas where there are three machines. 50 requests a second
read and write by a machine that has no fault, every note with a text of its own; besides, a writer in each
machine's own network writes to the member there, whoever leads. What was acknowledged is there afterwards,
and no member took a write once another had been made the leader and had taken one. Figures are printed, and
kept in bench/RESULTS.md.

KIRSCH_ROUNDS=20 kills the leader's machine so often.
"""

import base64
import json
import os
import random
import shutil
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from tests.faults.inject import Faults
from tests.faults.plan import Fault, Kind
from tests.machines.database_writer import Accepted, by_no_leader
from tests.machines.test_releases_under_load import BUILD, PER_SECOND, Load
from tests.machines.trial import KIRSCH, Trial, eventually, podman

from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, etcd_url

pytestmark = [pytest.mark.machines, pytest.mark.faults, pytest.mark.root, pytest.mark.slow, pytest.mark.soak]

EXAMPLE = Path(__file__).parents[2] / "examples/notes"
WRITER = Path(__file__).with_name("database_writer.py")
MEMBERS = tuple(f"webdb@{number}.container" for number in (1, 2, 3))
ROUNDS = int(os.environ.get("KIRSCH_ROUNDS", "1"))
# Seconds in which three members are one leader and two that follow it, whatever happened to them.
SETTLES = 240
# Seconds for which a fault lasts that ends by itself.
LASTS = 30.0
# Seconds for `kirsch down`.
DOWN = 20
PASSWORD = "cherries-in-the-summer"


def longest_gap(times: Sequence[float]) -> float:
    """Return the longest time between two moments."""
    return max((after - before for before, after in pairwise(sorted(times))), default=0.0)


class Writers:
    """A writer in each machine's network."""

    def __init__(self, trial: Trial, addresses: dict[str, str], folder: Path) -> None:
        self.trial = trial
        self.addresses = addresses
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.files: list[tuple[str, Path]] = []

    def start(self, member: str) -> None:
        """Write to a member from its own machine, as that is now."""
        container = self.trial.machine_of(member).container
        pid = podman("inspect", "--format", "{{.State.Pid}}", container).stdout.strip()
        path = self.folder / uuid.uuid4().hex
        command = ["nsenter", "--net", "--target", pid, sys.executable, str(WRITER)]
        with path.open("wb") as file:
            process = subprocess.Popen([*command, self.addresses[member], PASSWORD], stdout=file)
        self.processes.append(process)
        self.files.append((member, path))

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    @property
    def accepted(self) -> list[Accepted]:
        found = []
        for member, path in self.files:
            # The last line of one that was killed may be half of one.
            for line in path.read_text().split("\n")[:-1]:
                row, timeline, sent, acknowledged = line.split()
                found.append(Accepted(row, member, int(timeline), float(sent), float(acknowledged)))
        return found


class Database:
    """The notes on three machines, and their database's members."""

    def __init__(self, trial: Trial, folder: Path) -> None:
        self.trial = trial
        self.folder = folder
        self.faults = Faults(trial)
        shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", ".kirsch"))
        secret = {"value": base64.b64encode(PASSWORD.encode()).decode(), "replace": True}
        trial.client.put("/kirsch/v1/secrets/notes-database", secret)
        said = self.up()
        assert "webdb@3.container" in said
        self.settle()
        self.query("drop table if exists marks; create table marks (id text primary key)")

    def up(self) -> str:
        """Bring the notes onto the cluster; what is said."""
        command = [KIRSCH, "up", str(self.folder), "--on", self.trial.record.name, "--timeout", str(SETTLES)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def roles(self) -> dict[str, str]:
        """The role of each member that runs, as Patroni has it."""
        said = self.trial.kirsch("db", "status", "webdb", "--json", check=False)
        if said.status:
            return {}
        members = json.loads(said.out)["members"]
        well = ("running", "streaming")
        return {
            f"{each['Member'].replace('-', '@')}.container": each["Role"]
            for each in members
            if each["State"] in well
        }

    def settled(self) -> bool:
        """True while one leads and two follow, one of them in step with it."""
        return sorted(self.roles().values()) == ["Leader", "Replica", "Sync Standby"]

    def settle(self) -> None:
        """Wait until all is as it should be."""
        self.trial.until_present()
        eventually(self.settled, SETTLES)
        wanted = {*MEMBERS, "notes@1.container", "notes@2.container"}
        self.trial.until(lambda lines: all(n in lines and lines[n]["ready"] for n in wanted), SETTLES)

    def member(self, *roles: str) -> str:
        """A member that has one of these roles."""
        return random.choice([name for name, role in self.roles().items() if role in roles])

    def hands_over(self, member: str) -> bool:
        """True once a member leads. One that is not in step is refused, and patronictl's status is 0."""
        if self.roles().get(member) == "Leader":
            return True
        self.trial.kirsch("db", "switchover", "webdb", "--to", member, check=False)
        return False

    def another_leads(self, member: str) -> bool:
        """True once another than this member leads. Until then the leader is told to begin the next file of
        its log: the one that it has takes a few rows a second for a long time."""
        self.trial.kirsch("db", "psql", "webdb", "-Atqc", "select pg_switch_wal()", check=False)
        return any(role == "Leader" and name != member for name, role in self.roles().items())

    def query(self, statement: str) -> list[str]:
        """The lines that psql prints, where writes are taken, once somebody takes them."""
        printed: list[str] = []

        def asked() -> bool:
            done = self.trial.kirsch("db", "psql", "webdb", "-Atqc", statement, check=False)
            printed[:] = done.out.split()
            return done.status == 0

        eventually(asked, SETTLES)
        return printed

    @contextmanager
    def fault(self, kind: Kind, *machines: MachineRecord) -> Iterator[None]:
        """Have machines a fault."""
        every = [Fault(kind, list(self.trial.machines).index(machine), 0, 0) for machine in machines]
        begun: list[Fault] = []
        try:
            for each in every:
                self.faults.begin(each)
                begun.append(each)
            yield
        finally:
            for each in begun:
                self.faults.end(each)


@pytest.fixture(scope="module")
def database(cluster: ClusterRecord, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The notes, up on three machines."""
    trial = Trial(cluster, tmp_path_factory.mktemp("trial"))
    trial.clear()
    yield Database(trial, tmp_path_factory.mktemp("application") / "notes")
    trial.clear()


class Under:
    """Load on the notes and their database, and what came of it."""

    def __init__(self, database: Database, entrance: MachineRecord, folder: Path) -> None:
        self.database = database
        self.mark = uuid.uuid4().hex[:8]
        self.load = Load(entrance.address, self.mark)
        lines = database.trial.lines()
        self.writers = Writers(database.trial, {name: lines[name]["address"] for name in MEMBERS}, folder)

    def __enter__(self) -> "Under":
        self.load.start()
        for member in MEMBERS:
            self.writers.start(member)
        self.load.goes_on(2 * PER_SECOND)
        return self

    def __exit__(self, *_: object) -> None:
        self.load.stop()
        self.writers.close()

    def written_since(self, moment: float) -> bool:
        """True once a note was written that was sent after a moment."""
        return any(each.begun > moment and each.text and not each.failed for each in self.load.sent)

    def await_written(self) -> None:
        """Wait until people can write, from here on, and whoever leads took a row of the writer beside it."""
        now = time.monotonic()
        eventually(lambda: self.written_since(now), SETTLES)
        eventually(lambda: any(each.sent > now for each in self.writers.accepted), SETTLES)

    def report(self, name: str) -> float:
        """Print the outage, and return it. Nothing may be lost, and nobody but a leader take writes."""
        sent, accepted = self.load.sent, self.writers.accepted
        written = [each for each in sent if each.text and not each.failed]
        kept = set(self.database.query("select id from marks"))
        lost = {each.row for each in accepted} - kept
        ours = f"select split_part(text, ' ', 2) from notes where text ^@ '{self.mark}'"
        lost |= {each.text.partition(" ")[2] for each in written} - set(self.database.query(ours))
        outage = longest_gap([each.ended for each in written])
        direct = longest_gap([each.acknowledged for each in accepted])
        failed = [each for each in sent if each.failed]
        kinds = Counter(each.answer.split("(")[0].split()[0] for each in failed)
        leaders = len({each.timeline for each in accepted})
        strays = by_no_leader(accepted)
        load = os.getloadavg()[0]
        print(
            f"\n| {name} | {outage:.1f} | {direct:.1f} | {len(sent):,} | {dict(kinds)} | {len(lost)} of "
            f"{len(written) + len(accepted):,} | {leaders} | {len(strays)} | {load:.0f} |",
            flush=True,
        )
        assert lost == set()
        assert strays == [], "two took writes at a time"
        return outage


def killed(database: Database, under: Under, machine: MachineRecord) -> None:
    """The machine dies, and is started once others go on."""
    member = next(name for name in MEMBERS if database.trial.machine_of(name) == machine)
    with database.fault(Kind.KILLED, machine):
        time.sleep(2)  # what was under way is answered
        under.await_written()
    eventually(lambda: database.trial.by_id(machine.id) and machine.id in database.trial.present())
    under.writers.start(member)


def paused(database: Database, under: Under, machine: MachineRecord) -> None:
    """The machine does nothing for a while."""
    with database.fault(Kind.PAUSED, machine):
        time.sleep(LASTS)
        under.await_written()


def cut_off(database: Database, under: Under, machine: MachineRecord) -> None:
    """The machine reaches nobody for a while."""
    with database.fault(Kind.CUT_OFF, machine):
        time.sleep(LASTS)
        under.await_written()


MACHINE_FAULTS: dict[str, Callable[[Database, Under, MachineRecord], None]] = {
    "killed": killed,
    "paused": paused,
    "cut off": cut_off,
}


@pytest.mark.parametrize("turn", range(ROUNDS))
@pytest.mark.parametrize("role", ["Leader", "Sync Standby", "Replica"])
@pytest.mark.parametrize("name", MACHINE_FAULTS)
def test_a_machine_has_a_fault(
    name: str,
    role: str,
    turn: int,
    database: Database,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    database.settle()
    machine = database.trial.machine_of(database.member(role))
    # Its next leader gives each lease, and with it the key of who leads the database, its full time again.
    leads_etcd = database.trial.client.get("/kirsch/v1/store")["leader"] == etcd_url(machine)
    entrance = random.choice([each for each in database.trial.machines if each != machine])
    with Under(database, entrance, tmp_path) as under:
        time.sleep(random.uniform(0, 5))  # Patroni's round: a machine dies at any moment of it
        MACHINE_FAULTS[name](database, under, machine)
        under.await_written()
        database.settle()
        under.await_written()
    besides = " (it leads etcd)" if leads_etcd else ""
    with capsys.disabled():
        under.report(f"the machine of the {role.lower()}{besides} is {name}")


def test_a_switchover(database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    database.settle()
    with Under(database, random.choice(database.trial.machines), tmp_path) as under:
        for _ in range(3):
            database.trial.kirsch("db", "switchover", "webdb", "--to", database.member("Sync Standby"))
            under.await_written()
            database.settle()
    with capsys.disabled():
        under.report("three switchovers")


def test_a_release_replaces_the_leader_last(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    database.settle()
    led = database.member("Leader")
    unit = database.folder / "cluster/webdb@.container"
    unit.write_text(unit.read_text().replace("[Container]\n", f"[Container]\nLabel=try={uuid.uuid4().hex}\n"))
    with Under(database, random.choice(database.trial.machines), tmp_path) as under:
        database.up()
        under.await_written()
        database.settle()
    assert database.member("Leader") != led
    with capsys.disabled():
        under.report("a release of its image")


def test_both_replicas_are_lost(database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Their processes: the leader goes on alone. Their machines, and with them the quorum: nobody writes."""
    database.settle()
    machine = database.trial.machine_of(database.member("Leader"))
    replicas = [each for each in database.trial.machines if each != machine]
    names = [name for name in MEMBERS if database.trial.machine_of(name) != machine]
    with Under(database, machine, tmp_path) as under:
        database.trial.kirsch("stop", *names)
        under.await_written()
        database.trial.kirsch("start", *names)
        database.settle()
    with capsys.disabled():
        under.report("both replicas stop")
    with Under(database, machine, tmp_path) as under:
        with database.fault(Kind.KILLED, *replicas):
            time.sleep(LASTS)
        database.trial.until_present()
        for name in names:
            under.writers.start(name)
        under.await_written()
        database.settle()
    with capsys.disabled():
        under.report("the machines of both replicas are killed, for half a minute")


def test_etcd_has_no_quorum_for_a_minute(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The leader goes on, for it reaches all others (failsafe mode)."""
    database.settle()
    two = database.trial.machines[:2]
    with Under(database, database.trial.machines[2], tmp_path) as under:
        for machine in two:
            database.trial.shell(machine, "systemctl stop etcd")
        try:
            time.sleep(60)
        finally:
            for machine in two:
                database.trial.shell(machine, "systemctl start etcd", check=False)
        under.await_written()
        database.settle()
    with capsys.disabled():
        outage = under.report("etcd has no quorum for a minute")
    assert outage < LASTS, "the leader gave up"


# A member's data goes onto a disk that has little more room; at the end it has what it had before.
SMALL = """\
set -e
there=$(podman volume inspect notes-webdb --format '{{.Mountpoint}}')
mv "$there" "$there.big" && mkdir "$there"
mount -t tmpfs -o size=$(($(du -sm "$there.big" | cut -f1) + 200))m tmpfs "$there"
cp -a "$there.big/." "$there/"
chown --reference="$there.big" "$there" && chmod --reference="$there.big" "$there"
"""
FILLED = "cat /dev/zero > $(podman volume inspect notes-webdb --format '{{.Mountpoint}}')/full"
EMPTIED = "rm $(podman volume inspect notes-webdb --format '{{.Mountpoint}}')/full"
BIG = """\
there=$(podman volume inspect notes-webdb --format '{{.Mountpoint}}')
umount "$there" && rmdir "$there" && mv "$there.big" "$there"
"""


@contextmanager
def small_disk(trial: Trial, member: str) -> Iterator[MachineRecord]:
    """Have a member's data on a disk with little more room than they take; its machine."""
    machine = trial.machine_of(member)
    trial.kirsch("stop", member)
    trial.shell(machine, SMALL)
    try:
        trial.kirsch("start", member)
        yield machine
    finally:
        trial.kirsch("stop", member)
        trial.shell(machine, BIG)
        trial.kirsch("start", member)


@pytest.mark.parametrize("role", ["Sync Standby", "Replica"])
def test_a_replica_s_disk_is_full(
    role: str, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    database.settle()
    trial, member = database.trial, database.member("Replica")
    with small_disk(trial, member) as machine:
        database.settle()
        if role == "Sync Standby":
            other = database.member("Sync Standby")
            trial.kirsch("stop", other)
            eventually(lambda: database.roles().get(member) == "Sync Standby", SETTLES)
            trial.kirsch("start", other)
            database.settle()
        with Under(database, random.choice([m for m in trial.machines if m != machine]), tmp_path) as under:
            trial.shell(machine, FILLED, check=False)
            eventually(lambda: database.roles().get(member) != "Sync Standby", SETTLES)
            time.sleep(LASTS)
            under.await_written()
            trial.shell(machine, EMPTIED)
            database.settle()
            under.await_written()
        with capsys.disabled():
            under.report(f"the disk of the {role.lower()} is full for half a minute")
    database.settle()


def test_the_leader_s_disk_is_full(database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    database.settle()
    trial, member = database.trial, database.member("Sync Standby")
    entrance = next(each for each in trial.machines if each != trial.machine_of(member))
    with small_disk(trial, member) as machine:
        database.settle()
        # Another is in step now, and leads next: this one does once it is the only other.
        third = next(name for name in MEMBERS if name != member and database.roles()[name] != "Leader")
        trial.kirsch("stop", third)
        eventually(lambda: database.roles().get(member) == "Sync Standby", SETTLES)
        eventually(lambda: database.hands_over(member), SETTLES)
        trial.kirsch("start", third)
        database.settle()
        with Under(database, entrance, tmp_path) as under:
            trial.shell(machine, FILLED, check=False)
            eventually(lambda: database.another_leads(member), SETTLES)
            under.await_written()
            trial.shell(machine, EMPTIED)
            database.settle()
            under.await_written()
        with capsys.disabled():
            under.report("the leader's disk is full")
    database.settle()


def test_down_keeps_nobody_waiting(database: Database, capsys: pytest.CaptureFixture[str]):
    """All members stop at a time: none has to wait for another."""
    database.settle()
    began = time.monotonic()
    command = [KIRSCH, "down", str(database.folder), "--on", database.trial.record.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD)
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    with capsys.disabled():
        print(f"\ndown after {seconds:.1f} s at load {os.getloadavg()[0]:.0f}")
    database.up()
    database.settle()
    assert seconds < DOWN
