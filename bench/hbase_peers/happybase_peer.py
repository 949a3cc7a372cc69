"""The work through happybase and Thrift: `python happybase_peer.py HOST:PORT TABLE ROWS GETS WHAT…`."""

import sys
import time

import happybase


def scan(table) -> int:
    count = 0
    for row, columns in table.scan(include_timestamp=True, batch_size=1000):
        for column, (value, timestamp) in columns.items():
            family, _, qualifier = column.partition(b":")
            _ = (row, family, qualifier, timestamp, value)
            count += 1
    return count


host, _, port = sys.argv[1].rpartition(":")
rows, count = int(sys.argv[3]), int(sys.argv[4])
connection = happybase.Connection(host, int(port), timeout=120_000)
table = connection.table(sys.argv[2])
for what in sys.argv[5:]:
    begun = time.perf_counter()
    if what == "puts":
        with table.batch(batch_size=2000) as batch:
            for n in range(rows):
                batch.put(b"row%08d" % n, {b"cf:q": b"value%d" % n})
        done = rows
    elif what == "scan":
        done = scan(table)
    elif what == "gets":
        for n in range(count):
            assert table.row(b"row%08d" % (n * 37 % rows))[b"cf:q"]
        done = count
    else:
        done = len(connection.tables())
    print(what, done, time.perf_counter() - begun, flush=True)
