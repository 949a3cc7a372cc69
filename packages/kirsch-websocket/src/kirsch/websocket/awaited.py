"""What `connect(...)` and `serve(...)` are on a loop before they are awaited."""

import warnings
from typing import Any, NoReturn


class Awaited:
    """Says what to write to whoever forgets it."""

    # Nothing has been awaited yet.
    _due = False

    def __getattr__(self, name: str) -> Any:
        self._due = False
        called = type(self).__name__
        raise AttributeError(f"{called}(...) has no {name} before it is awaited: {_how(called)}")

    def __enter__(self) -> NoReturn:
        self._due = False
        raise TypeError(f"on a loop it is `async with {type(self).__name__}(...)`")

    def __exit__(self, *_: object) -> None:
        """`__enter__` has raised."""

    def __del__(self) -> None:
        if self._due:
            called = type(self).__name__
            warnings.warn(f"{called}(...) was never awaited: {_how(called)}", RuntimeWarning, 2, self)


def _how(called: str) -> str:
    return f"`await {called}(...)`, or `async with {called}(...)`"
