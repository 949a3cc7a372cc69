"""Answers to a client for errors of the database, decided by SQLSTATE (PostgreSQL's manual, appendix A)."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError

from kirsch.sql.engine import HOPELESS, READ_ONLY

# Connection lost, transaction rolled back for another's sake, out of resources.
TRANSIENT_CLASSES = ("08", "40", "53")
# lock_not_available; admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout.
TRANSIENT = frozenset({"55P03", "57P01", "57P02", "57P03", "57P05"})
# transaction_resolution_unknown, statement_completion_unknown.
UNKNOWN = frozenset({"08007", "40003"})
# query_canceled (statement_timeout), transaction_timeout.
TOO_SLOW = frozenset({"57014", "25P04"})
# RFC 9110, section 9.2.2.
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to an error of the database; `retry` is True where the same request may succeed later."""

    status: int
    message: str
    retry: bool = False


BUSY = Answer(503, "The database cannot be reached at the moment.", retry=True)
SLOW = Answer(504, "The database took too long and was told to stop; nothing was changed.")
REPEATABLE = Answer(
    503,
    "The connection to the database was lost while it saved the change, which may or may not be made. "
    "Sending this request again is safe.",
    retry=True,
)
UNCERTAIN = Answer(
    500,
    "The connection to the database was lost while it saved the change, which may or may not be made. "
    "Look before you send it again.",
)


def answer_to(error: BaseException | None, repeatable: bool) -> Answer | None:
    """Return the answer to an error that the database or the pool raised, None for all others.

    `repeatable`: the request may be sent twice, because its method is idempotent or it has a key.
    """
    if isinstance(error, TimeoutError):
        return BUSY
    if not isinstance(error, DBAPIError):
        return None
    if is_unknown(error):
        return REPEATABLE if repeatable else UNCERTAIN
    state = sqlstate(error.orig)
    if state == READ_ONLY and error.connection_invalidated:
        return BUSY  # of a standby: another server leads by now (kirsch.sql.engine)
    if state is None:
        return BUSY if _is_connection(error) else None
    if state in TOO_SLOW:
        return SLOW
    return BUSY if state in TRANSIENT or state.startswith(TRANSIENT_CLASSES) else None


def is_unknown(error: BaseException | None) -> bool:
    """True if the error leaves open whether a transaction was committed."""
    if not isinstance(error, DBAPIError):
        return False
    return getattr(error.orig, "commit_unknown", False) or sqlstate(error.orig) in UNKNOWN


def sqlstate(error: Any) -> str | None:
    """Return the SQLSTATE of a driver's error, or of the error that aborted its transaction."""
    state: str | None = getattr(error, "sqlstate", None)
    if state == "25P02" and error.__cause__ is not None:
        return getattr(error.__cause__, "sqlstate", None) or state
    return state


def _is_connection(error: DBAPIError) -> bool:
    # libpq gives no SQLSTATE to a connection that it cannot make, nor to one that is lost.
    if error.connection_invalidated:
        return True
    made = isinstance(error, OperationalError) and error.statement is None
    return made and not any(words in str(error.orig) for words in HOPELESS)
