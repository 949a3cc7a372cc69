"""Selection of the compiled Parser, Protocol and mask, or of their Python reference.

`implementation` names the selected one. `KIRSCH_PURE=1` in the environment selects the reference; both pass
the same tests.
"""

import os
from typing import TYPE_CHECKING

__all__ = ["Parser", "Protocol", "compiled", "implementation", "mask"]

if TYPE_CHECKING or os.environ.get("KIRSCH_PURE", "0") not in ("", "0"):
    compiled = False
else:
    try:
        from kirsch.websocket.compiled import Parser, Protocol, mask

        compiled = True
    except ImportError:
        compiled = False

if TYPE_CHECKING or not compiled:
    from kirsch.websocket.core.frame import mask
    from kirsch.websocket.core.parser import Parser
    from kirsch.websocket.core.protocol import Protocol

implementation = "cython" if compiled else "python"
