"""Verbs as people type them: aliases, patterns, times, numbers of instances; and verbs of other programs."""

import json
import subprocess
import time
from pathlib import Path

import pytest
from tests.cli.application import KIRSCH, Application

from kirsch.cli.values import moment, regular
from kirsch.cli.verbs import ALIASES, OTHERS, load, summaries
from kirsch.cluster.model.release import scaled
from kirsch.unit import UnitName


@pytest.fixture
def up(application: Application) -> Application:
    """A service of two instances, and another unit that says something."""
    application.sleeper("notes@.service")
    application.unit("say.service", "[Service]\nExecStart=/bin/sh -c 'echo One; echo two; exec sleep 1000'\n")
    (application.directory / "kirsch.toml").write_text(
        'start = ["notes@1", "notes@2", "say"]\n[release]\nhealthy_for = "200ms"\n'
    )
    application.ok("up", "-d")
    return application


@pytest.mark.slow
def test_patterns(up: Application):
    assert up.ok("ps", "--no-legend", "--fields", "unit", "notes@*").split() == [
        "notes@1.service",
        "notes@2.service",
    ]
    files = up.ok("list-unit-files", "--no-legend", "--fields", "unit", "notes@*", "s?y").split()
    assert files == ["notes@.service", "notes@1.service", "notes@2.service", "say.service"]
    assert up.ok("stop", "notes@*") == "Successfully stopped units [notes@1.service notes@2.service].\n"
    assert up.ok("cat", "notes@[1]") == up.ok("cat", "notes@1")
    assert up.fails("stop", "x*") == "no unit matches x*"
    assert "invalid pattern" in up.fails("stop", "notes@[")


@pytest.mark.slow
def test_scale(up: Application):
    printed = up.ok("scale", "notes=3")
    assert "Unit notes@3.service launched on" in printed
    assert "notes@1" not in printed
    assert up.ok("scale", "notes=1") == "Destroyed notes@2.service\nDestroyed notes@3.service\n"
    assert up.ok("scale", "notes=1") == "Nothing has changed.\n"
    up.ok("stop", "notes@1")
    assert "Unit notes@1.service launched on" in up.ok("scale", "notes=1")
    assert up.fails("scale", "nobody=1") == "there is no unit nobody@"
    assert "is not SERVICE=N" in up.fails("scale", "notes", status=2)


@pytest.mark.slow
def test_a_scale_is_kept_across_up_and_told(up: Application):
    def instances() -> list[str]:
        return [name for name in up.units() if name.startswith("notes@")]

    up.ok("scale", "notes=3")
    pids = {name: unit["pid"] for name, unit in up.units().items()}
    done = up.run("up", "-d")
    assert done.returncode == 0, done.stderr
    assert "nothing has changed" in done.stdout
    assert (
        "notes has 3 instances by `kirsch scale`; kirsch.toml starts 2: `kirsch scale notes=2`" in done.stderr
    )
    assert {name: unit["pid"] for name, unit in up.units().items()} == pids
    # Of another text too, and by a way back.
    up.sleeper("notes@.service", "CPU=0.1")
    up.ok("up", "-d")
    assert instances() == ["notes@1.service", "notes@2.service", "notes@3.service"]
    assert up.ok("scale", "notes=1") == "Destroyed notes@2.service\nDestroyed notes@3.service\n"
    assert "nothing would change" in up.ok("up", "--dry-run")
    up.ok("rollback", "1")
    assert instances() == ["notes@1.service", "notes@2.service"]
    done = up.run("up", "-d")
    assert (done.returncode, done.stderr) == (0, "")
    assert instances() == ["notes@1.service", "notes@2.service"]


@pytest.mark.slow
def test_a_scale_that_cannot_be_is_taken_back(up: Application):
    up.unit("notes@.service", "[Service]\nExecStart=/bin/sh -c 'test %i -lt 3 && exec sleep 1000'\n")
    up.ok("up", "-d")
    assert "failed: notes@3.service on " in up.run("scale", "notes=3").stderr
    assert [name for name in up.units() if name.startswith("notes@")] == [
        "notes@1.service",
        "notes@2.service",
    ]
    assert up.run("up", "-d").stderr == ""


def test_instances_that_are_there_stay_and_gaps_are_filled():
    template = UnitName.parse("a@.service")
    there = [UnitName.parse(f"a@{instance}.service") for instance in ("", "2", "5", "x")]
    there.append(UnitName.parse("b@1.service"))
    assert scaled(template, 3, there) == (["a@2.service", "a@5.service", "a@1.service"], [])
    assert scaled(template, 1, there) == (["a@2.service"], ["a@5.service"])
    assert scaled(template, 0, there) == ([], ["a@2.service", "a@5.service"])


def test_logs_of_a_time_and_a_pattern(up: Application):
    def texts(*words: str) -> list[str]:
        lines = up.ok("logs", "--json", *words, "say").splitlines()
        return [text for text in (json.loads(line)["text"] for line in lines) if text in ("One", "two")]

    assert texts("--grep", "one") == ["One"]
    assert texts("--grep", "ONE") == []
    assert texts("--since", "1h") == ["One", "two"]
    assert texts("--until", "1h") == []
    assert texts("--since", "today", "-n", "1", "--grep", "one|two") == ["two"]
    assert "is not a time" in up.fails("logs", "--since", "soon", status=2)
    assert "is no regular expression" in up.fails("logs", "--grep", "(", status=2)


def test_times():
    now = time.time()
    assert moment("90s") == pytest.approx(now - 90, abs=5)
    assert moment("-1h 5min") == pytest.approx(now - 3900, abs=5)
    assert moment("2 hours ago") == pytest.approx(now - 7200, abs=5)
    assert moment("yesterday") == pytest.approx(moment("today") - 86400, abs=3601)
    assert moment("2026-11-30 10:30") == time.mktime((2026, 11, 30, 10, 30, 0, 0, 0, -1))
    assert moment("7:05") == moment("07:05:00")
    assert regular("a+").search("bAA")


@pytest.mark.slow
def test_a_list_that_is_watched(up: Application):
    process = subprocess.Popen(
        [*KIRSCH, "list-units", "--watch", "--fields", "unit,active"],
        cwd=up.directory,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        while not process.stdout.readline().startswith("say.service"):
            pass
        up.ok("stop", "say")
        while process.stdout.readline().split() != ["say.service", "inactive"]:
            pass
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("verb", OTHERS)
def test_verbs_of_other_programs_are_answered_with_ours(tmp_path: Path, verb: str):
    assert verb not in summaries()
    done = subprocess.run([*KIRSCH, verb], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        2,
        f"kirsch: there is no verb {verb}: try kirsch {OTHERS[verb]} (see kirsch --help)\n",
    )
    assert OTHERS[verb].split()[0].rstrip(",") in summaries()


def test_aliases_are_the_verbs_themselves():
    assert all(load(alias) is load(verb) for alias, verb in ALIASES.items())
