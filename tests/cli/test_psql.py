"""The article's one-off client: `kirsch run --link webdb:postgres psql` just opens the database that runs."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.cli.application import KIRSCH, Application

from kirsch.install import pip_install

pytestmark = [pytest.mark.services, pytest.mark.slow]

WEBDB = Path(__file__).parents[2] / "examples" / "notes" / "units" / "webdb.container"
PSQL = ("run", "--link", "webdb:postgres", "psql", "-At")


def test_psql_opens_the_database_that_runs(application: Application):
    application.unit("webdb.container", WEBDB.read_text())
    application.ok("up", "-d")
    assert application.ok(*PSQL, "-c", "SELECT current_user, current_database()") == "notes|notes\n"
    assert application.ok(*PSQL, "-c", "SHOW server_version_num").startswith("18")
    assert application.run(*PSQL, "-c", "SELECT nonsense").returncode == 1
    secret = (application.directory / ".kirsch/secrets/notes-database").read_text()
    line = application.ok(*PSQL, "-c", r"\! tr '\0' ' ' < /proc/$PPID/cmdline")
    assert "psql" in line
    assert secret not in line


def test_where_there_is_no_psql_it_is_said_how_to_get_it(application: Application):
    application.unit("webdb.container", WEBDB.read_text())
    application.ok("up", "-d")
    done = subprocess.run(
        [*KIRSCH, *PSQL],
        cwd=application.directory,
        env={**os.environ, "PATH": "/nowhere", "KIRSCH_POSTGRES_BIN": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"kirsch: psql is not there: apt install postgresql-client, or {pip_install('kirsch[postgres]')}\n"
    )
