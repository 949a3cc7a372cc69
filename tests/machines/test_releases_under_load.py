"""The notes on three machines under load, while releases go well, fail, or lose whoever carries them out.

50 requests a second read and write by the machine that has the database; every note has a text of its own. No
request may fail but what a machine that was killed had in flight, every note that was confirmed is there
afterwards, and one of the two instances is ready at any time. Figures are printed, and kept in
bench/RESULTS.md.
"""

import http.client
import json
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.machines.test_faults import KILL, leading
from tests.machines.trial import KIRSCH, Line, Lines, Trial, events, eventually

from kirsch.cluster.model.release import FINAL
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord

pytestmark = [pytest.mark.machines, pytest.mark.faults, pytest.mark.root, pytest.mark.slow, pytest.mark.soak]

EXAMPLE = Path(__file__).parents[2] / "examples/notes"
REST = "/api/notes"
PORT = 8091
# Ten clients that keep their connections; each fifth request of one writes.
CLIENTS, PER_SECOND, WRITES = 10, 50, 5
INSTANCES = ("notes@1.container", "notes@2.container")
SETTINGS = """\
name  = "notes"
start = ["webdb", "notes@1", "notes@2", "lb"]
[images.notes]
build = "."
[images.notes-balancer]
build = "balancer"
[release]
healthy_for = "1s"
deadline    = "{deadline}"
"""
# Seconds for the images of all, and for a verb.
BUILD, LONG = 900, 240
IMAGE = "Image=localhost/notes\n"


@dataclass(frozen=True)
class Sent:
    """A request: when it began and ended, and its answer; `text` is the note that it wrote."""

    begun: float
    ended: float
    answer: str
    text: str

    @property
    def failed(self) -> bool:
        """No answer, or an error."""
        return not self.answer.startswith("2")


