"""A scan's cells in columns: for Arrow, pandas, and what reads these; and a pandas frame as rows to put."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kirsch.hbase.cell import PUT
from kirsch.hbase.codec import BOOLEAN, BYTES, DOUBLE, FLOAT, INT, JSON, LONG, SHORT, UTF8, Codec
from kirsch.hbase.errors import HBaseError
from kirsch.hbase.row import Codecs, Row, column
from kirsch.install import pip_install

if TYPE_CHECKING:
    from kirsch.hbase.scan import Scanner

# Arrow's types for what codecs give; JSON stays text. Of others Arrow finds the type itself.
_TYPES = {
    BYTES: "binary", UTF8: "string", JSON: "string", LONG: "int64", INT: "int32", SHORT: "int16",
    DOUBLE: "float64", FLOAT: "float32", BOOLEAN: "bool_",
}  # fmt: skip


def batches(scanner: "Scanner") -> Iterator[Any]:
    """A pyarrow.RecordBatch for each block of a scan: row, family, qualifier, timestamp, value, a line a
    cell. Values are decoded where the table has one codec for all, else they are bytes."""
    pyarrow = _pyarrow()
    codecs = scanner.codecs
    kind = codecs.single
    types = _types(pyarrow, codecs)
    decode = None if kind in (None, BYTES) else _decoder(kind or BYTES)
    key = codecs.key.decode if codecs.key is not BYTES else None
    try:
        while (block := scanner.raw_block()) is not None:
            cells = [cell for _, members in block for cell in members]
            keys = [cell.row for cell in cells]
            if decode is None:
                values = [cell.value for cell in cells]
            else:
                # The marks that deletes leave, which a raw scan shows, have none.
                values = [decode(cell.value) if cell.type == PUT else None for cell in cells]
            columns = {
                "row": keys if key is None else [key(one) for one in keys],
                "family": [cell.family for cell in cells],
                "qualifier": [cell.qualifier for cell in cells],
                "timestamp": [cell.timestamp for cell in cells],
                "value": values,
            }
            arrays = {name: pyarrow.array(column, types[name]) for name, column in columns.items()}
            # What Arrow has found in the first block holds for all: they are to be one table.
            types = {name: array.type for name, array in arrays.items()}
            yield pyarrow.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
    finally:
        scanner.close()


def cells(scanner: "Scanner") -> Any:
    """All of a scan's cells as a pyarrow.Table, as `batches` has them."""
    pyarrow = _pyarrow()
    found = list(batches(scanner))
    if found:
        return pyarrow.Table.from_batches(found)
    types = _types(pyarrow, scanner.codecs)
    return pyarrow.schema([(name, kind or pyarrow.null()) for name, kind in types.items()]).empty_table()


def _types(pyarrow: Any, codecs: Codecs) -> dict[str, Any]:
    """Arrow's types of the columns; None where it finds it itself."""
    return {
        "row": _type(pyarrow, codecs.key),
        "family": pyarrow.binary(),
        "qualifier": pyarrow.binary(),
        "timestamp": pyarrow.timestamp("ms"),
        "value": _type(pyarrow, codecs.single or BYTES),
    }


def wide(scanner: "Scanner") -> Any:
    """A scan as a pyarrow.Table: a line a row, a column for `row` and for each HBase column by its name, with
    its newest value, or null."""
    pyarrow = _pyarrow()
    codecs = scanner.codecs
    keys: list[Any] = []
    columns: dict[bytes, dict[int, Any]] = {}
    kinds: dict[bytes, Codec[Any]] = {}
    for index, row in enumerate(_rows(scanner)):
        keys.append(row.key)
        for name, value in _newest(row):
            if name not in columns:
                columns[name] = {}
                family, _, qualifier = name.partition(b":")
                kinds[name] = codecs.of(family, qualifier)
            columns[name][index] = value
    arrays = [pyarrow.array(keys, _type(pyarrow, codecs.key))]
    for name in sorted(columns):
        found, decode = columns[name], _decoder(kinds[name])
        values = [decode(found[index]) if index in found else None for index in range(len(keys))]
        arrays.append(pyarrow.array(values, _type(pyarrow, kinds[name])))
    names = ["row", *(name.decode(errors="backslashreplace") for name in sorted(columns))]
    return pyarrow.table(arrays, names=names)


def frame(scanner: "Scanner") -> Any:
    """A scan as a pandas.DataFrame: indexed by the rows' keys, a column for each HBase column, its newest
    value."""
    try:
        import pandas
    except ImportError:
        raise HBaseError(f"pandas is not installed: {pip_install('kirsch-hbase[frames]')}") from None
    codecs = scanner.codecs
    keys: list[Any] = []
    lines: list[dict[str, Any]] = []
    for row in _rows(scanner):
        keys.append(row.key)
        line = {}
        for name, value in _newest(row):
            family, _, qualifier = name.partition(b":")
            line[name.decode(errors="backslashreplace")] = codecs.of(family, qualifier).decode(value)
        lines.append(line)
    # A key of several parts stays one label.
    index = pandas.Index(keys, name="row", dtype=object, tupleize_cols=False)
    made = pandas.DataFrame(lines, index=index)
    return made[sorted(made.columns)]


def puts(frame: Any, codecs: Codecs) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield the rows of a pandas.DataFrame as keys and values; what is missing is left out, and rows without
    values are."""
    names = [str(name) for name in frame.columns]
    whole = {name for name in names if codecs.of(*column(name)) in (LONG, INT, SHORT)}
    values = frame.astype(object).where(frame.notna(), None)
    for key, *line in values.itertuples(name=None):
        given = {name: value for name, value in zip(names, line, strict=True) if value is not None}
        # pandas keeps whole numbers as floats where some of the column are missing.
        for name in whole & set(given):
            if isinstance(given[name], float) and given[name].is_integer():
                given[name] = int(given[name])
        if given:
            yield key, given


def _rows(scanner: "Scanner") -> Iterator[Row]:
    """Rows with their keys decoded and their values as they came."""
    try:
        while (block := scanner.raw_block()) is not None:
            for key, members in block:
                yield Row(key, members, scanner.codecs)
    finally:
        scanner.close()


def _newest(row: Row) -> Iterator[tuple[bytes, bytes]]:
    seen: set[bytes] = set()
    for cell in row.raw:
        if cell.column not in seen:
            seen.add(cell.column)
            yield cell.column, cell.value


def _decoder(kind: Codec[Any]) -> Any:
    return (lambda data: data.decode()) if kind is JSON else kind.decode


def _type(pyarrow: Any, kind: Codec[Any]) -> Any:
    named = _TYPES.get(kind)
    return getattr(pyarrow, named)() if named else None


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise HBaseError(f"pyarrow is not installed: {pip_install('kirsch-hbase[frames]')}") from None
    return pyarrow
