"""`kirsch db`: three members of a database as units of an application here, with a real etcd."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cli.application import Application, wait_for
from tests.cluster.etcd_server import needs_etcd
from tests.sql.patroni_members import PATIENCE, SERVE, confined_etcd, member_command, member_environment

from kirsch.cli.db import PATRONICTL
from kirsch.cli.main import main
from kirsch.cluster.api.client import Client
from kirsch.unit import UnitName

UNIT = """\
[Service]
ExecStartPre={chown}
ExecStart={serve}
StateDirectory=webdb-%i
Environment={environment}
Environment=PGDATA=%S/webdb-%i/data POSTGRES_SOCKETS=%S/webdb-%i
Environment=PATRONICTL_CONFIG_FILE=%S/webdb-%i/patroni.json
TimeoutStopSec=60
[X-Kirsch]
Expose=5432
ExposeEnv=POSTGRES_USER POSTGRES_DB
Secret=notes-database:POSTGRES_PASSWORD
Health=http://:8008/readiness
HealthRole=primary http://:8008/primary
HealthRole=replica http://:8008/replica
"""


@pytest.fixture
def database(application: Application, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """An application with webdb@1, webdb@2 and webdb@3."""
    etcd, account = confined_etcd(tmp_path_factory.mktemp("etcd"))
    owner, command = member_command()
    variables = member_environment(account)
    variables["PATH"] = f"{SERVE.parent}:{variables['PATH']}"
    del variables["POSTGRES_PASSWORD"]
    for name in ("POSTGRES_ETCD", "POSTGRES_REPLICATION_PASSWORD"):
        file = application.directory / name.lower()
        file.write_text(variables.pop(name))
        variables[f"{name}_FILE"] = str(file)
    words = " ".join(f"{name}={value}" for name, value in variables.items())
    chown = f"chown {owner} %S/webdb-%i" if owner else "true"
    unit = UNIT.format(chown=chown, serve=shlex.join(command), environment=words)
    application.unit("webdb@.service", unit)
    (application.directory / "kirsch.toml").write_text('start = ["webdb@1", "webdb@2", "webdb@3"]\n')
    try:
        yield application
    finally:
        application.run("down", ".")
        etcd.stop()


@pytest.mark.parametrize("moment", ["noon", "0001-01-01 00:00+14:00", "9999-12-31 23:59-14:00"])
def test_a_time_that_is_none(moment: str, capsys: pytest.CaptureFixture[str]):
    assert main(["db", "restore", "--to", moment, "webdb"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kirsch: --to {moment}: write a time as '2026-12-01 14:00'")


@needs_etcd
@pytest.mark.services
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_database_is_looked_after_by_its_service(database: Application):
    database.ok("up", "-d")
    kirschd = Client(database.directory / ".kirsch/kirsch.sock")

    def roles() -> dict[str, str]:
        """By the number of an instance."""
        lines = kirschd.get("/kirsch/v1/units")["units"]
        names = [(UnitName.parse(line["name"]), line["role"]) for line in lines]
        return {name.instance: role for name, role in names if name.instance}

    def settled() -> bool:
        return sorted(roles().values()) == ["primary", "replica", "replica"]

    def members() -> list[dict[str, Any]]:
        return json.loads(database.ok("db", "status", "--json"))["members"]

    wait_for(settled, "one leads, two follow", PATIENCE)
    wait_for(lambda: "Sync Standby" in {each["Role"] for each in members()}, "one is in step", PATIENCE)
    assert {each["Member"] for each in members()} == {"webdb-1", "webdb-2", "webdb-3"}
    first = next(number for number, role in roles().items() if role == "primary")
    asked = "select pg_is_in_recovery(), current_user, current_database()"
    assert database.ok("db", "psql", "webdb", "-Atc", asked) == "f|notes|notes\n"
    shown = database.ok("db", "status")
    assert "webdb" in shown
    assert "Backups: none; set PGBACKREST_REPO1_PATH" in shown
    others = [f"webdb_{number} is used" for number in "123" if number != first]
    assert f"Replication slots: {'; '.join(others)}" in shown
    assert "no place for backups is named" in database.fails("db", "backup", "webdb")
    assert database.fails("db", "restore", "--to", "noon", "webdb").startswith("--to noon: write a time as")
    assert (
        database.fails("db", "status", "other") == "no instance of other has a role: there is no such service"
    )
    wrong = database.fails("db", "failover", "--to", "webdb@9")
    assert wrong.startswith("webdb@9 is none of webdb@")

    second = next(each["Member"][-1] for each in members() if each["Role"] == "Sync Standby")
    database.ok("db", "switchover", "webdb", "--to", f"webdb@{second}")
    wait_for(lambda: roles()[second] == "primary" and settled(), "another leads", PATIENCE)
    assert roles()[first] == "replica"


@needs_etcd
@pytest.mark.services
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_its_password_is_rotated_where_writes_go(database: Application):
    database.ok("up", "-d")

    def leader() -> dict[str, Any] | None:
        return next((line for line in database.units().values() if line["role"] == "primary"), None)

    def logs_in(password: str) -> bool:
        found = leader()
        assert found is not None
        try:
            psycopg.connect(host=found["address"], user="notes", password=password, dbname="notes").close()
        except psycopg.OperationalError:
            return False
        return True

    wait_for(leader, "one leads", PATIENCE)
    file = database.directory / ".kirsch/secrets/notes-database"
    old = file.read_text()
    wait_for(lambda: logs_in(old), "the owner is made", PATIENCE)
    said = database.ok("secret", "rotate", "notes-database")
    assert "has another password, in secret notes-database; restarted nothing" in said
    new = file.read_text()
    assert (logs_in(old), logs_in(new)) == (False, True)
    database.ok("secret", "rotate", "notes-database")
    assert (logs_in(new), logs_in(file.read_text())) == (False, True)


@pytest.mark.parametrize(
    ("said", "status", "found"),
    [
        ("Successfully switched over to webdb-2", 0, 0),
        ("Switchover failed, details: 412, candidate name does not match with sync_standby", 0, 1),
        ("Error: no such cluster", 3, 3),
    ],
)
def test_a_switchover_that_patroni_refuses_has_failed(tmp_path: Path, said: str, status: int, found: int):
    """With a stand-in for patronictl, whose status is 0 where the leader refuses."""
    program = tmp_path / "patronictl"
    program.write_text(f'#!/bin/sh\necho "$1: {said}"\nexit {status}\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", PATRONICTL, "patronictl", "switchover"],
        env={"PATH": f"{tmp_path}{os.pathsep}{os.defpath}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (found, f"switchover: {said}\n")
