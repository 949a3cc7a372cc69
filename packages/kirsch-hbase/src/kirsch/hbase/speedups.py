"""What every cell of a scan goes through, compiled where it could be: `implementation` says which runs.

`KIRSCH_PURE=1` in the environment takes the Python version: it passes the same tests.
"""

import os
from typing import TYPE_CHECKING

__all__ = ["compiled", "decode_rows", "implementation"]

if TYPE_CHECKING or os.environ.get("KIRSCH_PURE", "0") not in ("", "0"):
    compiled = False
else:
    try:
        from kirsch.hbase.compiled import decode_rows

        compiled = True
    except ImportError:
        compiled = False

if TYPE_CHECKING or not compiled:
    from kirsch.hbase.cell import decode_rows

implementation = "cython" if compiled else "python"
