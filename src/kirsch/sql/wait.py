"""Wait at start-up until the database answers."""

import logging
import time
from collections.abc import Iterator

from sqlalchemy import URL, NullPool
from sqlalchemy.exc import DBAPIError

from kirsch.sql.engine import database_url, make_engine, place

log = logging.getLogger("kirsch.sql")

# Waiting does not mend these. For a refused connection libpq gives no SQLSTATE, only the server's text.
HOPELESS = ("authentication failed", "no password supplied", "does not exist")


class StartError(Exception):
    """The database cannot be used; str() is one line for a person who starts the application."""


class DatabaseUnavailable(StartError):
    """The database did not answer in time, or refuses us."""


def delays(first: float = 0.1, longest: float = 2.0) -> Iterator[float]:
    """Seconds to wait after each failure: doubling, up to `longest`."""
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
