"""A unit that crashed until its limit, and was mended, starts at once."""

import re

import pytest
from tests.cli.application import Application

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


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_an_order_is_carried_out(crashed: Application, verb: str):
    (crashed.directory / "mended").touch()
    assert "Unit bad.service launched on" in crashed.ok(verb, "bad")
    unit = crashed.units()["bad.service"]
    assert (unit["active"], unit["restarts"]) == ("active", 0)


def test_up_carries_it_out_too(crashed: Application):
    (crashed.directory / "kirsch.toml").write_text('start = ["good", "bad"]')
    (crashed.directory / "mended").touch()
    assert re.search(r"bad\.service +ready", crashed.ok("up", "-d"))


def test_another_try_that_fails_shows_its_own_lines(crashed: Application):
    (crashed.directory / "cause").write_text("the second reason\n")
    error = crashed.fails("start", "bad")
    assert "the second reason" in error
    assert "the first reason" not in error
    assert len(re.findall("it was started", error)) == 1
