"""Mistakes that a type checker finds in code that uses tables."""

import re
import subprocess
import sys

import pytest

CODE = """
from kirsch.hbase import LONG, UTF8, Connection, Table, composite

def read(table: Table) -> None:
    table.scan(limit=1, columns=["cf"], versions=None)
    table.get(b"r", timestamp=1)
    table.scan(limt=1)  # wrong
    table.get(b"r", versions="all")  # wrong
    table.exists(b"r", colums=["cf"])  # wrong
    table.count(limt=1)  # wrong
    table.page(10, colums=["cf"])  # wrong
    table.get_many([b"r"], timestamp=1)  # wrong

def typed(hbase: Connection) -> None:
    notes: Table[str, int] = hbase.table("notes", key=UTF8, value=LONG)
    notes["first"] = {"text:words": 5}
    found = notes["first"]["text:words"] + 1
    key: str = next(notes.scan(prefix="f")).key
    notes[b"first"]  # wrong
    notes["first"] = {"text:words": "five"}  # wrong
    key = found  # wrong
    notes.scan(start=1)  # wrong
    with notes.batch() as batch:
        batch.put("first", {"text:words": None})  # wrong
    raw: Table[bytes, bytes] = hbase.table("notes")
    mixed = hbase.table("notes", key=UTF8, value={"text:words": LONG, "": UTF8})
    mixed["first"] = {"text:words": 5, "text:body": "Hello"}
    mixed[b"first"]  # wrong
    points = hbase.table("points", key=composite(UTF8, LONG), value=LONG)
    points["cpu", 5] = {"v:": 1}
    points.scan(prefix=("cpu",), limit=3)
    points[5, "cpu"]  # wrong
"""


@pytest.mark.slow
def test_mistakes_with_tables_that_a_type_checker_finds(tmp_path):
    (tmp_path / "code.py").write_text(CODE)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", f"--cache-dir={tmp_path}"]
    done = subprocess.run([*mypy, str(tmp_path / "code.py")], capture_output=True, text=True, cwd=tmp_path)
    found = {int(number) for number in re.findall(r"^code\.py:(\d+): error", done.stdout, re.M)}
    wrong = {number for number, line in enumerate(CODE.splitlines(), 1) if line.endswith("# wrong")}
    assert found == wrong, done.stdout + done.stderr
    assert 'Unexpected keyword argument "limt"' in done.stdout
