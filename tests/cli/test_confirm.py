"""Verbs that destroy ask on a terminal, and a script is not asked."""

import pexpect
import pytest
from tests.cli.application import KIRSCH


@pytest.fixture
def terminal(application):
    """The verb destroy, typed into a terminal beside an application that runs."""
    application.sleeper("db.service")
    application.sleeper("web.service")
    assert application.run("up", "-d").returncode == 0
    typed = []

    def run(*arguments: str) -> pexpect.spawn:
        command = [*KIRSCH, "destroy", *arguments]
        child = pexpect.spawn(command[0], command[1:], cwd=str(application.directory), timeout=60)
        typed.append(child)
        return child

    yield run
    for child in typed:
        child.close(force=True)


@pytest.mark.slow
def test_a_unit_is_destroyed_once_its_name_is_typed(application, terminal):
    asked = terminal("db")
    asked.expect_exact("This stops and forgets db.service. Type db.service to go on: ")
    asked.sendline("no")
    asked.expect_exact("kirsch: nothing was destroyed")
    asked.expect(pexpect.EOF)
    assert asked.wait() == 1
    again = terminal("db")
    again.expect_exact("to go on: ")
    again.sendline("db.service")
    again.expect_exact("Destroyed db.service")
    again.expect(pexpect.EOF)
    assert again.wait() == 0


@pytest.mark.slow
def test_the_end_of_the_input_is_no_yes(application, terminal):
    asked = terminal("db", "web")
    asked.expect_exact("This stops and forgets 2 units: db.service, web.service. Type yes to go on: ")
    asked.sendeof()
    asked.expect_exact("nothing was destroyed")
    asked.expect(pexpect.EOF)
    assert asked.wait() == 1


@pytest.mark.slow
def test_who_says_yes_is_not_asked(application, terminal):
    told = terminal("--yes", "db")
    told.expect_exact("Destroyed db.service")
    told.expect(pexpect.EOF)
    assert told.wait() == 0


def test_a_script_is_not_asked(application, terminal):
    done = application.run("destroy", "db")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Destroyed db.service\n", "")
