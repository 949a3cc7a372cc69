"""Keywords for Robot Framework suites: `Library    kirsch.robot` (`pip install kirsch-robot`)."""

from importlib.util import find_spec

if find_spec("robot") is None or find_spec("playwright") is None:
    raise ImportError("kirsch.robot needs Robot Framework and Playwright: pip install kirsch-robot")

# Robot Framework takes the class that is called what the module is called.
from kirsch.robot.library import Library as robot  # noqa: N813

__all__ = ["robot"]
