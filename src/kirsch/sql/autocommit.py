"""Whether a statement needs a transaction: a SELECT alone needs none, and saves two round trips.

PostgreSQL's READ COMMITTED gives every statement a snapshot of its own, so a transaction around SELECTs that
lock nothing changes nothing but the time they take: BEGIN, SELECT, COMMIT. On an engine `for_reading()` they
run in psycopg's autocommit. Whatever else comes (a write, raw SQL, FOR UPDATE, a function that may do
something, a cursor in the server, an isolation level that was asked for) begins a transaction as ever, and
what follows it is in that transaction, up to its commit or rollback.
"""

import re
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, event
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.functions import Function
from sqlalchemy.sql.selectable import SelectBase

OPTION = "kirsch_autocommit_selects"
_IDLE = 0  # libpq's PQTRANS_IDLE
_LOCK = re.compile(r"\bFOR\s+(UPDATE|NO KEY|SHARE|KEY)\b")
_plain: "WeakKeyDictionary[Any, bool]" = WeakKeyDictionary()


def for_reading(engine: Engine) -> Engine:
    """The same engine and pool, whose plain selects run without a transaction."""
    return engine.execution_options(**{OPTION: True})


def for_streaming(engine: Engine) -> Engine:
    """The same engine and pool, whose transactions read only: begun as such, at no further round trip."""
    return engine.execution_options(**{OPTION: False, "postgresql_readonly": True})


def choose_transactions(engine: Engine) -> None:
    """Have the engine's connections (psycopg) begin a transaction only where one is needed."""

    # The dialect's events: one of the engine's would have SQLAlchemy look for listeners at every step.
    @event.listens_for(engine, "do_execute")
    @event.listens_for(engine, "do_executemany")
    def _choose(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        if not context.execution_options.get(OPTION):
            return
        driver = cursor.connection
        if driver.pgconn.transaction_status == _IDLE and driver.autocommit is not (
            plain := _is_plain(context)
        ):
            driver.autocommit = plain

    @event.listens_for(engine, "do_execute_no_params")
    def _choose_without_parameters(cursor: Any, statement: str, context: Any) -> None:
        _choose(cursor, statement, None, context)

    @event.listens_for(engine, "checkin")
    def _restore(driver: Any, record: Any) -> None:
        if driver is not None and driver.autocommit and not driver.closed:
            driver.autocommit = False


def _is_plain(context: Any) -> bool:
    """Whether a statement is a SELECT that changes nothing, locks nothing and is fetched at once."""
    options = context.execution_options
    if "isolation_level" in options or options.get("stream_results") or options.get("yield_per"):
        return False
    compiled = context.compiled
    if compiled is None:
        return False
    plain = _plain.get(compiled)
    if plain is None:
        # SQLAlchemy keeps what it has compiled, so each statement of a program is looked at once.
        plain = _plain[compiled] = _only_selects(compiled)
    return plain


def _only_selects(compiled: Any) -> bool:
    statement = compiled.statement
    if not isinstance(statement, SelectBase) or _LOCK.search(compiled.string):
        return False
    # func.count and the like have classes of their own; any other name may be a function that writes.
    return not any(
        isinstance(part, UpdateBase) or type(part) is Function for part in visitors.iterate(statement)
    )
