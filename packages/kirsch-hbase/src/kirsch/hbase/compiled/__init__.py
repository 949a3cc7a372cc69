"""Decoder of a scan's cells: the compiled one where it could be built, else the Python one of
kirsch.hbase.cell.

`KIRSCH_PURE=1` in the environment selects Python, which passes the same tests; `implementation` names the
choice.
"""

import os
from typing import TYPE_CHECKING

from kirsch.hbase.cell import decode_rows

__all__ = ["compiled", "decode_rows", "implementation"]

compiled = False
if not TYPE_CHECKING and os.environ.get("KIRSCH_PURE", "0") in ("", "0"):
    try:
        from kirsch.hbase.compiled.block import decode_rows

        compiled = True
    except ImportError:
        pass

implementation = "cython" if compiled else "python"
