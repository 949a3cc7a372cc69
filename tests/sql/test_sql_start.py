"""Before the first request: wait for the database, bring its tables up to date, make the engine."""

import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cherrypy.process import wspbus
from sqlalchemy import make_url, text
from tests.deadline import eventually
from tests.port import free_port
from tests.source import PYTHONPATH

from kirsch import sql
from kirsch.install import pip_install
from kirsch.sql.engine import delays

pytestmark = pytest.mark.services

MIGRATIONS = Path(__file__).with_name("sql_migrations")


@pytest.fixture
def url(postgres) -> str:
    """A database of the test's own."""
    with postgres.connect() as connection:
        connection.execute("drop database if exists fresh with (force)")
        connection.execute("create database fresh")
    return make_url(postgres.url).set(database="fresh").render_as_string(hide_password=False)


@pytest.fixture
def bus() -> Iterator[wspbus.Bus]:
    bus = wspbus.Bus()
    yield bus
    bus.exit()


def test_delays_double_up_to_a_limit():
    assert [delay for delay, _ in zip(delays(), range(7), strict=False)] == [
        0.1,
        0.2,
        0.4,
        0.8,
        1.6,
        2.0,
        2.0,
    ]


def test_urls_mean_psycopg():
    assert sql.database_url("postgres://a/b").drivername == "postgresql+psycopg"
    assert sql.database_url("postgresql://a/b").drivername == "postgresql+psycopg"
    assert sql.database_url("postgresql+pg8000://a/b").drivername == "postgresql+pg8000"


@pytest.mark.slow
def test_waiting_ends_when_the_database_answers(make_postgres, caplog):
    server = make_postgres()
    starter = threading.Timer(0.5, server.launch)
    starter.start()
    with caplog.at_level(logging.INFO, "kirsch.sql"):
        sql.wait_for_database(server.url, timeout=30)
    starter.join()
    assert server.answers()
    assert f"waiting for the database at 127.0.0.1:{server.port}/notes: connection" in caplog.text
    assert "answers after" in caplog.text
    assert make_url(server.url).password not in caplog.text


def test_waiting_ends_after_its_time():
    with pytest.raises(
        sql.DatabaseUnavailable, match=r"no database at 127.0.0.1:\d+/x after 0.5 s: .*refused"
    ) as e:
        sql.wait_for_database(f"postgresql://u:hush@127.0.0.1:{free_port()}/x", timeout=0.5)
    assert "hush" not in str(e.value)


@pytest.mark.parametrize("change", [{"password": "wrong"}, {"database": "nowhere"}])
def test_what_waiting_does_not_mend_is_said_at_once(postgres, change):
    url = make_url(postgres.url).set(**change)
    with pytest.raises(
        sql.DatabaseUnavailable, match=r"refuses us: .*(authentication failed|does not exist)"
    ):
        sql.wait_for_database(url, timeout=600)


@pytest.mark.slow
def test_migrations_of_many_processes_run_once(url):
    program = (
        "import logging, sys; from kirsch.sql import migrate;"
        "logging.basicConfig(level=logging.INFO); print(migrate(*sys.argv[1:]))"
    )
    argv = [sys.executable, "-c", program, url, str(MIGRATIONS)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(argv, **pipes) for _ in range(4)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [output for output, _ in answers] == ["0002\n"] * 4
    logs = "".join(errors for _, errors in answers)
    assert logs.count("migrated the tables") == 1
    assert "alembic" not in logs
    assert make_url(url).password not in logs


def test_a_database_newer_than_the_application_is_left_alone(url, postgres):
    assert sql.migrate(url, MIGRATIONS) == "0002"
    engine = sql.make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '0003'"))
    with pytest.raises(sql.MigrationError, match=r"are at revision 0003, which .* does not have"):
        sql.migrate(url, MIGRATIONS)
    engine.dispose()


def test_a_migration_that_fails_changes_nothing(url):
    engine = sql.make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("create table words ()"))
    with pytest.raises(sql.MigrationError, match='relation "words" already exists'):
        sql.migrate(url, MIGRATIONS)

    def count(query: str) -> int:
        with engine.connect() as connection:
            return connection.scalar(text(f"select count(*) from {query}"))

    assert count("pg_class where relname = 'alembic_version'") == 0
    # The server lets go of the lock once it has seen that the connection is closed.
    eventually(lambda: count("pg_locks where locktype = 'advisory'") == 0, what="the lock")
    engine.dispose()


