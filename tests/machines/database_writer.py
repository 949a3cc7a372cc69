"""Writer to one member of a database, run in its machine's network.

`python database_writer.py ADDRESS PASSWORD` prints a line for each row that was acknowledged: its id, when
it was sent, and when that was.
"""

import sys
import time
import uuid

import psycopg

PACE = 0.05


def main(address: str, password: str) -> None:
    where = {"host": address, "user": "notes", "dbname": "notes", "password": password, "autocommit": True}
    connection: psycopg.Connection | None = None
    while True:
        row, sent = uuid.uuid4().hex, time.monotonic()
        try:
            if connection is None:
                connection = psycopg.connect(**where, connect_timeout=2, tcp_user_timeout=2000)
            connection.execute("insert into marks values (%s)", [row])
            print(row, sent, time.monotonic(), flush=True)
        except psycopg.Error:
            if connection is not None and connection.broken:
                connection = None
        time.sleep(PACE)


if __name__ == "__main__":
    main(*sys.argv[1:])
