"""The session that kirsch gives out."""

from contextlib import suppress
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from kirsch.sql import lighter


class LazySession(Session):
    """SQLAlchemy's Session, which takes a connection from the pool at its first use.

    Its objects stay readable after a commit. Once closed it stays closed: what uses it later gets an error,
    not a connection that nobody gives back. Giving up never fails: a connection that is lost has taken its
    transaction with it, and SQLAlchemy has dropped it from the pool by the time it complains.
    """

    def __init__(self, engine: Engine, **options: Any) -> None:
        super().__init__(engine, expire_on_commit=False, close_resets_only=False, **options)

    def execute(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """Execute a statement, and return its result."""
        if options or not lighter.is_plain(self, statement):
            return super().execute(statement, params, **options)
        return self._connection_for_bind(self.get_bind(clause=statement)).execute(statement, params)

    def commit(self) -> None:
        """Write what is to be written, commit, and give the connection back."""
        if not lighter.commit(self):
            super().commit()

    def rollback(self) -> None:
        """Undo what was not committed."""
        with suppress(DBAPIError):
            super().rollback()

    def close(self) -> None:
        """Undo what was not committed, and give the connection back for good."""
        if not lighter.close(self):
            with suppress(DBAPIError):
                super().close()