BROKEN = """
revision = "0002"
down_revision = "0001"

def upgrade():
    {statement}
"""


@pytest.mark.parametrize(
    ("statement", "line", "reason"),
    [
        ("op.drop_table('words')", 6, "NameError: name 'op' is not defined"),
        ("raise LookupError('no such word')", 6, "LookupError: no such word"),
        ("__import__('alembic').op.execute('select 1/0')", 6, "division by zero"),
        ("this is no Python", 6, "SyntaxError: invalid syntax"),
        ("return 1/0", 6, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_migration_that_is_broken_is_told_by_file_and_line(url, tmp_path, statement, line, reason):
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__", "0002*"))
    script = folder / "versions" / "0002_broken.py"
    script.write_text(BROKEN.format(statement=statement))
    with pytest.raises(sql.MigrationError) as error:
        sql.migrate(url, folder)
    assert f"{script}, line {line}: {reason}" in str(error.value)
    assert "\n" not in str(error.value)
    script.unlink()
    assert sql.migrate(url, folder) == "0001"


def test_a_migration_may_take_its_time_and_leave_its_transaction(url, tmp_path):
    """No statement_timeout, and CREATE INDEX CONCURRENTLY, which writes outside of a transaction."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "0003_index.py").write_text(
        "from alembic import op\nrevision, down_revision = '0003', '0002'\ndef upgrade():\n"
        "    with op.get_context().autocommit_block():\n"
        "        op.execute('create index concurrently slow on words (text)')\n"
        "    assert op.get_bind().exec_driver_sql('show statement_timeout').scalar() == '0'\n"
    )
    assert sql.migrate(url, folder) == "0003"


def test_a_folder_without_migrations_is_refused(url, tmp_path):
    with pytest.raises(sql.MigrationError, match="cannot be brought up to date") as error:
        sql.migrate(url, tmp_path / "nowhere")
    assert "\n" not in str(error.value)


def test_who_waits_too_long_for_another_migration_gives_up(url):
    engine = sql.make_engine(url)
    with engine.connect() as connection:
        connection.execute(text(f"select pg_advisory_lock({sql.migrations.LOCK})"))
        with pytest.raises(sql.MigrationError, match="another instance"):
            sql.migrate(url, MIGRATIONS, timeout=0.5)
    engine.dispose()


def test_the_plugin_answers_on_its_channels_between_start_and_stop(bus, url):
    plugin = sql.SQLAlchemyPlugin(bus, url)
    plugin.subscribe()
    with pytest.raises(RuntimeError, match="between the bus's start and stop"), sql.session_scope(bus):
        pass
    bus.start()
    (session,) = bus.publish("bind-session")
    session.execute(text("create table words (text text)"))
    bus.publish("commit-session", session)
    session.close()
    with plugin.session() as db:
        assert db.scalar(text("select count(*) from words")) == 0
    assert plugin.engine.pool.checkedout() == 0
    bus.stop()
    with pytest.raises(RuntimeError), plugin.session():
        pass


def test_a_task_that_fails_writes_nothing(bus, url):
    sql.SQLAlchemyPlugin(bus, url, pool_size=1).subscribe()
    bus.start()
    with sql.session_scope(bus) as db:
        db.execute(text("create table words (text text primary key)"))

    def task():
        with sql.session_scope(bus) as db:
            db.execute(text("insert into words values ('a')"))
            raise KeyError

    with pytest.raises(KeyError):
        task()
    with sql.session_scope(bus) as db:
        assert db.scalar(text("select count(*) from words")) == 0


def test_a_second_database_needs_a_name(bus, url):
    sql.SQLAlchemyPlugin(bus, url).subscribe()
    with pytest.raises(RuntimeError, match="give each SQLAlchemyPlugin but one a name="):
        sql.SQLAlchemyPlugin(bus, url).subscribe()
    sql.SQLAlchemyPlugin(bus, url, name="reports").subscribe()
    with pytest.raises(RuntimeError, match="another database answers 'bind-session reports'"):
        sql.SQLAlchemyPlugin(bus, url, name="reports").subscribe()


def test_each_database_has_its_sessions(bus, url, postgres):
    """A plugin that leaves the bus and comes back is no second one."""
    plugins = [sql.SQLAlchemyPlugin(bus, url), sql.SQLAlchemyPlugin(bus, postgres.url, name="other")]
    for plugin in plugins:
        plugin.subscribe()
        plugin.unsubscribe()
        plugin.subscribe()
    bus.start()
    name = text("select current_database()")
    with sql.session_scope(bus) as db, sql.session_scope(bus, "other") as other:
        assert (db.scalar(name), db.info["database"]) == ("fresh", "")
        assert (other.scalar(name), other.info["database"]) == (postgres.database, "other")
    with plugins[1].session() as db:
        assert db.scalar(name) == postgres.database
    with (
        pytest.raises(RuntimeError, match="nobody answers 'bind-session wrong'"),
        sql.session_scope(bus, "wrong"),
    ):
        pass


def test_where_all_databases_have_names_one_is_to_be_chosen(bus, url):
    for name in ("reports", "audit"):
        sql.SQLAlchemyPlugin(bus, url, name=name).subscribe()
    with (
        pytest.raises(RuntimeError, match=r"tools\.sql\.database .* may be audit, reports"),
        sql.session_scope(bus),
    ):
        pass


def test_without_a_plugin_a_session_says_what_is_missing(bus):
    with pytest.raises(RuntimeError, match="nobody answers"), sql.session_scope(bus):
        pass


def test_a_pool_survives_the_end_of_all_its_connections(url, postgres):
    engine = sql.make_engine(url, pool_size=3)
    connections = [engine.connect() for _ in range(3)]
    for connection in connections:
        connection.close()
    with postgres.connect() as connection:
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = 'fresh'"
        )
    for _ in range(5):
        with engine.connect() as connection:
            assert connection.execute(text("select 1")).scalar() == 1
    engine.dispose()


def test_a_checkout_costs_no_round_trip(url, postgres):
    engine = sql.make_engine(url, pool_size=1)
    with engine.connect() as connection:
        pid = connection.execute(text("select pg_backend_pid()")).scalar()
    asked = "select query_start from pg_stat_activity where pid = %s"
    with postgres.connect() as other:
        before = other.execute(asked, [pid]).fetchone()
        with engine.connect():
            assert other.execute(asked, [pid]).fetchone() == before
    engine.dispose()


def test_a_connection_that_idled_long_is_asked(url, postgres, monkeypatch):
    monkeypatch.setattr("kirsch.sql.engine.PING_AFTER_IDLE", 0.0)
    engine = sql.make_engine(url, pool_size=1)
    with engine.connect() as connection:
        pid = connection.execute(text("select pg_backend_pid()")).scalar()
    asked = "select query_start from pg_stat_activity where pid = %s"
    with postgres.connect() as other:
        before = other.execute(asked, [pid]).fetchone()
        with engine.connect():
            assert other.execute(asked, [pid]).fetchone() != before
    engine.dispose()


def test_without_sqlalchemy_the_import_names_the_extra():
    # -S: no site-packages.
    program = f"import sys; sys.path[:0] = {PYTHONPATH.split(':')!r}; import kirsch.sql"
    result = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)
    assert result.returncode == 1
    assert f"kirsch.sql needs SQLAlchemy: {pip_install('kirsch[sql]')}" in result.stderr


def test_every_public_name_is_there_and_costs_nothing_before_its_use():
    program = (
        "import sys, kirsch.sql.postgres, kirsch.sql\n"
        "assert not {'sqlalchemy', 'cherrypy', 'alembic'} & set(sys.modules)\n"
        "assert all(getattr(kirsch.sql, name) is not None for name in kirsch.sql.__all__)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
