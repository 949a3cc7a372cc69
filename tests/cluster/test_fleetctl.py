"""fleet's own client against kirsch: a real fleetctl where there is one, and a stand-in for it everywhere.

The real one is the `fleetctl` (1.0) that FLEETCTL names, or that of the path. The stand-in sends the
requests that fleetctl sends, in its order, and prints what fleetctl prints; it is no fleetctl.
"""

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.cli.application import KIRSCH, wait_for
from tests.cluster.live import Answer, Kirschd, kirschd_in, options

from kirsch.cluster.api.client import Client

pytestmark = pytest.mark.services

POLL = 0.25
Run = Callable[..., str]


@pytest.fixture
def kirschd(tmp_path: Path) -> Iterator[Kirschd]:
    with kirschd_in(tmp_path) as running:
        (tmp_path / "sleeper.service").write_text(
            "[Unit]\nDescription=A sleeper\n\n[Service]\nExecStart=/bin/sleep 1000\n"
        )
        (tmp_path / "many@.service").write_text("[Service]\nExecStart=/bin/sleep 100%i\n")
        (tmp_path / "all.service").write_text(
            "[Service]\nExecStart=/bin/sleep 1000\n\n[X-Fleet]\nGlobal=true\n"
        )
        yield running


@pytest.fixture(params=["fleetctl", "stand-in"])
def run(kirschd: Kirschd, request: pytest.FixtureRequest) -> Run:
    """Runs one command line in the folder with the unit files: what it prints; fails if it does."""
    if request.param == "stand-in":
        return StandIn(kirschd).run
    fleetctl = os.environ.get("FLEETCTL") or shutil.which("fleetctl")
    if fleetctl is None:
        pytest.skip("there is no fleetctl: put one on the path, or name it in FLEETCTL")

    def run(*words: str) -> str:
        command = [fleetctl, "--endpoint", f"unix://{kirschd.socket}", *words]
        done = subprocess.run(command, cwd=kirschd.directory, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


class StandIn:
    """fleetctl's requests, by the paths of the discovery document; each verb returns what fleetctl prints."""

    def __init__(self, kirschd: Kirschd) -> None:
        self.kirschd = kirschd
        self.waits = True
        document = kirschd.fleet("GET", "/discovery").json
        self.base = "/" + document["servicePath"]
        self.methods = {
            f"{resource}.{name}": method
            for resource, parts in document["resources"].items()
            for name, method in parts["methods"].items()
        }

    def run(self, verb: str, *words: str) -> str:
        """One command line."""
        flags = [word for word in words if word.startswith("--")]
        names = [word for word in words if not word.startswith("--")]
        verbs = {
            "list-machines": self.list_machines,
            "list-units": self.list_units,
            "list-unit-files": self.list_unit_files,
            "cat": self.cat,
            "submit": self.submit,
            "load": self.load,
            "start": self.start,
            "stop": self.stop,
            "restart": self.restart,
            "unload": self.unload,
            "destroy": self.destroy,
        }
        self.waits = "--no-block" not in flags
        lines = verbs[verb](names, replace="--replace" in flags)
        return "".join(f"{line}\n" for line in lines)

    def call(self, method: str, name: str = "", query: str = "", body: Any = None) -> Answer:
        """A method of the discovery document; fleetctl always asks for alt=json."""
        found = self.methods[method]
        path = self.base + found["path"].replace("{unitName}", quote(name, safe="@:"))
        with closing(self.kirschd.connection()) as connection:
            return connection.ask(found["httpMethod"], f"{path}?alt=json{query}", body)

    def all(self, method: str, key: str) -> list[Any]:
        found, query = [], ""
        while True:
            page = self.call(method, query=query).json
            found += page.get(key, [])
            if not page.get("nextPageToken"):
                return found
            query = "&nextPageToken=" + quote(page["nextPageToken"])

    def unit(self, name: str) -> Any:
        answer = self.call("Units.Get", name)
        assert answer.status in (200, 404)
        return answer.json if answer.status == 200 else None

    def where(self, machine: str) -> str:
        machines = {m["id"]: m for m in self.all("Machines.List", "machines")}
        return f"{machine[:8]}.../{machines[machine]['primaryIP']}" if machine else "-"

    def list_machines(self, names: list[str], replace: bool) -> Iterator[str]:
        yield "MACHINE\tIP\tMETADATA"
        for machine in self.all("Machines.List", "machines"):
            metadata = ",".join(f"{k}={v}" for k, v in sorted(machine["metadata"].items()))
            yield f"{machine['id'][:8]}...\t{machine['primaryIP']}\t{metadata or '-'}"

    def list_units(self, names: list[str], replace: bool) -> Iterator[str]:
        yield "UNIT\tMACHINE\tACTIVE\tSUB"
        for s in self.all("UnitState.List", "states"):
            place = self.where(s["machineID"])
            yield f"{s['name']}\t{place}\t{s['systemdActiveState']}\t{s['systemdSubState']}"

    def list_unit_files(self, names: list[str], replace: bool) -> Iterator[str]:
        yield "UNIT\tHASH\tDSTATE\tSTATE\tTARGET"
        for unit in self.all("Units.List", "units"):
            digest = hashlib.sha1(written(unit["options"]).encode(), usedforsecurity=False).hexdigest()[:7]
            at_large = is_global(unit)
            target = "global" if at_large else self.where(unit["machineID"])
            state = "-" if at_large else unit["currentState"]
            yield f"{unit['name']}\t{digest}\t{unit['desiredState']}\t{state}\t{target}"

    def cat(self, names: list[str], replace: bool) -> Iterator[str]:
        for name in names:
            yield written(self.unit(name)["options"]).removesuffix("\n")

    def submit(self, names: list[str], replace: bool) -> Iterator[str]:
        """A unit that is not there is created from its file, or from its template there or here."""
        for name in names:
            known, path = self.unit(name), self.kirschd.directory / name
            prefix, at, rest = name.partition("@")
            template = f"{prefix}@.{rest.rpartition('.')[2]}" if at else ""
            if path.exists():
                wanted = options(path.read_text())
            elif above := self.unit(template):
                wanted = above["options"]
            else:
                wanted = options((self.kirschd.directory / template).read_text())
            if known is None or (replace and known["options"] != wanted):
                assert self.call("Units.Set", name, body={"name": name, "options": wanted}).status == 201
                yield self.wait(name, "inactive")

    def load(self, names: list[str], replace: bool) -> Iterator[str]:
        yield from self.submit(names, replace)
        yield from self.bring(names, "loaded", "load")

    def start(self, names: list[str], replace: bool) -> Iterator[str]:
        yield from self.submit(names, replace)
        yield from self.bring(names, "launched", "start")
        for name in names:
            if self.waits and not is_global(self.unit(name)):
                wait_for(lambda name=name: self.active(name), f"{name} is active")

    def stop(self, names: list[str], replace: bool) -> Iterator[str]:
        yield from self.bring(names, "loaded", "stop")
        yield f"Successfully stopped units [{' '.join(n for n in names if not is_global(self.unit(n)))}]."

    def restart(self, names: list[str], replace: bool) -> Iterator[str]:
        """Ask for `loaded`, and wait until the unit is `launched` all the same."""
        for name in names:
            for state in ("loaded", "launched"):
                body = {"name": name, "desiredState": state}
                assert self.call("Units.Set", name, body=body).status == 204
                yield self.wait(name, "launched")

    def unload(self, names: list[str], replace: bool) -> Iterator[str]:
        yield from self.bring(names, "inactive", "unload")
        yield f"Successfully unloaded units [{' '.join(n for n in names if not is_global(self.unit(n)))}]."

    def destroy(self, names: list[str], replace: bool) -> Iterator[str]:
        known = {unit["name"] for unit in self.all("Units.List", "units")}
        for name in names:
            assert name in known
            assert self.call("Units.Delete", name).status == 204
            yield f"Destroyed {name}"

    def bring(self, names: list[str], state: str, verb: str) -> Iterator[str]:
        """Set a state where it is another, and wait until it is reached; nobody waits for a Global unit."""
        for name in names:
            unit = self.unit(name)
            if unit["desiredState"] != state:
                answer = self.call("Units.Set", name, body={"name": name, "desiredState": state})
                assert answer.status == 204
                if is_global(unit):
                    yield f"Triggered global unit {name} {verb}"
                elif not self.waits:
                    yield f"Triggered unit {name} {verb}"
                else:
                    yield self.wait(name, state)

    def wait(self, name: str, state: str) -> str:
        """fleetctl polls: `currentState`, of a Global unit, which has none, `desiredState`."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            unit = self.unit(name)
            if unit["desiredState" if is_global(unit) else "currentState"] == state:
                line = f"Unit {name} {unit.get('currentState', '')}"
                return f"{line} on {self.where(unit['machineID'])}" if unit["machineID"] else line
            time.sleep(POLL)
        pytest.fail(f"{name} is never {state}")

    def active(self, name: str) -> bool:
        state = self.call("UnitState.Get", name).json
        return (state["systemdLoadState"], state["systemdActiveState"]) == ("loaded", "active")


def is_global(unit: Any) -> bool:
    return any(o["name"] == "Global" and o["value"] == "true" for o in unit["options"])


def written(listed: list[dict[str, str]]) -> str:
    """Options as fleetctl writes them."""
    blocks: dict[str, list[str]] = {}
    for option in listed:
        blocks.setdefault(option["section"], []).append(f"{option['name']}={option['value']}\n")
    return "\n".join(f"[{section}]\n{''.join(lines)}" for section, lines in blocks.items())


def rows(table: str) -> list[list[str]]:
    """A table's cells, without its head; fleetctl fills up with tabs."""
    return [[cell for cell in line.split("\t") if cell] for line in table.splitlines()[1:]]


@pytest.mark.slow
def test_a_units_life(kirschd: Kirschd, run: Run) -> None:
    ((machine, address, _),) = rows(run("list-machines"))
    place = f"{machine}/{address}"
    # fleetctl waits for all at once: which it tells first is not said.
    assert sorted(run("submit", "sleeper.service", "many@.service").splitlines()) == [
        "Unit many@.service inactive",
        "Unit sleeper.service inactive",
    ]
    assert run("cat", "sleeper.service") == (kirschd.directory / "sleeper.service").read_text()
    assert run("load", "sleeper.service") == f"Unit sleeper.service loaded on {place}\n"
    assert run("start", "sleeper.service") == f"Unit sleeper.service launched on {place}\n"
    # An instance of the template that was submitted.
    assert run("start", "many@1.service").splitlines() == [
        "Unit many@1.service inactive",
        f"Unit many@1.service launched on {place}",
    ]
    assert rows(run("list-units")) == [
        ["many@1.service", place, "active", "running"],
        ["sleeper.service", place, "active", "running"],
    ]
    digests = {row[0]: row[1] for row in rows(run("list-unit-files"))}
    assert digests["many@.service"] == digests["many@1.service"]
    assert rows(run("list-unit-files")) == [
        ["many@.service", digests["many@.service"], "inactive", "inactive", "-"],
        ["many@1.service", digests["many@1.service"], "launched", "launched", place],
        ["sleeper.service", digests["sleeper.service"], "launched", "launched", place],
    ]
    assert run("stop", "sleeper.service").splitlines() == [
        f"Unit sleeper.service loaded on {place}",
        "Successfully stopped units [sleeper.service].",
    ]
    assert ["sleeper.service", place, "inactive", "dead"] in rows(run("list-units"))
    assert run("unload", "sleeper.service").splitlines() == [
        "Unit sleeper.service inactive",
        "Successfully unloaded units [sleeper.service].",
    ]
    names = ["sleeper.service", "many@1.service", "many@.service"]
    assert run("destroy", *names).splitlines() == [f"Destroyed {name}" for name in names]
    assert rows(run("list-unit-files")) == []


def test_a_replaced_unit_runs_anew(kirschd: Kirschd, run: Run) -> None:
    run("start", "sleeper.service")
    path = kirschd.directory / "sleeper.service"
    path.write_text(path.read_text().replace("1000", "2000"))
    lines = run("start", "--replace", "sleeper.service").splitlines()
    assert lines[0] == "Unit sleeper.service inactive"
    assert lines[1].startswith("Unit sleeper.service launched on ")
    assert run("cat", "sleeper.service") == path.read_text()


def test_a_restart_returns_and_the_unit_runs_anew(kirschd: Kirschd, run: Run) -> None:
    run("start", "sleeper.service")
    for _ in range(2):
        before = unit_line(kirschd, "sleeper.service")
        lines = run("restart", "sleeper.service").splitlines()
        told = [line.partition(" on ")[0] for line in lines if line.startswith("Unit ")]
        assert told == ["Unit sleeper.service launched"] * 2

        def again(before: Any = before) -> bool:
            now = unit_line(kirschd, "sleeper.service")
            return now["active"] == "active" and now["pid"] not in (0, before["pid"])

        wait_for(again, "it runs anew")
    assert run("stop", "sleeper.service").splitlines()[0].startswith("Unit sleeper.service loaded on ")
    assert unit_line(kirschd, "sleeper.service")["active"] == "inactive"
    # The state before the stop is told once, and not to whom lists units.
    assert [row[3] for row in rows(run("list-unit-files"))] == ["loaded"]


def test_of_two_that_replace_each_other_one_runs(kirschd: Kirschd, run: Run) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        text = f"[Service]\nExecStart=/bin/sleep 1000\n\n[X-Fleet]\nReplaces={other}.service\n"
        (kirschd.directory / f"{name}.service").write_text(text)
    run("start", "a.service")
    run("start", "--no-block", "b.service")
    assert [row[0] for row in rows(run("list-unit-files"))] == ["a.service", "b.service"]
    assert [row[0] for row in rows(run("list-units"))] == ["a.service"]
    assert "replace each other" in unit_line(kirschd, "b.service")["reasons"][0]
    run("unload", "a.service")
    wait_for(lambda: unit_line(kirschd, "b.service")["active"] == "active", "the other one runs")


def unit_line(kirschd: Kirschd, name: str) -> Any:
    """Return a unit as kirsch's own API has it."""
    (line,) = Client(kirschd.socket).get(f"/kirsch/v1/units/{name}")["on"]
    return line


def test_loading_with_replace_takes_the_new_text(kirschd: Kirschd, run: Run) -> None:
    run("load", "sleeper.service")
    path = kirschd.directory / "sleeper.service"
    path.write_text(path.read_text().replace("1000", "2000"))
    assert (
        run("load", "--replace", "sleeper.service")
        .splitlines()[-1]
        .startswith("Unit sleeper.service loaded on ")
    )
    assert run("cat", "sleeper.service") == path.read_text()


def test_what_fleets_own_tests_try_has_a_test_here() -> None:
    root = Path(__file__).parents[2]
    section = (root / "docs/fleet.md").read_text().partition("## fleet's functional tests")[2]
    rows = re.findall(r"^\| (?!scenario|---)(.+?) \| (.+) \|$", section, re.MULTILINE)
    assert len(rows) > 20
    for scenario, here in rows:
        named = re.findall(r"`(tests/[a-z_/]+\.py)::(test_\w+)`", here)
        assert named or here.startswith("difference: "), scenario
        for file, test in named:
            assert re.search(rf"def {test}\(", (root / file).read_text()), (scenario, file, test)


def test_a_global_unit(kirschd: Kirschd, run: Run) -> None:
    assert run("start", "all.service").splitlines()[-1] == "Triggered global unit all.service start"
    wait_for(lambda: [row[2] for row in rows(run("list-units"))] == ["active"], "it runs")
    ((name, _, desired, state, target),) = rows(run("list-unit-files"))
    assert (name, desired, state, target) == ("all.service", "launched", "-", "global")
    assert "Triggered global unit all.service stop" in run("stop", "all.service")


@pytest.mark.slow
def test_more_than_a_page(kirschd: Kirschd, run: Run) -> None:
    with closing(kirschd.connection()) as connection:
        for number in range(250):
            body = {"options": options("[Service]\nExecStart=/bin/true\n")}
            path = f"/fleet/v1/units/page{number:03}.service"
            assert connection.ask("PUT", path, body).status == 201
    assert len(rows(run("list-unit-files"))) == 250


@pytest.mark.slow
def test_kirsch_knows_what_fleetctl_has_submitted(kirschd: Kirschd, run: Run) -> None:
    """fleet's API has options only: the same file with a comment is no other unit."""
    path = kirschd.directory / "sleeper.service"
    run("submit", "sleeper.service")
    path.write_text("# What sleeps.\n" + path.read_text())

    def kirsch(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*KIRSCH, "--endpoint", f"unix://{kirschd.socket}", *words]
        return subprocess.run(command, cwd=kirschd.directory, capture_output=True, text=True, timeout=60)

    assert kirsch("submit", "sleeper.service").stdout == "Unit sleeper.service is there already\n"
    started = kirsch("start", "sleeper.service")
    assert (started.returncode, started.stderr) == (0, "")
    path.write_text(path.read_text().replace("1000", "2000"))
    assert "differs from the unit that was submitted" in kirsch("submit", "sleeper.service").stderr
