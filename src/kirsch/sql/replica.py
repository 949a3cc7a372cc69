"""Replica of a database: an engine that reads there, and a look each second at how far it is behind."""

import logging
import threading

from sqlalchemy import URL, text

from kirsch.sql.engine import Timeouts, database_url, make_engine

log = logging.getLogger("kirsch.sql")

# Seconds between two looks.
LOOK = 1.0
# A standby that replayed all that it received has everything, however long ago the last change was. One that
# receives nothing may lack anything: its receiver ends when it has heard nothing for wal_receiver_timeout.
_BEHIND = text("""
    SELECT CASE
        WHEN NOT pg_is_in_recovery() THEN 0
        WHEN NOT EXISTS (SELECT FROM pg_stat_wal_receiver) THEN NULL
        WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
        ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8
    END
""")


class Replica:
    """An engine whose connections lead to a replica, of several hosts to one that is a standby.

    `near` is True while that is `lag` seconds behind at most, as the last look() found.
    """

    def __init__(self, url: str | URL, lag: float, timeouts: Timeouts | None, **options: object) -> None:
        parsed = database_url(url)
        if "target_session_attrs" not in parsed.query:
            parsed = parsed.update_query_dict({"target_session_attrs": "prefer-standby"})
        self.engine = make_engine(parsed, timeouts, **options)
        self.lag = lag
        self.near = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replica look", daemon=True)

    def start(self) -> None:
        """Look from now on, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the look that is under way, and close the connections."""
        self._over.set()
        self._thread.join()
        self.near = False
        self.engine.dispose()

    def look(self) -> None:
        """Find out how far it is behind."""
        try:
            with self.engine.connect() as connection:
                behind = connection.execute(_BEHIND).scalar_one()
            reason = "it receives nothing" if behind is None else f"it is {behind:.1f} s behind"
            near = behind is not None and behind <= self.lag
        # A look that failed in an unknown way is none of a replica that is near.
        except Exception as error:
            reason, near = str(getattr(error, "orig", error)).strip().split("\n")[0], False
        if near is not self.near:
            log.info("reads go to the replica" if near else f"reads do not go to the replica: {reason}")
        self.near = near

    def _run(self) -> None:
        while not self._over.wait(LOOK):
            self.look()