@dataclass
class Load:
    """Clients at a machine's port, each with a connection that it keeps."""

    address: str
    mark: str
    sent: list[Sent] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Send until stopped."""
        begun = time.monotonic()
        for number in range(CLIENTS):
            thread = threading.Thread(target=self._work, args=(number, begun), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Send no more, and have all answers."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self, requests: int) -> None:
        """Wait until so many requests more were answered."""
        wanted = len(self.sent) + requests
        eventually(lambda: len(self.sent) >= wanted)

    def _work(self, number: int, begun: float) -> None:
        connection = http.client.HTTPConnection(self.address, PORT, timeout=40)
        turn = 0
        while not self._stopped.wait(
            max(0.0, begun + (number / CLIENTS + turn) * CLIENTS / PER_SECOND - time.monotonic())
        ):
            turn += 1
            text = f"{self.mark} {uuid.uuid4().hex}" if (turn + number) % WRITES == 0 else ""
            self.sent.append(self._send(connection, text))

    def _send(self, connection: http.client.HTTPConnection, text: str) -> Sent:
        begun = time.monotonic()
        try:
            if text:
                body = json.dumps({"text": text})
                connection.request("POST", REST, body, {"Content-Type": "application/json"})
            else:
                connection.request("GET", f"{REST}?limit=5")
            response = connection.getresponse()
            response.read()
            answer = f"{response.status} {response.headers.get('X-Kirsch-Instance', '')}"
        except (OSError, http.client.HTTPException) as error:
            answer = repr(error)
            connection.close()
        return Sent(begun, time.monotonic(), answer, text)


class Watch:
    """How many of the instances were ready at the worst moment, as the cluster tells it."""

    def __init__(self, trial: Trial) -> None:
        self.least = len(INSTANCES)
        self._trial = trial
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Watch until stopped."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stopped.is_set():
            ready: dict[str, bool] = {}
            for news in events(self._trial.client, 2.0):
                for line in news["units"]:
                    if line["name"] in INSTANCES:
                        ready[line["name"]] = not line.get("gone") and line["ready"]
                self.least = min(self.least, sum(ready.values()))


class Notes:
    """The application's folder, and what is done with it."""

    def __init__(self, trial: Trial, folder: Path) -> None:
        self.trial = trial
        self.folder = folder
        self.killed: tuple[float, float] | None = None
        shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("cluster", "__pycache__"))
        self._templates = folder / "units/notes@.container"
        self._text = self._templates.read_text()
        database = folder / "units/webdb.container"
        where = f"MachineID={trial.machines[-1].id}\n"
        database.write_text(database.read_text().replace("Sticky=yes\n", f"Sticky=yes\n{where}"))
        self.settle()

    @property
    def entrance(self) -> MachineRecord:
        """The machine that has the database, and lives on."""
        return self.trial.machines[-1]

    def settle(self, line: str = "", deadline: str = "60s") -> None:
        """Say how releases go, in kirsch.toml."""
        (self.folder / "kirsch.toml").write_text(SETTINGS.format(deadline=deadline) + line)

    def change(self, old: str, new: str) -> None:
        """Change the instances' template."""
        assert old in self._text
        self._templates.write_text(self._text.replace(old, new))

    def change_somehow(self) -> None:
        """Have another text, with which all goes well; it is the good one from now on."""
        self.change("[Container]\n", f"[Container]\nLabel=try={uuid.uuid4().hex}\n")
        self._text = self._templates.read_text()

    def mend(self) -> None:
        """Have the last good text again."""
        self._templates.write_text(self._text)
        self.settle()

    def argv(self, *words: str) -> list[str]:
        """`kirsch up --on`."""
        return [KIRSCH, "up", str(self.folder), "--on", self.trial.record.name, *words]

    def up(self, *words: str, timeout: float = LONG) -> str:
        """Bring it onto the cluster; what is said."""
        done = subprocess.run(self.argv(*words), capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fails(self, *expected: str) -> None:
        """A release that fails, with one paragraph, and leaves what was there."""
        before = self.hashes()
        done = subprocess.run(self.argv(), capture_output=True, text=True, timeout=LONG)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stderr or "ModuleNotFoundError" in done.stderr, done.stderr
        for words in expected:
            assert words in done.stderr, done.stderr
        assert self.hashes() == before

    @contextmanager
    def coming(self) -> Iterator["subprocess.Popen[str]"]:
        """A good change on its way: its first instance is being replaced."""
        number = self.newest()["number"]
        self.change_somehow()
        process = subprocess.Popen(
            self.argv(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )  # fmt: skip
        try:
            eventually(lambda: self.newest()["number"] > number and self.newest()["replaced"])
            yield process
        finally:
            process.kill()
            process.communicate()

    def newest(self) -> Line:
        """The newest release."""
        return next(iter(self.trial.client.get("/kirsch/v1/releases?application=notes")["releases"]))

    def until_over(self) -> str:
        """The state in which the newest release ends."""
        eventually(lambda: self.newest()["state"] in FINAL)
        return str(self.newest()["state"])

    def hashes(self) -> dict[str, str]:
        """The texts that the instances run."""
        lines = self.trial.lines()
        return {name: lines[name]["hash"] for name in INSTANCES}

    def all_ready(self) -> None:
        """Wait until all is as it was."""
        self.trial.until(lambda lines: all(_ready(lines, name) for name in INSTANCES))

    def written(self, mark: str) -> set[str]:
        """Texts of notes that have a mark."""
        found: set[str] = set()
        path = f"{REST}?{urlencode({'limit': 100, 'q': mark})}"
        connection = http.client.HTTPConnection(self.entrance.address, PORT, timeout=40)
        while path:
            connection.request("GET", path)
            page = json.loads(connection.getresponse().read())
            found |= {note["text"] for note in page["notes"]}
            path = page["next"] or ""
        return found


def _ready(lines: Lines, name: str) -> bool:
    return name in lines and bool(lines[name]["settled"] and lines[name]["ready"])


@pytest.fixture(scope="module")
def notes(cluster: ClusterRecord, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notes]:
    """The notes, up on three machines."""
    trial = Trial(cluster, tmp_path_factory.mktemp("trial"))
    trial.clear()
    made = Notes(trial, tmp_path_factory.mktemp("application") / "notes")
    made.up(timeout=BUILD)
    yield made
    trial.clear()


def good(notes: Notes) -> None:
    """A change of the code: another image."""
    code = notes.folder / "webapp/__init__.py"
    code.write_text(code.read_text() + "# another\n")
    assert "changed: " in notes.up()


def pruned(notes: Notes) -> None:
    """Images are pruned, and a release comes back whose image no unit has named since."""
    trial = notes.trial
    path = "/kirsch/v1/releases/notes"
    new, old = (notes.newest()["number"] - n for n in (0, 1))
    images = [set(trial.client.get(f"{path}/{number}")["images"]) for number in (new, old)]
    (replaced,) = images[1] - images[0]
    trial.kirsch("image", "prune", "--on", trial.record.name)
    for machine in trial.machines:
        trial.shell(machine, f"podman image exists {replaced}")
    trial.kirsch("rollback", "notes", str(old))
    assert replaced in trial.client.get(f"{path}/{new + 1}")["images"]
    notes.up()


def unchanged(notes: Notes) -> None:
    """Nothing has changed, so nothing is done."""
    before = notes.newest()["number"]
    assert "Nothing has changed." in notes.up()
    assert notes.newest()["number"] == before


def crash(notes: Notes) -> None:
    """An image that crashes at import."""
    notes.change(IMAGE, f"{IMAGE}Exec=python -m wepapp\n")
    notes.fails("notes@1.container on n", "failed: exited with status 1", "No module named wepapp")


def health(notes: Notes) -> None:
    """A health check that fails."""
    notes.settle(deadline="8s")
    notes.change("Health=http://:8080/readyz", "Health=http://:8080/nothing")
    notes.fails("notes@1.container on n", "was not ready within 8 s")


def hang(notes: Notes) -> None:
    """A process that never listens."""
    notes.settle(deadline="8s")
    notes.change(IMAGE, f"{IMAGE}Exec=python -c 'import time; time.sleep(1000)'\n")
    notes.fails("notes@1.container on n", "was not ready within 8 s")


def image(notes: Notes) -> None:
    """An image that no registry has."""
    registry = f"{notes.trial.machines[0].address}:5000"
    notes.change(IMAGE, f"Image={registry}/nothing:1\n")
    notes.fails("notes@1.container on n", "nothing:1")


def migration(notes: Notes) -> None:
    """A command that fails: nothing is replaced."""
    notes.change("[Container]\n", "[Container]\nLabel=migrated=yes\n")
    notes.settle('command = "python -m webapp.nothing"\n')
    notes.fails("notes-release@", "No module named webapp.nothing", "Nothing was changed")


def migrated(notes: Notes) -> None:
    """A command that does its work."""
    notes.change_somehow()
    notes.settle('command = "python --version"\n')
    notes.up()


def client_killed(notes: Notes) -> None:
    """The command that asked for a release is killed."""
    with notes.coming() as up:
        up.kill()
        assert notes.until_over() == "done"


def leader_killed(notes: Notes) -> None:
    """The kirschd whose engine carries a release out is killed."""
    with notes.coming() as up:
        notes.trial.shell(leading(notes.trial), f"{KILL} kirschd")
        assert notes.until_over() == "done"
        assert up.wait(LONG) == 0
    notes.trial.until_present()


def machine_killed(notes: Notes) -> None:
    """The machine of the instance that is being replaced dies: it goes on elsewhere."""
    trial = notes.trial
    with notes.coming():
        dies = trial.machine_of(notes.newest()["replaced"][0])
        assert dies != notes.entrance
        begun = time.monotonic()
        trial.kill(dies)
        notes.killed = begun, time.monotonic()
        assert notes.until_over() == "done"
        notes.all_ready()
    trial.boot(dies)
    trial.until_present()


def canary(notes: Notes) -> None:
    """One instance tries a change first."""
    notes.settle("canary = 1\n")
    notes.change_somehow()
    assert "Canaries are ready" in notes.up()
    assert notes.newest()["state"] == "canary"
    assert len(set(notes.hashes().values())) == 2
    notes.trial.kirsch("release", "promote", "notes")
    assert notes.until_over() == "done"
    assert len(set(notes.hashes().values())) == 1


def rollback(notes: Notes) -> None:
    """An earlier release is brought back, by its number."""
    releases = notes.trial.client.get("/kirsch/v1/releases?application=notes")["releases"]
    then = [row["number"] for row in releases if row["state"] == "done"][1]
    before = notes.hashes()
    notes.trial.kirsch("rollback", "notes", str(then))
    assert notes.hashes() != before


def rotation(notes: Notes) -> None:
    """The database's password is changed, and its users know it."""
    notes.trial.kirsch("secret", "rotate", "notes-database")


def restart(notes: Notes) -> None:
    """Both instances start anew."""
    notes.trial.kirsch("restart", *INSTANCES)


def scale(notes: Notes) -> None:
    """One instance more, and one less."""
    notes.trial.kirsch("scale", "notes=3")
    notes.trial.kirsch("scale", "notes=2")


def moves(notes: Notes) -> None:
    """An instance goes from machine to machine."""
    for number in range(3):
        target = notes.trial.machines[number]
        if notes.trial.machine_of(INSTANCES[1]) != target:
            notes.trial.kirsch("move", INSTANCES[1], target.id)
            notes.all_ready()


SCENARIOS: dict[str, Callable[[Notes], None]] = {
    "a good release": good,
    "images are pruned, and a release comes back": pruned,
    "nothing has changed": unchanged,
    "a crash at import": crash,
    "a health check that fails": health,
    "a hang at start": hang,
    "an image that does not exist": image,
    "a migration that fails": migration,
    "a migration that goes well": migrated,
    "the client is killed": client_killed,
    "the leader is killed": leader_killed,
    "a machine is killed": machine_killed,
    "a canary, promoted": canary,
    "rollback to an earlier release": rollback,
    "kirsch secret rotate": rotation,
    "kirsch restart": restart,
    "kirsch scale, to three and back": scale,
    "an instance moves three times": moves,
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_nobody_notices(name: str, notes: Notes, capsys: pytest.CaptureFixture[str]):
    notes.mend()
    notes.all_ready()
    notes.killed = None
    mark = f"{name} {uuid.uuid4().hex[:6]}"
    load, watch = Load(notes.entrance.address, mark), Watch(notes.trial)
    load.start()
    watch.start()
    try:
        load.goes_on(PER_SECOND)
        begun = time.monotonic()
        SCENARIOS[name](notes)
        took = time.monotonic() - begun
        notes.all_ready()
        load.goes_on(2 * PER_SECOND)
    finally:
        load.stop()
        watch.stop()
    confirmed = {each.text for each in load.sent if each.text and not each.failed}
    lost = confirmed - notes.written(mark)
    failed = [each for each in load.sent if each.failed]
    with capsys.disabled():
        print(
            f"\n| {name} | {took:.1f} | {len(load.sent):,} | {len(failed)} | {len(lost)} of {len(confirmed)}"
            f" | {watch.least} of {len(INSTANCES)} |"
        )
        for each in failed[:5]:
            print(f"    {each.begun - begun:+.3f} s to {each.ended - begun:+.3f} s: {each}")
    unexplained = [
        each
        for each in failed
        if notes.killed is None or each.begun > notes.killed[1] or each.ended < notes.killed[0]
    ]
    assert unexplained == []
    assert lost == set()
    assert watch.least >= len(INSTANCES) - 1
