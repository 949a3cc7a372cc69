"""SQLAlchemy's engine as kirsch uses it: psycopg, timeouts, and writing only in transactions that may."""

import logging
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy import URL, Engine, NullPool, PoolProxiedConnection, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.sql.functions import Function, FunctionElement
from sqlalchemy.sql.selectable import SelectBase

if TYPE_CHECKING:
    from kirsch.sql.connection import Connection

log = logging.getLogger("kirsch.sql")

# An idle connection that a firewall or a power cut has severed says nothing; after this many seconds it is
# asked before it is used.
PING_AFTER_IDLE = 30.0
# Seconds for which a host that did not answer is waited for but briefly: while nobody leads all requests ask.
DOUBTED = 5.0
# Waiting does not mend these. For a refused connection libpq gives no SQLSTATE, only the server's text.
HOPELESS = ("authentication failed", "no password supplied", "does not exist")

_IDLE = 0  # libpq's PQTRANS_IDLE
_IN_ERROR = 3  # libpq's PQTRANS_INERROR
READ_ONLY = "25006"  # read_only_sql_transaction
_ABORTED = "25P02"  # in_failed_sql_transaction: a consequence of another error
# libpq's URL of several hosts, which SQLAlchemy writes as postgresql://USER@/DATABASE?host=A:5432&host=B:5432.
_SEVERAL = re.compile(r"(postgres(?:ql)?(?:\+psycopg)?://(?:[^/?#]*@)?)([^/?#@]*,[^/?#@]*)([^?#]*)\??(.*)")
_plain: "WeakKeyDictionary[Any, bool]" = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits on waiting for the database, in seconds.

    With the defaults a request is answered within 5 s if the database hangs, and if all of several hosts do:
    it may wait for a connection of the pool, and then `GIVEN_UP` s at most until
    kirsch.sql.connection.Watchdog gives up, or for a new connection (`PROBE_TIMEOUT` where there are several
    addresses, and `connect`).
    """

    pool: float = 1.5  # for a free connection of the pool
    connect: int = 2  # for a new connection, each address that answers; psycopg knows no shorter
    statement: float = 30.0  # for a statement (statement_timeout); 0: no limit
    network: float = 4.0  # for the other end's kernel (tcp_user_timeout)


class StartError(Exception):
    """The database cannot be used; str() is one line for a person who starts the application."""


class DatabaseUnavailable(StartError):
    """The database did not answer in time, or refuses us."""


def database_url(url: str | URL) -> URL:
    """Return the URL with its driver: postgres:// and postgresql:// mean psycopg 3.

    Several hosts may stand in it, as libpq has them: postgresql://notes@10.0.0.1,10.0.0.2:5433/notes.
    """
    if isinstance(url, str) and (found := _SEVERAL.fullmatch(url)):
        before, hosts, path, query = found.groups()
        named = "&".join(f"host={host}" for host in hosts.split(","))
        url = f"{before}{path or '/'}?{named}" + (f"&{query}" if query else "")
    parsed = make_url(url)
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def place(url: URL) -> str:
    """Return HOST:PORT/DATABASE for messages: no user, no password."""
    port = f":{url.port}" if url.port else ""
    hosts = url.query.get("host", ()) if not url.host else f"{url.host}{port}"
    named = hosts if isinstance(hosts, str) else ",".join(hosts)
    return f"{named or 'localhost'}/{url.database or ''}"


def make_engine(
    url: str | URL, timeouts: Timeouts | None = None, hosts: "Hosts | None" = None, **options: Any
) -> Engine:
    """Return create_engine(url, **options) with connections that are checked at checkout, and `timeouts`.

    The check costs no round trip (as pool_pre_ping does): see _check_at_checkout. A connection's default is
    read-only: transactions that may write begin as READ WRITE, so what runs outside of one cannot write.

    Of several hosts the one is used that takes writes (target_session_attrs=read-write), unless the URL says
    otherwise; where another takes over, connections to the old one are given up. `hosts` is for who wants a
    say in their order. Other drivers than psycopg get pool_pre_ping and nothing else.
    """
    parsed = database_url(url)
    if parsed.get_driver_name() != "psycopg":
        return create_engine(parsed, **{"pool_pre_ping": True, **options})
    engine = create_engine(parsed, **{"pool_reset_on_return": None, **options})
    _connect(engine, timeouts or Timeouts(), hosts or Hosts())
    _check_at_checkout(engine)
    _reset_at_checkin(engine)
    _choose_transactions(engine)
    return engine


def _connect(engine: Engine, timeouts: Timeouts, hosts: "Hosts") -> None:
    from kirsch.sql.connection import Connection, Watchdog

    settings = {
        "connect_timeout": timeouts.connect,
        "tcp_user_timeout": int(timeouts.network * 1000),
        "keepalives_idle": 10,
        "keepalives_interval": 2,
        "keepalives_count": 2,
    }
    session = f"-c default_transaction_read_only=on -c statement_timeout={int(timeouts.statement * 1000)}"
    # The server ends a statement at `statement`; twice that is for a process of the server that is stuck.
    watchdog = Watchdog(timeouts.statement * 2 or None)

    @event.listens_for(engine, "do_connect")
    def _open(dialect: Any, record: Any, arguments: Any, parameters: dict[str, Any]) -> "Connection":
        given = settings | hosts.answering(hosts.ordered(parameters))
        given["options"] = f"{session} {parameters.get('options', '')}".rstrip()
        connection = Connection.connect(*arguments, **given)
        hosts.remember(connection.info.host, str(connection.info.port))
        _permit_writing(connection)
        connection.watch(watchdog)
        return connection


class Hosts:
    """Order in which the hosts of a URL are asked: first the one that answered last, last those to avoid."""

    def __init__(self) -> None:
        self._last: tuple[str, str] | None = None
        self._avoided: frozenset[tuple[str, str]] = frozenset()
        # Addresses that did not answer, and until when that is remembered (monotonic).
        self._silent: dict[tuple[str, int], float] = {}

    def remember(self, host: str, port: str) -> None:
        """Ask this host first from now on."""
        self._last = host, port

    def avoid(self, host: str, port: str) -> None:
        """Ask this host after all others from now on, until they are to be avoided too."""
        self._avoided |= {(host, port)}

    def _rank(self, host: str, port: str) -> tuple[bool, bool]:
        place = host, port or "5432"
        return place in self._avoided, place != self._last

    def ordered(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return libpq's parameters of a connection with its hosts in order."""
        hosts = str(parameters.get("host", "")).split(",")
        if parameters.get("target_session_attrs") == "read-write" or (
            len(hosts) > 1 and "target_session_attrs" not in parameters
        ):
            # Our sessions are read-only by default, so to libpq none of them is read-write.
            parameters = parameters | {"target_session_attrs": "primary"}
        ports = str(parameters.get("port", "")).split(",")
        if len(hosts) < 2 or len(ports) not in (1, len(hosts)):
            return parameters
        pairs = list(zip(hosts, ports if len(ports) > 1 else ports * len(hosts), strict=True))
        if len(self._avoided) >= len(pairs):
            self._avoided = frozenset()
        pairs.sort(key=lambda pair: self._rank(*pair))
        if self._avoided:
            parameters = parameters | {"load_balance_hosts": "disable"}
        return parameters | {
            "host": ",".join(host for host, _ in pairs),
            "port": ",".join(port for _, port in pairs),
        }

    def answering(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return libpq's parameters of a connection without the addresses that do not answer.

        Each would take `Timeouts.connect` seconds, one after the other. A single address is not asked first.
        Raises OperationalError where none is left.
        """
        from psycopg import OperationalError

        if "hostaddr" in parameters or not parameters.get("host"):
            return parameters
        hosts, ports = parameters["host"].split(","), str(parameters.get("port") or 5432).split(",")
        pairs = zip(hosts, ports if len(ports) > 1 else ports * len(hosts), strict=False)
        places, named = [], set()
        for host, port in pairs:
            try:
                places += [(host, each, port or "5432") for each in _addresses(host)]
                named.add(host)
            except OSError:
                pass  # a name that leads to whoever takes writes leads nowhere while nobody does
        if not places or (len(places) < 2 and len(named) == len(set(hosts))):
            return parameters  # libpq says which name it does not know
        hanging = self._hanging({(address, int(port)) for _, address, port in places})
        left = [place for place in places if (place[1], int(place[2])) not in hanging]
        if not left:
            raise OperationalError(f"none of {len(places)} addresses of {parameters['host']} answers")
        return parameters | {
            "host": ",".join(host for host, _, _ in left),
            "hostaddr": ",".join("" if host == address else address for host, address, _ in left),
            "port": ",".join(port for _, _, port in left),
        }

    def _hanging(self, asked: set[tuple[str, int]]) -> set[tuple[str, int]]:
        """Return those of some addresses that do not answer."""
        from kirsch.sql.connection import silent

        now = time.monotonic()
        doubted = {address for address, until in self._silent.items() if until > now}
        hanging = silent(asked, doubted=doubted)
        known = self._silent
        self._silent = {each: known.get(each, now) if each in doubted else now + DOUBTED for each in hanging}
        return hanging


def _addresses(host: str) -> list[str]:
    """Return the addresses of a host, which may be a folder with a socket. Raises OSError."""
    if host.startswith("/"):
        return [host]
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


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
        if time.monotonic() - idle_since < PING_AFTER_IDLE and not connection.readable():
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            if connection.interrupted:
                raise  # a new connection would be waited for in vain, and the client has waited enough
            raise InvalidatePoolError from error


def _reset_at_checkin(engine: Engine) -> None:
    """Roll back what was left open and undo what a session changed of its connection.

    After a commit there is nothing to roll back, and asking psycopg to do so is work.
    """

    @event.listens_for(engine, "reset")
    def _reset(connection: Any, record: Any, state: Any) -> None:
        if connection.pgconn.transaction_status != _IDLE:
            connection.rollback()
        connection.failure = None
        connection.reading = False
        if connection.autocommit:
            connection.autocommit = False
        if connection.read_only is not False:
            _permit_writing(connection)
        if connection.info.parameter_status("default_transaction_read_only") == "off":
            connection.execute("RESET default_transaction_read_only")
            connection.commit()


def _permit_writing(connection: "Connection") -> None:
    """Have transactions begin as READ WRITE, which a standby would refuse."""
    standby = connection.info.parameter_status("in_hot_standby") == "on"
    connection.read_only = None if standby else False


def _choose_transactions(engine: Engine) -> None:
    """Run plain SELECTs of read-only sessions by themselves, in one round trip instead of three.

    READ COMMITTED, PostgreSQL's default, gives each statement a snapshot of its own anyway. Everything else
    begins a transaction, READ ONLY in such a session.
    """

    # The dialect's events: one of the engine's would have SQLAlchemy look for listeners at every step.
    @event.listens_for(engine, "do_execute")
    @event.listens_for(engine, "do_executemany")
    def _choose(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        driver = cursor.connection
        if driver.pgconn.transaction_status != _IDLE:
            return
        if driver.reading:
            plain = _is_plain(context) and _reads_by_default(driver)
            if driver.autocommit is not plain:
                driver.autocommit = plain
        elif driver.autocommit and _reads_by_default(driver):
            # isolation_level="AUTOCOMMIT" was asked for, and its statements may write.
            driver.execute("SET default_transaction_read_only = off")

    @event.listens_for(engine, "do_execute_no_params")
    def _choose_without_parameters(cursor: Any, statement: str, context: Any) -> None:
        _choose(cursor, statement, None, context)

    @event.listens_for(engine, "handle_error")
    def _remember(context: Any) -> None:
        driver = context.connection and context.connection.connection.driver_connection
        error = context.original_exception
        if driver and _moved(driver, error):
            # The pool lets go of this connection, and of all that are as old.
            context.is_disconnect = True
        if driver and driver.pgconn.transaction_status == _IN_ERROR and error.sqlstate != _ABORTED:
            driver.failure = error


def _moved(driver: "Connection", error: BaseException) -> bool:
    """True if a server refuses to write because it is a standby: another one leads by now."""
    refused = getattr(error, "sqlstate", None) == READ_ONLY and not driver.reading
    return refused and driver.info.parameter_status("in_hot_standby") == "on"


def _reads_by_default(driver: "Connection") -> bool:
    # PostgreSQL reports each change of this setting (from 14 on), so asking for it is no round trip.
    return driver.info.parameter_status("default_transaction_read_only") == "on"


def _is_plain(context: Any) -> bool:
    """True for a SELECT that means the same outside of a transaction and is fetched at once."""
    options = context.execution_options
    if "isolation_level" in options or options.get("stream_results") or options.get("yield_per"):
        return False
    compiled = context.compiled
    if compiled is None:
        return False
    plain = _plain.get(compiled)
    if plain is None:
        # SQLAlchemy keeps what it has compiled, so each statement of a program is looked at once.
        plain = _plain[compiled] = _only_selects(compiled.statement)
    return plain


def _only_selects(statement: Any) -> bool:
    # Text and unknown functions may be for the transaction, as set_config() and advisory locks are.
    return isinstance(statement, SelectBase) and not any(
        isinstance(part, TextClause) or (isinstance(part, FunctionElement) and not _is_standard(part))
        for part in visitors.iterate(statement)
    )


def _is_standard(function: FunctionElement[Any]) -> bool:
    # func.count and the like have classes of their own in SQLAlchemy; any other name has Function's.
    return type(function) is not Function and type(function).__module__ == Function.__module__


class CountingPool(QueuePool):
    """A QueuePool; `waits` is how often all of its connections were in use when one was asked for."""

    def __init__(self, creator: Any, pool_size: int = 5, max_overflow: int = 10, **options: Any) -> None:
        super().__init__(creator, pool_size, max_overflow, **options)
        self.waits = 0
        self._most = pool_size + max_overflow

    def connect(self) -> PoolProxiedConnection:
        """Return a connection, waited for if need be."""
        # Threads may meet here, and one count be lost: a lock for each request would cost more than it tells.
        if self.checkedout() >= self._most:
            self.waits += 1
        return super().connect()


def delays(first: float = 0.1, longest: float = 2.0) -> Iterator[float]:
    """Yield seconds to wait after each failure: doubling, up to `longest`."""
    delay = first
    while True:
        yield delay
        delay = min(delay * 2, longest)


def wait_for_database(url: str | URL, timeout: float = 60.0) -> None:
    """Return once a connection to `url` can be made. Raises DatabaseUnavailable after `timeout` seconds.

    A wrong password or a database that does not exist raises it at once.
    """
    parsed = database_url(url)
    engine = make_engine(parsed, poolclass=NullPool)
    start, told = time.monotonic(), ""
    for delay in delays():
        try:
            with engine.connect():
                break
        except DBAPIError as error:
            reason = str(error.orig).strip().split("\n")[0]
        waited = time.monotonic() - start
        if any(words in reason for words in HOPELESS):
            raise DatabaseUnavailable(f"the database at {place(parsed)} refuses us: {reason}")
        if waited + delay > timeout:
            raise DatabaseUnavailable(f"no database at {place(parsed)} after {timeout:g} s: {reason}")
        if reason != told:
            log.info("waiting for the database at %s: %s", place(parsed), reason)
            told = reason
        time.sleep(delay)
    if told:
        log.info("the database at %s answers after %.1f s", place(parsed), time.monotonic() - start)
