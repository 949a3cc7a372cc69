"""SQLAlchemy's engine as kirsch wants it: psycopg, and a pool that never hands out a dead connection."""

import select
import time
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import InvalidatePoolError

from kirsch.sql.autocommit import choose_transactions

# An idle connection that a firewall or a power cut has severed says nothing; one that waited this long is
# asked. Seconds.
PING_AFTER_IDLE = 30.0
_IDLE = 0  # libpq's PQTRANS_IDLE
# libpq would try an address that does not answer for two minutes. Seconds.
CONNECT_TIMEOUT = 10
# The psycopg that kirsch.sql.pipeline was written for.
PIPELINED = "3.3."


def database_url(url: str | URL) -> URL:
    """The URL with its driver: postgres:// and postgresql:// mean psycopg 3."""
    parsed = make_url(url)
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def place(url: URL) -> str:
    """Where the database is, for a person: nothing secret is in it."""
    port = f":{url.port}" if url.port else ""
    return f"{url.host or 'localhost'}{port}/{url.database or ''}"


def make_engine(url: str | URL, **options: Any) -> Engine:
    """create_engine() whose pool replaces connections that the server has ended; `options` are its own.

    A request costs no round trip for that (as pool_pre_ping does): see _check_at_checkout. Other drivers than
    psycopg get pool_pre_ping. A transaction begins with its first statement: see kirsch.sql.pipeline.
    """
    parsed = database_url(url)
    if parsed.get_driver_name() != "psycopg":
        return create_engine(parsed, **{"pool_pre_ping": True, **options})
    connect_args = {
        "connect_timeout": CONNECT_TIMEOUT,
        "cursor_factory": _cursor_class(),
        **options.pop("connect_args", {}),
    }
    engine = create_engine(parsed, **{"connect_args": connect_args, "pool_reset_on_return": None, **options})
    _check_at_checkout(engine)
    _reset_at_checkin(engine)
    if "isolation_level" not in options:
        choose_transactions(engine)
    return engine


def _cursor_class() -> Any:
    """psycopg's own, or the one that begins with the first statement, which knows these versions' inside."""
    import psycopg

    if not psycopg.__version__.startswith(PIPELINED) or not psycopg.capabilities.has_pipeline():
        return psycopg.Cursor
    from kirsch.sql.pipeline import BeginningCursor

    return BeginningCursor


def _check_at_checkout(engine: Engine) -> None:
    """Ping a pooled connection at checkout, but only when there is a reason to doubt it.

    PostgreSQL says nothing on an idle connection, unless it ends it (restart, kill, pg_terminate_backend) or
    has a notice: then the socket is readable, which poll(2) tells in about a microsecond. A ping that fails
    makes SQLAlchemy drop every pooled connection of that age and connect anew; nothing has been executed yet,
    so nothing is done twice.
    """

    @event.listens_for(engine, "checkin")
    def _note(connection: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _check(connection: Any, record: Any, proxy: Any) -> None:
        idle_since = record.info.get("idle_since")
        if idle_since is None:  # it was opened just now
            return
        if time.monotonic() - idle_since < PING_AFTER_IDLE and not _is_readable(connection):
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error


def _reset_at_checkin(engine: Engine) -> None:
    """Roll back what was left open; after a commit there is nothing, and asking psycopg to is work."""

    @event.listens_for(engine, "reset")
    def _reset(connection: Any, record: Any, state: Any) -> None:
        if connection.pgconn.transaction_status != _IDLE:
            connection.rollback()


def _is_readable(connection: Any) -> bool:
    # psycopg knows no descriptor once it has closed the connection itself.
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
