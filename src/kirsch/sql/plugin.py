"""The engine on the bus: made when the bus starts, disposed of when it stops."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import cherrypy
from cherrypy.process import plugins
from sqlalchemy import URL, Engine
from sqlalchemy.orm import Session

from kirsch.sql.autocommit import for_reading
from kirsch.sql.channels import ask
from kirsch.sql.engine import database_url, make_engine
from kirsch.sql.pool import CountingPool
from kirsch.sql.session import LazySession
from kirsch.sql.tool import install
from kirsch.sql.wait import wait_for_database


class SQLAlchemyPlugin(plugins.SimplePlugin):
    """A database for everything on the bus.

    Channels: 'bind-session' answers with a new Session (given True: one for a request that is to change
    nothing, see kirsch.sql.autocommit); 'commit-session' (session) commits one, or rolls it back and raises.
    The tool `cherrypy.tools.sql`, which this installs, uses both for each request.

    `pool_size` connections are kept and no more are made (a request's thread needs one at most); who waits
    longer than `pool_timeout` seconds for one gets SQLAlchemy's TimeoutError. At the bus's start the database
    is waited for `wait` seconds (0: not at all). `options` are create_engine()'s.
    """

    def __init__(
        self,
        bus: Any,
        url: str | URL,
        *,
        pool_size: int = 10,
        pool_timeout: float = 10.0,
        wait: float = 60.0,
        **options: Any,
    ) -> None:
        super().__init__(bus)
        self.url = database_url(url)
        self._wait = wait
        self._options = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": pool_timeout, **options}
        self._engine: Engine | None = None
        self._reader: Engine | None = None
        install()

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine. Raises RuntimeError while the bus is stopped."""
        if self._engine is None:
            raise RuntimeError("the database is there between the bus's start and stop only")
        return self._engine

    def subscribe(self) -> None:
        """Take part in the bus, and answer on the two channels."""
        super().subscribe()
        self.bus.subscribe("bind-session", self.bind)
        self.bus.subscribe("commit-session", self.commit)

    def unsubscribe(self) -> None:
        """Leave the bus."""
        super().unsubscribe()
        self.bus.unsubscribe("bind-session", self.bind)
        self.bus.unsubscribe("commit-session", self.commit)

    def start(self) -> None:
        """Wait for the database and make the engine. Raises DatabaseUnavailable."""
        if self._wait:
            wait_for_database(self.url, self._wait)
        # Which pool there is, is the caller's or the dialect's choice where it is not PostgreSQL.
        counting = {"poolclass": CountingPool} if self.url.get_driver_name() == "psycopg" else {}
        self._engine = make_engine(self.url, **counting | self._options)
        self._reader = for_reading(self._engine)

    # Before plugins that use the database (50), and the server (75).
    start.priority = 30  # type: ignore[attr-defined]

    def stop(self) -> None:
        """Close the pool's connections."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = self._reader = None

    # After the server (25) and plugins that use the database (50).
    stop.priority = 80  # type: ignore[attr-defined]

    def bind(self, reading: bool = False) -> Session:
        """A new session. Raises RuntimeError while the bus is stopped."""
        return LazySession(self._reader if reading and self._reader else self.engine)

    def commit(self, session: Session) -> None:
        """Commit a session; if that fails it is rolled back and the error raised."""
        try:
            session.commit()
        except BaseException:
            session.rollback()
            raise

    def session(self) -> AbstractContextManager[Session]:
        """`session_scope()` on this plugin's bus."""
        return session_scope(self.bus)


@contextmanager
def session_scope(bus: Any = None) -> Iterator[Session]:
    """`with session_scope() as db:` in a background task: committed at the end, rolled back on any exception.

    `bus` is cherrypy.engine unless given. Raises RuntimeError when it has no plugin, or is not started.
    """
    bus = cherrypy.engine if bus is None else bus
    with ask(bus, "bind-session") as session:
        yield session
        ask(bus, "commit-session", session)
