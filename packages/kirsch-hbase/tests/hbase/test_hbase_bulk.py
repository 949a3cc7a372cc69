"""Bulk load: in a process of its own, for its JVM has other jars."""

import json
import subprocess
import sys

import pytest

from kirsch.hbase import jars

pytestmark = [pytest.mark.services, pytest.mark.soak, pytest.mark.timeout(600)]
LOAD = """
import json, sys
from pathlib import Path
from kirsch.hbase import LONG, UTF8, Invalid, NotFound, connect, jars
quorum, name, folder = sys.argv[1:]
with connect(quorum, patience=60, jars=jars.cached(jars.bulk())) as hbase:
    family = {"name": "text", "bloom": "ROWCOL", "compression": "gz"}
    hbase.admin.create(name, family, "count", splits=[b"m"])
    table = hbase.table(name, key=UTF8, value={"text": UTF8, "count": LONG})
    table["a00007"] = {"count:n": -1}
    keys = [f"{letter}{number:05}" for letter in "ax" for number in range(3000)]
    # Columns in any order.
    rows = ((key, {"text:b": "Grüße", "text:a": key, "count:n": number}) for number, key in enumerate(keys))
    told = {"loaded": table.bulk_load(rows, folder)}
    told["same"] = [row.key for row in table.scan()] == keys
    told["row"] = {str(column, "ascii"): value for column, value in table["x00000"].items()}
    told["newest"] = table["a00007"]["count:n"]
    for wrong, kind in (([("b", {"count:n": 1}), ("a", {"count:n": 1})], Invalid), ([], None)):
        try:
            assert table.bulk_load(wrong, folder) == 0 and kind is None
        except Invalid as error:
            told["refused"] = str(error)
    table.bulk_load([("old", {"count:n": 5})], folder, timestamp=1000)
    told["time"] = table["old"].cell("count:n").timestamp
    try:
        hbase.table(name + "x").bulk_load([("a", {"text:a": "b"})], folder)
    except NotFound as error:
        told["absent"] = str(error)
    told["left"] = [path.name for path in Path(folder).iterdir()]
print(json.dumps(told))
"""


def test_rows_are_loaded_as_files(hbase, client, name, tmp_path):
    jars.fetch(jars.bulk(), print)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, hbase.quorum, name, str(tmp_path)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "loaded": 6000,
        "same": True,
        "row": {"text:a": "x00000", "text:b": "Grüße", "count:n": 3000},
        "newest": 7,
        "refused": (
            "rows to be loaded are sorted by their keys' bytes, and each is there once: b'a' comes after b'b'"
        ),
        "time": 1000,
        "absent": f"there is no table {name}x",
        "left": [],
    }


def test_other_jars_cannot(table, tmp_path):
    """Those of the client lack what writes files, and say so before a row is read."""
    from kirsch.hbase import NoJars

    with pytest.raises(NoJars, match=r"jars of kirsch\.hbase\.jars\.bulk"):
        table.bulk_load(iter(lambda: pytest.fail("a row was read"), None), tmp_path)
