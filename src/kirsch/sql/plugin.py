"""Sessions from the bus: the plugin that makes the engine, and the channels that give out its sessions."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import cherrypy
from cherrypy.process import plugins
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import URL, Engine, QueuePool, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from kirsch.sql import idempotency, tool
from kirsch.sql.engine import (
    CountingPool,
    Timeouts,
    database_url,
    make_engine,
    wait_for_database,
)
from kirsch.sql.replica import Replica
from kirsch.sql.tool import ask, channel


class LazySession(Session):
    """SQLAlchemy's Session, which takes a connection from the pool at its first use.

    Its objects stay readable after a commit. Once closed it stays closed: using it later raises an error
    instead of taking a connection that nobody gives back. Rolling back and closing never fail: a connection
    that is lost has taken its transaction with it.

    read_only: PostgreSQL refuses to write (SQLSTATE 25006) in transactions that begin while this is True.
    """

    def __init__(self, engine: Engine, read_only: bool = False, **options: Any) -> None:
        super().__init__(engine, expire_on_commit=False, close_resets_only=False, **options)
        self.read_only = read_only

    def rollback(self) -> None:
        """Undo what was not committed."""
        with suppress(DBAPIError):
            super().rollback()

    def close(self) -> None:
        """Undo what was not committed, and give the connection back for good."""
        with suppress(DBAPIError):
            super().close()


@event.listens_for(LazySession, "after_begin")
def _read_only(session: LazySession, transaction: Any, connection: Any) -> None:
    if session.read_only:
        driver = connection.connection.driver_connection
        # Other drivers than psycopg have no such mode here.
        if hasattr(driver, "reading"):
            driver.read()


class SQLAlchemyPlugin(plugins.SimplePlugin):
    """A database for everything on the bus.

    Channels: 'bind-session' returns a new Session (given True: one that cannot write); 'commit-session'
    (session) commits one, or rolls it back and raises; 'bind-replica' returns one that reads on the replica,
    or None. The tool `cherrypy.tools.sql`, which this installs,
    uses both for each request.

    Where a bus has several databases, each but one has a `name`; its channels are 'bind-session NAME' and
    'commit-session NAME', and `tools.sql.database` and session_scope(database=) choose it.

    `pool_size` connections are kept and no more are made (a request's thread needs one at most). At the bus's
    start the database is waited for `wait` seconds (0: not at all). `options` are create_engine()'s.

    `replica` is the URL of what follows the database; while it is `lag` seconds behind at most
    `cherrypy.request.db_read` reads there, from as many connections.
    """

    def __init__(
        self,
        bus: Any,
        url: str | URL,
        *,
        name: str = "",
        pool_size: int = 10,
        wait: float = 60.0,
        timeouts: Timeouts | None = None,
        replica: str | URL | None = None,
        lag: float = 5.0,
        **options: Any,
    ) -> None:
        super().__init__(bus)
        self.url = database_url(url)
        self.name = name
        self._wait = wait
        self._timeouts = timeouts or Timeouts()
        limits = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": self._timeouts.pool}
        self._options = limits | options
        self._engine: Engine | None = None
        self._replica_url = replica
        self._lag = lag
        self._replica: Replica | None = None
        tool.install()
        idempotency.install()

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine. Raises RuntimeError while the bus is stopped."""
        if self._engine is None:
            raise RuntimeError("the database is there between the bus's start and stop only")
        return self._engine

    def subscribe(self) -> None:
        """Take part in the bus, and answer on the two channels. Raises RuntimeError if another one does."""
        bind = channel("bind-session", self.name)
        if self.bus.listeners.get(bind, set()) - {self.bind}:
            raise RuntimeError(
                f"another database answers {bind!r} on this bus: give each SQLAlchemyPlugin but one a name="
            )
        super().subscribe()
        self.bus.subscribe(bind, self.bind)
        self.bus.subscribe(channel("commit-session", self.name), self.commit)
        self.bus.subscribe(channel("bind-replica", self.name), self.bind_replica)

    def unsubscribe(self) -> None:
        """Leave the bus, with the channels of this database."""
        super().unsubscribe()
        self.bus.unsubscribe(channel("bind-session", self.name), self.bind)
        self.bus.unsubscribe(channel("commit-session", self.name), self.commit)
        self.bus.unsubscribe(channel("bind-replica", self.name), self.bind_replica)

    def start(self) -> None:
        """Wait for the database and make the engine. Raises DatabaseUnavailable."""
        if self._wait:
            wait_for_database(self.url, self._wait)
        # Other drivers than psycopg have pools of their own kind.
        pool: Any = {"poolclass": CountingPool} if self.url.get_driver_name() == "psycopg" else {}
        self._engine = make_engine(self.url, self._timeouts, **pool | self._options)
        if self._replica_url:
            self._replica = Replica(self._replica_url, self._lag, self._timeouts, **pool | self._options)
            self._replica.start()

    # Before plugins that use the database (50), and the server (75).
    start.priority = 30  # type: ignore[attr-defined]

    def stop(self) -> None:
        """Close the pool's connections."""
        if self._replica is not None:
            self._replica.stop()
            self._replica = None
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    # After the server (25) and plugins that use the database (50).
    stop.priority = 80  # type: ignore[attr-defined]

    def bind(self, read_only: bool = False) -> Session:
        """Return a new session. Raises RuntimeError while the bus is stopped."""
        return LazySession(self.engine, read_only, info={"database": self.name})

    def bind_replica(self) -> Session | None:
        """Return a new session on the replica; None where there is none that is near enough."""
        replica = self._replica  # stop() may take it away meanwhile
        if replica is None or not replica.near:
            return None
        return LazySession(replica.engine, True, info={"database": self.name})

    def commit(self, session: Session) -> None:
        """Commit a session; if that fails it is rolled back and the error raised."""
        try:
            session.commit()
        except BaseException:
            session.rollback()
            raise

    def session(self) -> AbstractContextManager[Session]:
        """`session_scope()` for this plugin's database."""
        return session_scope(self.bus, self.name)


@contextmanager
def session_scope(bus: Any = None, database: str = "") -> Iterator[Session]:
    """`with session_scope() as db:` in a background task: committed at the end, rolled back on any exception.

    `bus` is cherrypy.engine unless given; `database` is a plugin's name. Raises RuntimeError when the bus has
    no such plugin, or is not started.
    """
    bus = cherrypy.engine if bus is None else bus
    with ask(bus, "bind-session", database) as session:
        yield session
        ask(bus, "commit-session", database, session)


class PoolCollector(Collector):
    """The pool's figures for Prometheus: `metrics.add(PoolCollector(plugin))` of a kirsch.bus.MetricsPlugin.

    `sql_pool_size`, `_checked_out`, `_overflow` and `_waits_total`; nothing while the bus is stopped.
    """

    def __init__(self, plugin: SQLAlchemyPlugin) -> None:
        self._plugin = plugin

    def collect(self) -> Iterator[Metric]:
        """Yield the present figures."""
        try:
            pool = self._plugin.engine.pool
        except RuntimeError:
            return
        if not isinstance(pool, QueuePool):
            return
        yield GaugeMetricFamily("sql_pool_size", "Connections the pool keeps", pool.size())
        yield GaugeMetricFamily("sql_pool_checked_out", "Connections in use", pool.checkedout())
        yield GaugeMetricFamily(
            "sql_pool_overflow", "Connections beyond the pool's size", max(pool.overflow(), 0)
        )
        if isinstance(pool, CountingPool):
            yield CounterMetricFamily(
                "sql_pool_waits", "Requests that found every connection in use", pool.waits
            )
