"""A psycopg connection that reports failed transactions, unknown commits and servers that stopped answering.

SQLAlchemy's pool holds these (kirsch.sql.engine makes them). A server that hangs keeps its TCP connections
open, and its own statement_timeout does not run, so the client has to give up: Watchdog does.
"""

import errno
import select
import selectors
import socket
import struct
import threading
import time
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

# A server that is waited for and has given no sign of life for this long is probed, and then has this long to
# answer. Seconds.
PATIENCE = 0.75
PROBE_TIMEOUT = 1.25
# One that was silent a moment ago has this long.
BRIEFLY = 0.25
TICK = 0.25
# The longest time until a connection is ended whose server hangs.
GIVEN_UP = TICK + PATIENCE + PROBE_TIMEOUT
# PostgreSQL's SSLRequest message: any server answers it with one byte, before a login.
SSL_REQUEST = struct.pack("!II", 8, 80877103)

# Errors by which a running kernel refuses for a server that is not running.
_REFUSED = (errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.ENOENT)

Address = tuple[str, int]


class CommitUnknown(psycopg.OperationalError):
    """The connection was lost during COMMIT: the changes may have been saved."""

    commit_unknown = True  # for kirsch.sql.errors, which serves other drivers too


class Connection(psycopg.Connection[Any]):
    """psycopg's Connection, watched while it waits for the server."""

    failure: BaseException | None = None
    """The error that made the present transaction fail, once kirsch.sql.engine has seen one."""
    reading: bool = False
    """True while a session uses it that cannot write; kirsch.sql.engine resets it."""
    _waiting_since: float | None = None
    _interrupted: str = ""
    _socket: socket.socket | None = None
    _watchdog: "Watchdog | None" = None
    address: Address = ("", 0)

    def watch(self, watchdog: "Watchdog") -> None:
        """Have `watchdog` end this connection if its server stops answering."""
        # The watchdog needs a descriptor of its own: psycopg's may be closed at any time, and its number
        # taken by another connection.
        self._socket = socket.socket(fileno=socket.dup(self.fileno()))
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self.address = (self.info.hostaddr or self.info.host, self.info.port)
        self._watchdog = watchdog
        watchdog.add(self)

    def wait(self, *arguments: Any, **options: Any) -> Any:
        """Wait for the server (psycopg calls this for everything that it sends)."""
        self._waiting_since = time.monotonic()
        try:
            return super().wait(*arguments, **options)
        except psycopg.OperationalError as error:
            if self._interrupted:
                raise psycopg.OperationalError(self._interrupted) from error
            raise
        finally:
            self._waiting_since = None

    def read(self) -> None:
        """Begin transactions as READ ONLY until the connection is back in the pool."""
        self.read_only = self.reading = True

    def command_since(self) -> float | None:
        """Return when the command that the server is executing was sent (monotonic), None without one."""
        since = self._waiting_since
        # A connection that waits for notifications is not ACTIVE: it may do so for ever.
        if since is None or self.pgconn.transaction_status != TransactionStatus.ACTIVE:
            return None
        return since

    @property
    def interrupted(self) -> bool:
        """True once its server has stopped answering."""
        return bool(self._interrupted)

    def interrupt(self, reason: str) -> None:
        """End the connection from another thread: its owner gets OperationalError(reason)."""
        self._interrupted = reason
        if self._socket:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended by itself

    def readable(self) -> bool:
        """True if the server sent something unasked, as it does when it ends the connection."""
        return self.closed or bool(self._poll.poll(0))

    def commit(self) -> None:
        """Commit. Raises InFailedSqlTransaction where COMMIT would roll back, CommitUnknown."""
        status = self.pgconn.transaction_status
        if status == TransactionStatus.INERROR:
            raise errors.InFailedSqlTransaction(
                "an error of the database was ignored, and its transaction with all changes is lost"
            ) from self.failure
        if status != TransactionStatus.INTRANS or self.read_only:
            super().commit()
            return
        if self.readable():
            # A connection that was ended before COMMIT has saved nothing: find out while that is certain.
            self.execute("")
        try:
            super().commit()
        except psycopg.OperationalError as error:
            if self.closed:
                raise CommitUnknown(f"the connection was lost during COMMIT: {error}") from error
            raise

    def close(self) -> None:
        """Close the connection and its copy of the socket, and end its watch."""
        super().close()
        if self._watchdog:
            self._watchdog.discard(self)
        if self._socket:
            self._socket.close()


