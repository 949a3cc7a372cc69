"""Releases under `kirsch up`: a bad change takes no service down, and it can be steered."""

import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.application import DEADLINE, KIRSCH, Application, wait_for

from kirsch.cli.releases import who
from kirsch.cluster.api.client import Client
from kirsch.cluster.image.registry_client import texts_of
from kirsch.cluster.image.store import removable

POLICY = 'name = "web"\nstart = ["web@1", "web@2"]\n[release]\nhealthy_for = "500ms"\ndeadline = "8s"\n'
UNIT = """\
[Service]
ExecStart=python server.py
Environment=VERSION={version}
Restart=on-failure
RestartSec=0.1
[X-Kirsch]
Expose=8080
Health=http://:8080/
"""


class Web:
    """Two instances of a web server, up."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.toml = application.directory / "kirsch.toml"
        self.toml.write_text(POLICY)
        self.write()
        application.ok("up", "-d")
        self.addresses = [application.units()[f"web@{n}.service"]["address"] for n in (1, 2)]

    def write(self, version: str = "1", command: str = "python server.py") -> None:
        text = UNIT.format(version=version).replace("python server.py", command)
        self.application.unit("web@.service", text)

    def versions(self) -> list[str]:
        """What each instance runs; "" for one that does not answer."""
        return [self._version(address) for address in self.addresses]

    def _version(self, address: str) -> str:
        try:
            with urllib.request.urlopen(f"http://{address}:8080/", timeout=10) as answer:
                return str(json.load(answer)["VERSION"])
        except OSError:
            return ""

    def releases(self) -> list[tuple[int, str]]:
        rows = json.loads(self.application.ok("releases", "--json"))
        return [(row["number"], row["state"]) for row in rows]

    @contextmanager
    def never_all_away(self) -> Iterator[None]:
        """At least one instance answers at any time while the block runs."""
        over, outages = threading.Event(), []

        def probe() -> None:
            while not over.is_set():
                # Asked once more, for one may stop just after the other was asked.
                if not any(self.versions()) and not any(self.versions()):
                    outages.append("nobody answers")

        thread = threading.Thread(target=probe)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(DEADLINE)
        assert outages == []


@pytest.fixture
def web(application: Application) -> Web:
    return Web(application)


def test_a_good_release(web: Web):
    web.write("2")
    began = time.time()
    with web.never_all_away():
        printed = web.application.ok("up", "-m", "faster")
    assert "it is up to date now" in printed
    assert web.versions() == ["2", "2"]
    assert web.releases() == [(2, "done"), (1, "done")]
    assert "faster" in web.application.ok("releases", "web")
    newest = json.loads(web.application.ok("releases", "web", "--json"))[0]
    assert (newest["who"], newest["message"]) == (who(), "faster")
    assert began - 1 <= newest["created"] <= newest["ended"] <= time.time() + 1
    shown = web.application.ok("release", "show", "web", "2")
    assert re.search(rf"   Created: \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d by {re.escape(who())}\n", shown)
    assert "-Environment=VERSION=1\n+Environment=VERSION=2\n" in shown
    # Nothing has changed: there is nothing to do.
    assert "nothing has changed" in web.application.ok("up")
    assert "nothing would change" in web.application.ok("up", "--dry-run")
    assert web.releases() == [(2, "done"), (1, "done")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("python -c 'import no_such_module'", "crashed 3 times"),
        pytest.param(
            "python -m http.server --bind ${KIRSCH_ADDRESS} 8081",
            "was not ready within 8 s",
            marks=pytest.mark.soak,
        ),
        ("/no/such/program", "failed"),
    ],
)
def test_a_bad_release_is_taken_back_and_the_other_instance_never_stops(web: Web, command: str, reason: str):
    before = web.application.units()["web@2.service"]["pid"]
    web.write("2", command)
    with web.never_all_away():
        done = web.application.run("up", ".")
    assert done.returncode == 1, done.stdout + done.stderr
    said = done.stderr.removeprefix("kirsch: ")
    assert said.startswith("release 2 of web failed: web@1.service")
    assert reason in said
    assert "runs the text it had before (ready: web@1.service, web@2.service)" in said
    if "no_such_module" in command:
        assert "ModuleNotFoundError: No module named 'no_such_module'" in said
    assert web.versions() == ["1", "1"]
    assert web.application.units()["web@2.service"]["pid"] == before
    assert web.releases()[0] == (2, "rolled-back")
    # Mended, it goes through.
    web.write("3")
    web.application.ok("up")
    assert web.versions() == ["3", "3"]


@pytest.mark.slow
def test_a_command_runs_once_before_the_first_instance_and_nothing_changes_if_it_fails(
    application: Application,
):
    directory = application.directory
    # It notes how many instances answer at that time.
    (directory / "migrate.py").write_text(
        "import os, sys\n"
        "print('migrating as', os.environ['KIRSCH_UNIT'])\n"
        "open('migrated', 'a').write(os.environ['VERSION'] + '\\n')\n"
        "sys.exit('no such table' if os.environ['VERSION'] == '3' else 0)\n"
    )
    policy = POLICY + 'command = "python migrate.py"\n'
    (directory / "kirsch.toml").write_text(policy)
    text = UNIT.format(version="1")
    application.unit("web@.service", text)
    application.ok("up", "-d")
    assert (directory / "migrated").read_text() == "1\n"
    application.unit("web@.service", UNIT.format(version="2"))
    planned = application.ok("up", "--dry-run")
    assert "python migrate.py: once, as a unit like web@1.service, before" in planned
    application.ok("up", "-d")
    assert (directory / "migrated").read_text() == "1\n2\n"
    before = {name: unit["pid"] for name, unit in application.units().items()}
    assert before.keys() == {"web@1.service", "web@2.service"}
    application.unit("web@.service", UNIT.format(version="3"))
    done = application.run("up", "-d")
    assert done.returncode == 1
    assert "release 3 of web failed: web-release@3.service" in done.stderr
    assert "  no such table\n" in done.stderr
    assert "Nothing was changed (ready: web@1.service, web@2.service)." in done.stderr
    assert {name: unit["pid"] for name, unit in application.units().items()} == before
    assert (directory / "migrated").read_text() == "1\n2\n3\n"


@pytest.mark.slow
def test_what_takes_back_a_change_that_has_not_begun_takes_its_place(web: Web):
    web.toml.write_text(POLICY + 'command = "sleep 1000"\n')
    web.write("2")
    directory = web.application.directory
    asking = subprocess.Popen([*KIRSCH, "up", "."], cwd=directory, stderr=subprocess.DEVNULL)
    wait_for(lambda: "web-release@2.service" in web.application.units(), "its command runs")
    asking.kill()
    asking.wait(DEADLINE)
    # Nothing has changed yet, but would.
    web.toml.write_text(POLICY)
    web.write("1")
    web.application.ok("up", "-d", "--now")
    assert web.releases() == [(3, "done"), (2, "superseded"), (1, "done")]
    assert web.versions() == ["1", "1"]
    wait_for(lambda: web.application.units().keys() == {"web@1.service", "web@2.service"}, "it is ended")


@pytest.mark.slow
def test_the_one_who_asked_may_go_away(web: Web):
    web.write("2")
    directory = web.application.directory
    asking = subprocess.Popen([*KIRSCH, "up", "."], cwd=directory, stdout=subprocess.PIPE, text=True)
    assert asking.stdout is not None
    assert asking.stdout.readline()
    asking.kill()
    asking.wait(DEADLINE)
    asking.stdout.close()
    wait_for(lambda: web.releases()[0] == (2, "done"), "the release goes on")
    assert web.versions() == ["2", "2"]


@pytest.mark.slow
def test_a_release_goes_on_after_kirschd_was_killed(web: Web):
    web.toml.write_text(POLICY + "canary = 1\n")
    web.write("2")
    web.application.ok("up")
    assert web.versions() == ["2", "1"]
    os.kill(web.application.kirschd(), signal.SIGKILL)
    wait_for(lambda: not any(web.versions()), "its units end with it")
    # Another kirschd: this change waits for the one that was under way.
    web.application.ok("up", "-d")
    assert web.releases()[:2] == [(3, "waiting"), (2, "canary")]
    web.application.ok("release", "promote", "web", "2")
    wait_for(lambda: web.releases()[:2] == [(3, "done"), (2, "done")], "both are done")
    assert web.versions() == ["2", "2"]


@pytest.mark.slow
def test_a_pause_holds_a_release_until_it_is_resumed(web: Web):
    web.toml.write_text(POLICY.replace("500ms", "60s"))
    web.write("2")
    directory = web.application.directory
    asking = subprocess.Popen([*KIRSCH, "up", "-d"], cwd=directory, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: web.versions() == ["2", "1"], "the first instance is replaced")
    assert web.application.ok("release", "pause") == "release 2 of web: paused\n"
    _, told = asking.communicate(timeout=DEADLINE)
    assert asking.returncode == 1
    assert "release 2 of web is paused.\nIt is paused: `kirsch release resume web 2`" in told
    assert "there is nothing to promote" in web.application.fails("release", "promote")
    assert web.releases()[0] == (2, "paused")
    web.application.ok("release", "resume")
    assert web.releases()[0] == (2, "running")
    web.application.ok("release", "abort")
    wait_for(lambda: web.releases()[0] == (2, "aborted"), "the release is called off")
    assert web.versions() == ["1", "1"]


@pytest.mark.slow
def test_a_restart_that_fails_says_why_and_is_no_success(web: Web):
    web.write("2", "sh -c 'test ! -e broken || { cat broken; exit 1; }; exec python server.py'")
    web.application.ok("up")
    for cause in ("the first cause", "the second cause"):
        (web.application.directory / "broken").write_text(f"{cause}\n")
        done = web.application.run("restart", "web@1", "web@2")
        assert done.returncode == 1
        assert "failed: web@1.service" in done.stderr
        # Its lines are those of this try.
        assert re.findall(r"the \w+ cause", done.stderr) == [cause] * done.stderr.count(cause)
        assert cause in done.stderr
        assert web.versions() == ["", "2"]
        wait_for(lambda: web.application.units()["web@1.service"]["active"] == "failed", "it gives up")
        # Clocks of machines differ, so lines of the second before count, too.
        ended = time.time()
        wait_for(lambda ended=ended: time.time() > ended + 1, "a second has passed")


@pytest.mark.slow
def test_canaries_are_promoted_by_time(web: Web):
    web.toml.write_text(POLICY + 'canary = 1\npromote = "1s"\n')
    web.write("2")
    web.application.ok("up")
    wait_for(lambda: web.releases()[0] == (2, "done"), "it goes on by itself")
    assert web.versions() == ["2", "2"]


@pytest.mark.slow
def test_a_release_tells_its_images_and_of_when_its_secrets_are(web: Web):
    web.application.unit(
        "db.container",
        "[Container]\nImage=localhost/db:k-1\n[X-Kirsch]\nSecret=word:WORD\n"
        "[X-Kirsch-Process]\nExecStart=sleep 1000\n",
    )
    web.toml.write_text(POLICY.replace('"web@2"]', '"web@2", "db"]'))
    web.application.ok("up")
    web.application.unit(
        "db.container",
        "[Container]\nImage=localhost/db:k-2\n[X-Kirsch]\nSecret=word:WORD\n"
        "[X-Kirsch-Process]\nExecStart=sleep 1000\n",
    )
    web.application.ok("up")
    (secret,) = json.loads(web.application.ok("secret", "list", "--json"))
    found = json.loads(web.application.ok("release", "show", "web", "3", "--json"))
    assert found["images"] == ["localhost/db:k-2"]
    assert found["release"]["secrets"] == {"word": secret["set"]}
    shown = web.application.ok("release", "show", "web", "3")
    assert "    Images: localhost/db:k-2\n" in shown
    assert re.search(r"   Secrets: word of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n", shown)
    # An image that only an older release names is not to be removed.
    texts = texts_of(Client(web.application.directory / ".kirsch/kirsch.sock"))
    assert removable([f"localhost/db:k-{n}" for n in range(3)] + ["x:<none>"], texts) == ["localhost/db:k-0"]
    # What is brought back has the secrets that there are now.
    web.application.ok("rollback", "web", "2")
    assert "of 20" in web.application.ok("release", "show", "web", "4")


@pytest.mark.slow
def test_mistakes_are_one_line_and_a_status(web: Web):
    fails = web.application.fails
    none = "there are no releases of nothing; there are some of web"
    assert fails("releases", "nothing") == none
    assert fails("release", "show", "nothing") == none
    assert fails("release", "abort", "nothing", "2") == none
    assert fails("rollback", "nothing") == "there are no releases of nothing"
    assert fails("rollback") == "web has no earlier release that went well"
    assert fails("release", "show", "web", "9") == "there is no release 9 of web"
    assert fails("release", "promote", "web") == "release 1 of web is over: it is done"
    assert web.releases() == [(1, "done")]


@pytest.mark.slow
def test_rollback(web: Web):
    # A rollback tries nothing on some first, though the release had canaries.
    web.toml.write_text(POLICY + "canary = 1\n")
    web.write("2")
    web.application.ok("up")
    web.application.ok("release", "promote")
    wait_for(lambda: web.releases()[0] == (2, "done"), "the release is done")
    assert "back to release 1" in web.application.ok("rollback")
    assert web.versions() == ["1", "1"]
    web.application.ok("rollback", "web", "2")
    assert web.versions() == ["2", "2"]
    assert "there is no release 9 of web" in web.application.fails("rollback", "web", "9")


@pytest.mark.slow
def test_canaries_wait_to_be_promoted_or_called_off(web: Web):
    web.toml.write_text(POLICY + "canary = 1\n")
    web.write("2")
    assert "kirsch release promote web 2" in web.application.ok("up")
    assert web.versions() == ["2", "1"]
    assert web.releases()[0] == (2, "canary")
    web.application.ok("release", "promote")
    wait_for(lambda: web.releases()[0] == (2, "done"), "the release is done")
    assert web.versions() == ["2", "2"]
    web.write("3")
    web.application.ok("up")
    web.application.ok("release", "abort")
    wait_for(lambda: web.releases()[0] == (3, "aborted"), "the release is called off")
    assert web.versions() == ["2", "2"]
    assert "is over: it is aborted" in web.application.fails("release", "resume")


@pytest.mark.slow
def test_what_changes_no_text_and_waits_keeps_the_one_that_comes(web: Web):
    web.toml.write_text(POLICY + "canary = 1\n")
    web.write("2")
    web.application.ok("up")
    assert web.releases()[0] == (2, "canary")
    directory = web.application.directory
    asking = subprocess.Popen([*KIRSCH, "scale", "web=3"], cwd=directory, stdout=subprocess.PIPE, text=True)
    assert asking.stdout is not None
    told = asking.stdout.readline()
    assert told == "It waits for the release that is under way; --now takes its place.\n"
    asking.kill()
    asking.communicate(timeout=DEADLINE)
    web.application.ok("restart", "web@1", "web@2", "--no-block")
    web.application.ok("release", "promote", "web", "2")
    wait_for(lambda: [state for _, state in web.releases()[:3]] == ["done"] * 3, "all are done")
    web.addresses.append(web.application.units()["web@3.service"]["address"])
    assert web.versions() == ["2", "2", "2"]
    # One that waits may find more instances than there were when it was asked for.
    web.write("3")
    web.application.ok("up")
    web.application.ok("scale", "web=5", "--no-block")
    web.application.ok("scale", "web=2", "--no-block")
    web.application.ok("release", "promote", "web", "5")
    wait_for(lambda: web.releases()[0] == (7, "done"), "all are done")
    assert web.application.units().keys() == {"web@1.service", "web@2.service"}


@pytest.mark.slow
def test_a_pause_on_failure(web: Web):
    web.toml.write_text(POLICY + 'on_failure = "pause"\n')
    switch: Path = web.application.directory / "broken"
    switch.touch()
    # It may be started as often as it likes.
    broken = "sh -c 'test ! -e broken && exec python server.py'\n[Unit]\nStartLimitIntervalSec=0\n[Service]"
    web.write("2", broken)
    done = web.application.run("up", ".")
    assert done.returncode == 1
    assert "kirsch release resume web 2" in done.stderr
    assert web.versions() == ["", "1"]
    switch.unlink()
    web.application.ok("release", "resume", "web")
    wait_for(lambda: web.releases()[0] == (2, "done"), "the release is done")
    assert web.versions() == ["2", "2"]


@pytest.mark.slow
def test_a_restart_waits_for_one_instance_after_another(web: Web):
    before = {name: unit["pid"] for name, unit in web.application.units().items()}
    with web.never_all_away():
        web.application.ok("restart", "web@1", "web@2")
    after = {name: unit["pid"] for name, unit in web.application.units().items()}
    assert not set(before.values()) & set(after.values())
    assert web.versions() == ["1", "1"]


@pytest.mark.slow
def test_what_the_settings_may_be(web: Web):
    web.toml.write_text(POLICY + "at_once = 1\n")
    assert "release: unknown key 'at_once'" in web.application.fails("up")
    web.toml.write_text(POLICY + "at_a_time = 0\n")
    assert "at least 1 instance" in web.application.fails("up")


def test_a_plan_says_how_units_are_replaced(web: Web):
    web.write("2")
    assert web.application.ok("up", "--dry-run").splitlines()[-1] == (
        "release  web@1.service, web@2.service: 1 at a time, each ready for 0.5 s before the next"
    )
    assert web.versions() == ["1", "1"]


@pytest.mark.slow
def test_the_only_instance_of_a_service_is_said_to_be_away_before_it_is_replaced(web: Web):
    web.toml.write_text(POLICY.replace(', "web@2"', ""))
    words = "is away for a moment, for it is the only instance of web"
    assert words not in web.application.ok("up")
    web.write("2")
    assert f"release  web@1.service: it {words}" in web.application.ok("up", "--dry-run")
    assert web.application.ok("up").startswith(f"web@1.service {words}\n")
