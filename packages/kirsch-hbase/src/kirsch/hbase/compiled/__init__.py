"""Decoder of a scan's cells and encoder of puts: the compiled ones where they could be built, else the Python
ones of kirsch.hbase.cell and kirsch.hbase.mutation.

`KIRSCH_PURE=1` in the environment selects Python, which passes the same tests; `implementation` names the
choice.
"""

import os
from typing import TYPE_CHECKING

from kirsch.hbase.cell import decode_rows
from kirsch.hbase.mutation import put

__all__ = ["compiled", "decode_rows", "implementation", "put"]

compiled = False
if not TYPE_CHECKING and os.environ.get("KIRSCH_PURE", "0") in ("", "0"):
    try:
        from kirsch.hbase.compiled.block import decode_rows, put

        compiled = True
    except ImportError:
        pass

implementation = "cython" if compiled else "python"
