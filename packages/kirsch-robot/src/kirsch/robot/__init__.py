"""Keywords for Robot Framework suites: `Library    kirsch.robot`."""

from importlib.util import find_spec

if find_spec("robot") is None or find_spec("playwright") is None:
    from kirsch.install import pip_install

    raise ImportError(f"kirsch.robot needs Robot Framework and Playwright: {pip_install('kirsch-robot')}")

# Robot Framework takes the class that is called what the module is called.
from kirsch.robot.library import Library as robot  # noqa: N813

__all__ = ["robot"]
