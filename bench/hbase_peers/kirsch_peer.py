"""The work through kirsch.hbase: `python kirsch_peer.py QUORUM TABLE ROWS GETS WHAT…`, a line for each."""

import sys
import time

from kirsch import hbase


def scan(table: hbase.Table) -> int:
    count = 0
    for row in table.scan():
        for cell in row.cells:
            _ = (cell.row, cell.family, cell.qualifier, cell.timestamp, cell.value)
            count += 1
    return count


def gets(table: hbase.Table, rows: int, count: int) -> int:
    for number in range(count):
        assert table[b"row%08d" % (number * 37 % rows)]["cf:q"]
    return count


quorum, name, rows, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with hbase.connect(quorum) as connection:
    table = connection.table(name)
    for what in sys.argv[5:]:
        begun = time.perf_counter()
        if what == "puts":
            done = table.put_many((b"row%08d" % n, {"cf:q": b"value%d" % n}) for n in range(rows))
        elif what == "scan":
            done = scan(table)
        elif what == "gets":
            done = gets(table, rows, count)
        else:
            done = len(connection.admin.tables())
        print(what, done, time.perf_counter() - begun, flush=True)
