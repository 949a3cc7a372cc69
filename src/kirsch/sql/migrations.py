"""Alembic's `upgrade head`, run once however many instances start together."""

import logging
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, NullPool
from sqlalchemy.exc import SQLAlchemyError

from kirsch.bus.logs import one_line
from kirsch.sql.engine import StartError, Timeouts, database_url, delays, make_engine, place

log = logging.getLogger("kirsch.sql")

# The key of the advisory lock: "kirsch" in ASCII. Locks are a database's own.
LOCK = 0x6B6972736368


class MigrationError(StartError):
    """The database's tables could not be brought up to date."""


def migrate(url: str | URL, script_location: str | Path, *, timeout: float = 300.0) -> str | None:
    """Bring the database's tables up to date and return their revision.

    `script_location` is Alembic's folder (env.py, versions/), of an installed package too. Its env.py finds a
    connection in `context.config.attributes["connection"]`, or the URL as `sqlalchemy.url`. One instance
    migrates, others wait for it, at most `timeout` seconds. Raises MigrationError.
    """
    parsed, folder = database_url(url), Path(script_location)
    # Alembic would log every step it takes; one line is enough, and it is ours.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # A migration may take its time, and other requests are not behind it.
    engine = make_engine(parsed, Timeouts(statement=0), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            _lock(connection, timeout)
            return _upgrade(connection, parsed, folder)
    except MigrationError:
        raise
    except Exception as error:  # a migration is a program, and may raise anything
        reason = one_line(
            error, folder, named=not isinstance(error, CommandError | SQLAlchemyError | OSError)
        )
        raise MigrationError(
            f"the tables at {place(parsed)} cannot be brought up to date: {reason}"
        ) from error


def _lock(connection: Connection, timeout: float) -> None:
    """Take the advisory lock, which is given back with the connection, even by a process that dies."""
    start, told = time.monotonic(), False
    # Trying again, not waiting inside the server: a statement that waits there would be waited for in turn by
    # a migration with CREATE INDEX CONCURRENTLY.
    for delay in delays(longest=1.0):
        locked = connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({LOCK})").scalar_one()
        connection.commit()
        if locked:
            return
        if time.monotonic() - start + delay > timeout:
            raise MigrationError(f"another instance has been migrating the tables for {timeout:g} s")
        if not told:
            log.info("waiting for another instance to migrate the tables")
            told = True
        time.sleep(delay)


def _upgrade(connection: Connection, url: URL, folder: Path) -> str | None:
    config = Config()
    # Config's values are of configparser's, where % has a meaning.
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("sqlalchemy.url", url.render_as_string(hide_password=False).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    before = _revision(connection)
    if before is not None and before not in known:
        raise MigrationError(
            f"the tables at {place(url)} are at revision {before}, which {folder} does not have: "
            "a newer version of the application has migrated them"
        )
    command.upgrade(config, "head")
    connection.commit()
    after = _revision(connection)
    if after != before:
        log.info("migrated the tables at %s from %s to %s", place(url), before or "nothing", after)
    return after


def _revision(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    # Alembic is to begin the transaction itself.
    connection.rollback()
    return revision