class Watchdog:
    """Thread that ends connections whose server does not answer; it runs while there are connections.

    A statement may be slow: a server that answers a probe is left alone until `limit` seconds have passed
    (None: for ever).
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        # When a server was probed last that answered (monotonic).
        self._heard: dict[Address, float] = {}
        self._connections: WeakSet[Connection] = WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, connection: Connection) -> None:
        """Watch a connection until it is discarded."""
        with self._lock:
            self._connections.add(connection)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sql-watchdog", daemon=True)
                self._thread.start()

    def discard(self, connection: Connection) -> None:
        """Stop watching a connection."""
        with self._lock:
            self._connections.discard(connection)

    def _run(self) -> None:
        while True:
            time.sleep(TICK)
            with self._lock:
                connections = list(self._connections)
                if not connections:
                    self._thread = None
                    return
            self._look(connections, time.monotonic())
            del connections

    def _look(self, connections: Iterable[Connection], now: float) -> None:
        waiting = [(c, since) for c in connections if (since := c.command_since())]
        if any(now - max(since, self._heard.get(c.address, 0.0)) >= PATIENCE for c, since in waiting):
            # All of them at once: one server's silence is not to take the time of another's.
            addresses = {c.address for c, _ in waiting}
            hanging = silent(addresses)
            self._heard = dict.fromkeys(addresses - hanging, now)
            self._interrupt(connections, hanging, PATIENCE, PATIENCE + PROBE_TIMEOUT)
        if self._limit:
            self._interrupt(connections, {c.address for c, _ in waiting}, self._limit, self._limit)

    @staticmethod
    def _interrupt(
        connections: Iterable[Connection], addresses: Collection[Address], least: float, seconds: float
    ) -> None:
        """End the connections to these addresses whose commands have waited for `least` seconds."""
        now = time.monotonic()
        for connection in connections:
            since = connection.command_since()
            if connection.address in addresses and since and now - since >= least:
                connection.interrupt(f"the database has not answered for {seconds:g} s")


def silent(
    addresses: Collection[Address], timeout: float = PROBE_TIMEOUT, doubted: Collection[Address] = ()
) -> set[Address]:
    """Return those of some addresses of PostgreSQL's that do not answer a new connection in time.

    A host is a number or a folder, for names take time themselves. A server that has ended is not silent:
    its kernel refuses. Where all that are left are `doubted`, they are waited for but briefly.
    """
    hanging = set(addresses)
    began = time.monotonic()
    with selectors.PollSelector() as selector, ExitStack() as stack:
        for address in addresses:
            try:
                probe = stack.enter_context(socket.socket(_family(address[0])))
                probe.setblocking(False)
                code = probe.connect_ex(_place(address))
            except OSError:  # no descriptor is left, or this is no address: nothing is known of the server
                hanging.remove(address)
                continue
            if code in _REFUSED:
                hanging.remove(address)
            elif code in (0, errno.EINPROGRESS):
                selector.register(probe, selectors.EVENT_WRITE, address)
        while waiting := {key.data for key in selector.get_map().values()}:
            within = min(BRIEFLY, timeout) if waiting <= set(doubted) else timeout
            if (left := began + within - time.monotonic()) <= 0:
                break
            for key, events in selector.select(left):
                asked, address = key.fileobj, key.data
                assert isinstance(asked, socket.socket)
                try:
                    if not events & selectors.EVENT_READ:
                        asked.send(SSL_REQUEST)
                        selector.modify(asked, selectors.EVENT_READ, address)
                        continue
                    asked.recv(1)
                    hanging.remove(address)
                except OSError as error:
                    if error.errno in _REFUSED:
                        hanging.remove(address)
                selector.unregister(asked)
    return hanging


def _family(host: str) -> socket.AddressFamily:
    if host.startswith("/"):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _place(address: Address) -> Address | str:
    host, port = address
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else address
