"""Answers to errors of the database: by SQLSTATE, not by exception class."""

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import exc

from kirsch.sql.connection import CommitUnknown
from kirsch.sql.errors import BUSY, REPEATABLE, SLOW, UNCERTAIN, answer_to


def wrapped(orig: psycopg.Error, statement: str | None = "select 1", lost: bool = False) -> exc.DBAPIError:
    """The error as SQLAlchemy raises it."""
    return exc.DBAPIError.instance(
        statement, {}, orig, psycopg.Error, connection_invalidated=lost, dialect=None
    )


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (None, None),
        (KeyError(), None),
        (exc.TimeoutError(), BUSY),
        (exc.InvalidRequestError(), None),
        (wrapped(errors.SerializationFailure()), BUSY),
        (wrapped(errors.DeadlockDetected()), BUSY),
        (wrapped(errors.ConnectionFailure()), BUSY),
        (wrapped(errors.TooManyConnections()), BUSY),
        (wrapped(errors.DiskFull()), BUSY),
        (wrapped(errors.LockNotAvailable()), BUSY),
        (wrapped(errors.AdminShutdown(), lost=True), BUSY),
        (wrapped(errors.CannotConnectNow(), None), BUSY),
        (wrapped(errors.QueryCanceled()), SLOW),
        (wrapped(errors.DatabaseDropped()), None),
        (wrapped(errors.ObjectInUse()), None),
        (wrapped(errors.UniqueViolation()), None),
        (wrapped(errors.UndefinedTable()), None),
        (wrapped(errors.IoError()), None),
        (wrapped(errors.InFailedSqlTransaction()), None),
        # libpq gives these no SQLSTATE.
        (wrapped(psycopg.OperationalError("connection refused"), None), BUSY),
        (wrapped(psycopg.OperationalError("password authentication failed for user"), None), None),
        (wrapped(psycopg.OperationalError('database "x" does not exist'), None), None),
        (wrapped(psycopg.OperationalError("server closed the connection"), lost=True), BUSY),
        (wrapped(psycopg.OperationalError("number of parameters must be between 0 and 65535")), None),
        (wrapped(psycopg.InterfaceError("the cursor is closed")), None),
    ],
)
def test_the_answer(error, answer):
    assert answer_to(error, repeatable=False) == answer_to(error, repeatable=True) == answer


@pytest.mark.parametrize("error", [CommitUnknown("lost"), errors.StatementCompletionUnknown()])
def test_an_unknown_commit_depends_on_the_request(error):
    assert answer_to(wrapped(error, None, lost=True), repeatable=True) == REPEATABLE
    assert answer_to(wrapped(error, None, lost=True), repeatable=False) == UNCERTAIN
    assert not UNCERTAIN.retry


def test_a_transaction_is_answered_for_by_the_error_that_failed_it():
    for cause, answer in [(errors.DeadlockDetected(), BUSY), (errors.UniqueViolation(), None)]:
        error = errors.InFailedSqlTransaction()
        error.__cause__ = cause
        assert answer_to(wrapped(error), repeatable=False) == answer
