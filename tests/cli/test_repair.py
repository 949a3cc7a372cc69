"""A unit that crashed until its limit, and was mended, starts at once."""

import re

import pytest
from tests.cli.application import Application, wait_for

from kirsch.cli.up import waiting_for

UNIT = """
    [Unit]
    StartLimitIntervalSec=1h
    [Service]
    ExecStart=/bin/sh -c 'cat {cause}; test -e mended && exec sleep 1000; exit 3'
    Restart=on-failure
    RestartSec=10ms
"""


@pytest.fixture
def crashed(application: Application) -> Application:
    """An application that is up, with a unit that reached its limit."""
    application.sleeper("good.service")
    application.unit("bad.service", UNIT.format(cause="cause"))
    (application.directory / "cause").write_text("the first reason\n")
    (application.directory / "kirsch.toml").write_text('start = ["good"]')
    application.ok("up", "-d")
    assert "the first reason" in application.fails("start", "bad")
    return application


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["start", "restart"])
def test_an_order_is_carried_out(crashed: Application, verb: str):
    (crashed.directory / "mended").touch()
    assert "Unit bad.service launched on" in crashed.ok(verb, "bad")
    unit = crashed.units()["bad.service"]
    assert (unit["active"], unit["restarts"]) == ("active", 0)


@pytest.mark.slow
def test_up_carries_it_out_too(crashed: Application):
    (crashed.directory / "kirsch.toml").write_text('start = ["good", "bad"]')
    (crashed.directory / "mended").touch()
    assert re.search(r"bad\.service +ready", crashed.ok("up", "-d"))


@pytest.mark.slow
def test_another_try_that_fails_shows_its_own_lines(crashed: Application):
    (crashed.directory / "cause").write_text("the second reason\n")
    error = crashed.fails("start", "bad")
    assert "the second reason" in error
    assert "the first reason" not in error
    assert len(re.findall("it was started", error)) == 1


@pytest.mark.slow
def test_one_that_fails_at_the_start_does_not_end_the_others(application: Application):
    application.unit("bad.service", "[Service]\nExecStart=sh -c 'echo broken; exit 3'\n")
    application.sleeper("good.service")
    application.sleeper("user.service", "Link=bad")
    done = application.run("up", "-d")
    assert done.returncode == 1
    first, second, advice = (each for each in done.stderr.splitlines() if not each.startswith("warning:"))
    assert first.startswith("kirsch: bad.service failed: exited with status 3")
    assert second == "kirsch: user.service waits for bad"
    assert "`kirsch journal bad.service`" in advice
    assert "`kirsch start bad.service`" in advice
    assert {name: unit["active"] for name, unit in application.units().items()} == {
        "bad.service": "failed",
        "good.service": "active",
        "user.service": "inactive",
    }
    # As the advice has it, once that is mended.
    (application.directory / "units/bad.service").write_text("[Service]\nExecStart=sleep 1000\n")
    application.ok("submit", "--replace", "units/bad.service")
    application.ok("start", "bad.service")
    wait_for(lambda: application.units()["user.service"]["ready"], "what waited for it starts")


def test_it_does_where_that_is_asked_for(application: Application):
    application.unit("bad.service", "[Service]\nExecStart=false\n")
    application.sleeper("good.service")
    assert application.fails("up", "--exit-on-failure").startswith("bad.service failed: ")
    assert "is not up" in application.run("list-units").stderr


@pytest.mark.parametrize(
    ("waiting", "hopeless"),
    [
        (("web.service",), {"web.service": "waits for db"}),
        (("web.service", "lb.service"), {"web.service": "waits for db", "lb.service": "waits for web"}),
        (("one.service",), {}),
        ((), {}),
    ],
)
def test_who_waits_for_one_that_failed(waiting: tuple[str, ...], hopeless: dict[str, str]):
    links = {
        "db.service": (),
        "web.service": ("db",),
        "lb.service": ("web",),
        "one.service": ("app",),  # of which another instance runs
        "app@1.service": (),
        "app@2.service": (),
    }
    assert waiting_for(("db.service", "app@1.service"), links, waiting) == hopeless


@pytest.mark.slow
def test_a_second_start_that_is_taken_back_is_told_at_once(application: Application):
    """Once it has run, a start is a release, which goes back where an instance crashes again and again."""
    good = "[Service]\nExecStart=sleep 1000\nRestart=on-failure\n"
    application.unit("web.service", good)
    application.ok("up", "-d")
    application.ok("down")
    application.unit("web.service", good.replace("sleep 1000", "sh -c 'echo forgotten; exit 1'"))
    done = application.run("up", "-d", timeout=60)
    assert done.returncode == 1
    assert "web.service" in done.stderr
    assert "forgotten" in done.stderr
    assert "is not up" in application.run("why", "web").stderr
