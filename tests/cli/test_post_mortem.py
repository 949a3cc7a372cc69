"""After an application has ended: its units as they were, read from its folder, with the time."""

import json
import os
import re
import signal

from tests.cli.application import Application, alive, wait_for

WHEN = r"is not up; this is as of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, when it (ended|was killed)"
CRASHES = "[Service]\nExecStart=sh -c 'echo what went wrong; exit 3'\n"


def test_after_an_up_that_failed(application: Application):
    application.unit("a.service", CRASHES)
    application.fails("up")
    status = application.run("status", "a")
    assert status.returncode == 0
    assert re.search(WHEN, status.stderr), status.stderr
    assert "Active: failed (failed)" in status.stdout
    assert "what went wrong" in status.stdout
    assert "a.service: " in application.run("why").stdout
    assert "status 3" in application.run("why").stdout
    assert "what went wrong" in application.ok("journal")
    assert "failed" in application.ok("list-units")
    assert application.ok("cat", "a") == CRASHES


def test_after_down(application: Application):
    application.sleeper("a.service")
    application.sleeper("b.service")
    application.ok("up", "-d")
    application.ok("down")
    units = json.loads(application.ok("list-units", "--json"))
    assert [unit["sub"] for unit in units] == ["running", "running"]
    journal = application.run("journal", "-n", "100")
    assert journal.stdout.count("Stopped") == 2, journal.stdout
    assert journal.stderr.count("\n") == 1
    # Below the folder too, as with one that is up.
    below = application.run("-C", "units", "list-units")
    assert str(application.directory) in below.stderr
    assert "a.service" in below.stdout
    # Once it is up again nothing is old.
    application.ok("up", "-d")
    assert application.run("list-units").stderr == ""


def test_after_kill_9(application: Application):
    """Nobody could write down how the units were; what was wanted, and their lines, are there."""
    application.unit("a.service", "[Service]\nExecStart=sh -c 'echo so far; exec sleep 1000'\n")
    application.ok("up", "-d")
    pid = application.kirschd()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive({pid}), "it is gone")
    status = application.run("status", "a")
    assert "was killed" in status.stderr
    assert "Desired: launched" in status.stdout
    assert "so far" in status.stdout
    assert "was killed" in application.ok("why", "a")


def test_what_needs_one_that_is_up(application: Application):
    application.sleeper("a.service")
    application.ok("up", "-d")
    application.ok("down")
    for words in ("journal -f", "start a", "list-units --watch", "scale a=2"):
        done = application.run(*words.split())
        assert done.returncode == 1, words
        assert "kirsch up" in done.stderr, words
        assert "Traceback" not in done.stderr, words


def test_a_registry_that_is_none(application: Application):
    application.sleeper("a.service")
    (application.directory / ".kirsch").mkdir()
    (application.directory / ".kirsch/registry.db").write_text("nothing of the kind")
    done = application.run("list-units")
    assert done.returncode == 1
    assert "is not a registry of kirsch" in done.stderr
    assert "Traceback" not in done.stderr
