"""Replica of a database: an engine that reads there, and looks at how far its servers are behind."""

import logging
import threading
import time
from contextlib import ExitStack
from typing import Any

import psycopg
from sqlalchemy import URL, event, text
from sqlalchemy.exc import DisconnectionError, TimeoutError

from kirsch.sql.engine import Hosts, Timeouts, database_url, make_engine

log = logging.getLogger("kirsch.sql")

# Seconds between two looks, and how long one holds where the next is late.
LOOK = 1.0
HOLDS = 3 * LOOK
# A connection that looks could not ask, because it was in use or is new, is asked when it is taken.
FRESH = 4 * LOOK
# A standby that replayed all that it received has everything, however long ago the last change was. One that
# receives nothing may lack anything: its receiver ends when it has heard nothing for wal_receiver_timeout.
_BEHIND = """
    SELECT CASE
        WHEN NOT pg_is_in_recovery() THEN 0
        WHEN NOT EXISTS (SELECT FROM pg_stat_wal_receiver) THEN NULL
        WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
        ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8
    END
"""


class Replica:
    """An engine whose connections lead to a replica, of several hosts to one that is a standby.

    `near` is True while a server is `lag` seconds behind at most, as the last look() found. Connections may
    lead to several servers, by the hosts of the URL or by a proxy: those to servers that are farther behind
    are given up, and new ones lead elsewhere where there is another.
    """

    def __init__(self, url: str | URL, lag: float, timeouts: Timeouts | None, **options: object) -> None:
        parsed = database_url(url)
        if "target_session_attrs" not in parsed.query:
            parsed = parsed.update_query_dict({"target_session_attrs": "prefer-standby"})
        self._hosts = Hosts()
        self.engine = make_engine(parsed, timeouts, self._hosts, **options)
        self.lag = lag
        self._near = False
        self._looked = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replica look", daemon=True)
        if parsed.get_driver_name() == "psycopg":
            event.listen(self.engine, "checkout", self._check)

    @property
    def near(self) -> bool:
        """True while reads may go there."""
        return self._near and time.monotonic() - self._looked < HOLDS

    def start(self) -> None:
        """Look from now on, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the look that is under way, and close the connections."""
        self._over.set()
        self._thread.join()
        self._near = False
        self.engine.dispose()

    def look(self) -> None:
        """Find out by each idle connection how far its server is behind."""
        near, reason, began = False, "", time.monotonic()
        try:
            with ExitStack() as stack:
                # The pool gives the one that was idle longest, so that each is taken once.
                for _ in range(max(1, self._idle())):
                    connection = stack.enter_context(self.engine.connect())
                    behind = connection.execute(text(_BEHIND)).scalar_one()
                    if self._is_near(behind):
                        near = True
                        connection.info["looked"] = began
                    else:
                        reason = _words(behind)
                        self._leave(connection.connection.driver_connection)
                        connection.invalidate()
        except TimeoutError:
            # All are in use, and each is asked when it is taken.
            near = self._near
        # A look that failed in an unknown way is none of a replica that is near.
        except Exception as error:
            near, reason = False, str(getattr(error, "orig", error)).strip().split("\n")[0]
        self._looked = time.monotonic()
        self._settle(near, reason)

    def _settle(self, near: bool, reason: str = "") -> None:
        if near is not self._near:
            log.info("reads go to the replica" if near else f"reads do not go to the replica: {reason}")
        self._near = near

    def _idle(self) -> int:
        pool: Any = self.engine.pool
        return int(pool.checkedin()) if hasattr(pool, "checkedin") else 1

    def _is_near(self, behind: float | None) -> bool:
        return behind is not None and behind <= self.lag

    def _leave(self, driver: Any) -> None:
        self._hosts.avoid(driver.info.host, str(driver.info.port))

    def _check(self, driver: Any, record: Any, proxy: Any) -> None:
        """Give up a connection to a server that is far behind, and one in its place that is no better."""
        now = time.monotonic()
        if now - record.info.get("looked", 0.0) < FRESH:
            return
        driver.autocommit = True
        try:
            (behind,) = driver.execute(_BEHIND).fetchone()
        except psycopg.Error as error:
            if driver.interrupted:
                raise  # the client has waited enough
            raise DisconnectionError(str(error)) from error
        driver.autocommit = False
        if self._is_near(behind):
            record.info["looked"] = now
            record.record_info["left"] = False
            return
        self._leave(driver)
        if not record.record_info.get("left"):
            record.record_info["left"] = True
            raise DisconnectionError(_words(behind))
        record.record_info["left"] = False
        self._settle(False, _words(behind))
        raise psycopg.OperationalError(f"there is no replica that is near enough: {_words(behind)}")

    def _run(self) -> None:
        while not self._over.wait(LOOK):
            self.look()


def _words(behind: float | None) -> str:
    return "it receives nothing" if behind is None else f"it is {behind:.1f} s behind"
