"""Writer to one member of a database, run in its machine's network; and the check of what members took.

`python database_writer.py ADDRESS PASSWORD` prints a line for each row that was acknowledged: its id, the
timeline that it was written on, when it was sent, and when it was acknowledged.
"""

import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import psycopg

PACE = 0.05
# PostgreSQL begins a timeline each time that a member is made the leader.
INSERT = "insert into marks values (%s) returning substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)"


class Accepted(NamedTuple):
    """Row that a member acknowledged."""

    row: str
    member: str
    timeline: int
    sent: float
    acknowledged: float


def by_no_leader(accepted: Iterable[Accepted]) -> list[Accepted]:
    """Return rows that a member took which did not lead: on another's timeline, or sent once a later timeline
    had taken one. Pure."""
    timelines: dict[int, list[Accepted]] = defaultdict(list)
    for each in accepted:
        timelines[each.timeline].append(each)
    found: list[Accepted] = []
    over = float("inf")
    for _, rows in sorted(timelines.items(), reverse=True):
        leader = min(rows, key=lambda each: each.acknowledged).member
        found += [each for each in rows if each.member != leader or each.sent > over]
        over = min(over, *(each.acknowledged for each in rows))
    return found


def main(address: str, password: str) -> None:
    where = {"host": address, "user": "notes", "dbname": "notes", "password": password, "autocommit": True}
    connection: psycopg.Connection | None = None
    while True:
        row, sent = uuid.uuid4().hex, time.monotonic()
        try:
            if connection is None:
                connection = psycopg.connect(**where, connect_timeout=2, tcp_user_timeout=2000)
            (timeline,) = connection.execute(INSERT, [row]).fetchone()
            print(row, int(timeline, 16), sent, time.monotonic(), flush=True)
        except psycopg.Error:
            if connection is not None and connection.broken:
                connection = None
        time.sleep(PACE)


if __name__ == "__main__":
    main(*sys.argv[1:])
