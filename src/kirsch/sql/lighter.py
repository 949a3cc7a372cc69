"""What SQLAlchemy's Session (2.1) does around a request's few statements, at less expense.

A Session checks at each step that the step may be taken, notes it, and asks who listens. A request that
executes statements on tables and ends, with no object to write and nobody listening, needs none of that. Each
function here does to the Session what its own method would, or does nothing and says so where there is more
to do than it knows. With another version of SQLAlchemy there always is: this reaches inside, and a test fails
when that changes.
"""

from typing import Any

import sqlalchemy
from sqlalchemy import Executable
from sqlalchemy.orm import Session
from sqlalchemy.orm.session import SessionTransactionState, _SessionCloseState

KNOWN = sqlalchemy.__version__.startswith("2.1.")


def is_plain(session: Session, statement: Any) -> bool:
    """Whether a statement is for the connection alone: not the ORM's, and nothing to write before it."""
    return (
        KNOWN
        and isinstance(statement, Executable)
        and not getattr(statement, "_propagate_attrs", True)
        and not session.execution_options
        and session._is_clean()
        and not session.dispatch.do_orm_execute
    )


def commit(session: Session) -> bool:
    """Commit a session's only transaction and give the connection back, if that is all there is to do."""
    transaction = session._transaction
    if (
        not KNOWN
        or transaction is None
        or transaction._parent is not None
        or transaction._state is not SessionTransactionState.ACTIVE
        or session._trans_context_manager is not None
        or session.expire_on_commit
        or session.twophase
        or not session._is_clean()
    ):
        return False
    listeners = session.dispatch
    if listeners.before_commit or listeners.after_commit or listeners.after_transaction_end:
        return False
    connections = set(transaction._connections.values())
    # If it fails, a rollback may follow and nothing else, as after Session.commit().
    transaction._state = SessionTransactionState.PREPARED
    for _, database, should_commit, _ in connections:
        if should_commit:
            database.commit()
    transaction._state = SessionTransactionState.COMMITTED
    session._transaction = None
    for connection, _, _, ours in connections:
        if ours:
            connection.close()
    transaction._state = SessionTransactionState.CLOSED
    return True


def close(session: Session) -> bool:
    """Close a session for good, if it has neither objects nor a transaction."""
    if not KNOWN or session._transaction is not None or session.identity_map or not session._is_clean():
        return False
    if session._close_state is _SessionCloseState.ACTIVE:
        session._close_state = _SessionCloseState.CLOSED
    return True
