"""A real PostgreSQL in the foreground: `python -m kirsch.sql.postgres`.

Its environment is that of docker's official image (https://hub.docker.com/_/postgres):

    POSTGRES_USER           the superuser (postgres)
    POSTGRES_PASSWORD       its password; or POSTGRES_PASSWORD_FILE, a file that holds it. Needed once, to
                            make the database
    POSTGRES_DB             a database to make with it (the user's name)
    POSTGRES_INITDB_ARGS    more arguments for initdb
    PGDATA                  where data lies ($STATE_DIRECTORY/data, or ./data)
    PGPORT                  the port (5432)

and kirsch's own:

    KIRSCH_ADDRESS          the address to listen on (127.0.0.1)
    KIRSCH_POSTGRES_BIN     a folder with `postgres` and `initdb`, instead of the wheel's
    KIRSCH_POSTGRES_USER    whom root runs the server as (the owner of PGDATA, else postgres, else nobody)

Arguments are given to `postgres` as they are, so `-c shared_buffers=1GB` sets what it sets there. The
process becomes `postgres` itself: SIGINT is its fast shutdown, SIGTERM waits for clients to go, so a unit has
KillSignal=SIGINT.
"""

from kirsch.sql.postgres.binaries import Binaries, client
from kirsch.sql.postgres.settings import PostgresError, Settings

__all__ = ["Binaries", "PostgresError", "Settings", "client"]
