"""Cells in Arrow's and pandas' columns, by what codecs they have; blocks of cells stand for a scan."""

import pytest

from kirsch.hbase import BYTES, LONG, UTF8, Cell, Codec, export
from kirsch.hbase.cell import DELETE
from kirsch.hbase.row import Codecs

pytest.importorskip("pyarrow", reason="kirsch-hbase[frames] is not installed")
HEX = Codec("hex", bytes.fromhex, bytes.hex)
NAMES = ["row", "family", "qualifier", "timestamp", "value"]


class Blocks:
    """What a Scanner gives to those that export it."""

    def __init__(self, codecs, *blocks):
        self.codecs = codecs
        self.blocks = list(blocks)
        self.closed = False

    def raw_block(self):
        return self.blocks.pop(0) if self.blocks else None

    def close(self):
        self.closed = True


def block(*values):
    return [(b"\x01", [Cell(b"\x01", b"cf", b"q", 5, value) for value in values])]


@pytest.mark.parametrize(
    ("codecs", "row", "value", "types"),
    [
        (Codecs(), b"\x01", b"\x02", ("binary", "binary")),
        (Codecs(HEX, HEX), "01", "02", ("string", "string")),
        (Codecs(HEX, {"cf": LONG}), "01", b"\x02", ("string", "binary")),
        (Codecs(BYTES, Codec("half", bytes, lambda data: data[0] / 2)), b"\x01", 1.0, ("binary", "double")),
    ],
)
def test_own_codecs_too(codecs, row, value, types):
    scan = Blocks(codecs, block(b"\x02"), block(b"\x02", b"\x02"))
    table = export.cells(scan)
    assert scan.closed
    assert table.column_names == NAMES
    assert (str(table.schema.field("row").type), str(table.schema.field("value").type)) == types
    assert [line["row"] for line in table.to_pylist()] == [row] * 3
    assert [line["value"] for line in table.to_pylist()] == [value] * 3


def test_nothing_has_the_columns_of_something():
    codecs = Codecs(UTF8, LONG)
    something = export.cells(Blocks(codecs, block(bytes(8))))
    nothing = export.cells(Blocks(codecs))
    assert nothing.num_rows == 0
    assert nothing.schema == something.schema
    assert export.cells(Blocks(Codecs(HEX))).column_names == NAMES


def test_marks_of_deletes_have_no_value():
    mark = [(b"\x01", [Cell(b"\x01", b"cf", b"q", 5, b"", DELETE)])]
    assert export.cells(Blocks(Codecs(BYTES, LONG), mark, block(bytes(8))))["value"].to_pylist() == [None, 0]
