"""Random cells through a real server, and back as they were."""

import random
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kirsch.hbase.scan import BLOCK

pytestmark = pytest.mark.services

places = st.tuples(st.binary(min_size=1, max_size=12), st.binary(max_size=12), st.integers(1, 2**62))
cells = st.dictionaries(places, st.binary(max_size=40), min_size=1, max_size=30)


def written_and_read(table, given):
    """Write cells below a prefix that nobody has, and read them with all versions."""
    prefix = uuid.uuid4().bytes
    with table.mutator() as mutator:
        for (row, qualifier, timestamp), value in given.items():
            mutator.put(prefix + row, {("many", qualifier): value}, timestamp=timestamp)
    return {
        (cell.row.removeprefix(prefix), cell.qualifier, cell.timestamp): cell.value
        for row in table.scan(prefix=prefix, versions=None)
        for cell in row.cells
    }


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells)
def test_cells_come_back(table, given):
    assert written_and_read(table, given) == given


def test_ten_thousand_random_cells_come_back(table):
    chance = random.Random(11)
    given = {}
    while len(given) < 10_000:
        place = (
            chance.randbytes(chance.randrange(1, 30)),
            chance.randbytes(chance.randrange(30)),
            chance.randrange(1, 2**62),
        )
        given[place] = chance.randbytes(chance.choice((0, 1, 8, 100, 1000)))
    assert written_and_read(table, given) == given


def test_every_byte_in_keys_qualifiers_and_values(table):
    given = {(bytes((b,)), bytes((b,)), 1 + b): bytes((b,)) for b in range(256)}
    given |= {(bytes((b, 255 - b)), b"", 7): bytes(range(256)) for b in range(256)}
    assert written_and_read(table, given) == given


def test_a_large_value_and_a_row_of_many_columns(table):
    table[b"large"] = {"cf:a": b"\x00\xff" * 2_500_000}
    table[b"wide"] = {f"cf:{number:05}": b"%d" % number for number in range(10_000)}
    large, wide = table.scan()
    assert large["cf:a"] == b"\x00\xff" * 2_500_000
    assert [cell.value for cell in wide.cells] == [b"%d" % number for number in range(10_000)]


@pytest.mark.parametrize("count", [1, 2, 300])
def test_a_row_is_the_same_by_get_and_by_scan(table, count):
    """It comes over in other forms."""
    values = {("many", b"%03d" % n): bytes(range(n % 257)) * (n % 3) for n in range(count)}
    table.put(b"row", values, timestamp=(1 << 62) + 5)
    (row,) = table.scan()
    assert len(row.cells) == count
    assert table[b"row"].cells == row.cells
    assert table[b"row"] == table.get_many([b"row"])[0]
    assert table.get(b"row", filter="ColumnPaginationFilter(1000, 0)") == row


def test_a_scans_blocks_are_bounded_by_bytes(table):
    """Small rows, then such as a hundred of them are more than memory should hold."""
    large = 1 << 20
    with table.mutator() as mutator:
        for number in range(300):
            mutator.put(b"a%03d" % number, {"cf:a": b"small"})
        for number in range(30):
            mutator.put(b"b%03d" % number, {"cf:a": bytes(large)})
        mutator.put(b"c", {"cf:a": b"small"})
    with table.scan() as scanner:
        blocks = list(iter(scanner.raw_block, None))
    keys = [key for block in blocks for key, _ in block]
    assert keys == [b"a%03d" % n for n in range(300)] + [b"b%03d" % n for n in range(30)] + [b"c"]
    sizes = [sum(len(cell.value) for _, cells in block for cell in cells) for block in blocks]
    assert max(sizes) < BLOCK + large
    assert [row.key for row in table.scan(limit=301)] == keys[:301]
