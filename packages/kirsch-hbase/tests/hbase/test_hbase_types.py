"""Mistakes that a type checker finds in code that uses tables."""

import subprocess
import sys

import pytest

CODE = """
from kirsch.hbase import Table

def read(table: Table) -> None:
    table.scan(limit=1, columns=["cf"], versions=None)
    table.get(b"r", timestamp=1)
    table.scan(limt=1)
    table.get(b"r", versions="all")
    table.exists(b"r", colums=["cf"])
"""


@pytest.mark.slow
def test_options_that_there_are_not(tmp_path):
    (tmp_path / "code.py").write_text(CODE)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", f"--cache-dir={tmp_path}"]
    done = subprocess.run([*mypy, str(tmp_path / "code.py")], capture_output=True, text=True, cwd=tmp_path)
    lines = [
        line.split(": ", 1)[0].rpartition(":")[2] for line in done.stdout.splitlines() if "error" in line
    ]
    assert [line for line in lines if line.isdigit()] == ["7", "8", "9"], done.stdout + done.stderr
    assert 'Unexpected keyword argument "limt"' in done.stdout
