"""Sources: the folders of ours, and other people's where ours reaches inside them."""

import hashlib
import inspect
import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Every portion of the namespace packages kirsch and tests, as PYTHONPATH takes them.
PYTHONPATH = os.pathsep.join(
    map(str, (ROOT / "src", *ROOT.glob("packages/*/src"), ROOT, *ROOT.glob("packages/kirsch-*")))
)


def digest(*read: object) -> str:
    """Changes when one of these does: then read the new code, then take the new digest."""
    source = "".join(inspect.getsource(inspect.unwrap(each)) for each in read)
    return hashlib.sha256(source.encode()).hexdigest()
