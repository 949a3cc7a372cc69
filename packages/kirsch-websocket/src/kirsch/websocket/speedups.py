"""What every message goes through, compiled where they could be: `implementation` says which run.

`KIRSCH_PURE=1` in the environment takes the Python versions: they pass the same tests.
"""

import os
from typing import TYPE_CHECKING

__all__ = ["Parser", "Protocol", "Pump", "compiled", "implementation", "mask"]

if TYPE_CHECKING or os.environ.get("KIRSCH_PURE", "0") not in ("", "0"):
    compiled = False
else:
    try:
        from kirsch.websocket.compiled import Parser, Protocol, Pump, mask

        compiled = True
    except ImportError:
        compiled = False

if TYPE_CHECKING or not compiled:
    from kirsch.websocket.frame import mask
    from kirsch.websocket.parser import Parser
    from kirsch.websocket.protocol import Protocol
    from kirsch.websocket.pump import Pump

implementation = "cython" if compiled else "python"
