"""Work as named steps, each with its undo: all are done, or none is."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from kirsch.cluster.provision.record import Interrupted, ProvisionError


@dataclass(frozen=True, slots=True)
class Step:
    """Step of a piece of work, and its undoing, also of a step that was half done."""

    name: str
    do: Callable[[], None]
    undo: Callable[[], None] | None = None


class Show(Protocol):
    """Listener for the progress of steps."""

    def begun(self, name: str) -> None:
        """A step has begun."""

    def done(self, name: str, seconds: float) -> None:
        """Report a finished step and its seconds."""

    def undoing(self, name: str) -> None:
        """Report that a failed or interrupted step is being undone."""


def perform(steps: Sequence[Step], show: Show, undone: str = "nothing is left behind") -> None:
    """Do the steps; if one fails, or on Ctrl-C or SIGTERM, undo all that were begun, the last first.

    Raises ProvisionError (Interrupted, if it was) with the step, the reason, and how things are then: what
    could not be undone, or `undone`.
    """
    begun: list[Step] = []
    with _terminated():
        try:
            for step in steps:
                begun.append(step)
                show.begun(step.name)
                start = time.monotonic()
                step.do()
                show.done(step.name, time.monotonic() - start)
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            reason = "interrupted" if interrupted else str(error)
            if begun:
                show.undoing(begun[-1].name)
            with _uninterrupted():
                left = _undo(begun)
            if not isinstance(error, ProvisionError | OSError | KeyboardInterrupt):
                raise  # a mistake of ours
            named = f"{begun[-1].name}: {reason}" if begun else reason
            rest = f"; left behind: {'; '.join(left)}" if left else f"; {undone}"
            raise (Interrupted if interrupted else ProvisionError)(named + rest) from None


def attempted(steps: Sequence[Step]) -> list[str]:
    """Do each of the steps, also where one before it failed: what went wrong, in words."""
    wrong = []
    for step in steps:
        try:
            step.do()
        except (ProvisionError, OSError) as error:
            wrong.append(f"{step.name}: {error}")
    return wrong


def _undo(begun: Sequence[Step]) -> list[str]:
    """Undo steps; returns the errors of those that could not be undone."""
    left = []
    for step in reversed(begun):
        try:
            if step.undo:
                step.undo()
        except (ProvisionError, OSError) as error:
            left.append(f"{step.name} ({error})")
    return left


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM and SIGHUP are as Ctrl-C. The first counts alone: another would end the wait for what is still
    being ended, and it would go on beside what undoes it."""
    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            raise KeyboardInterrupt

    with _handled(interrupt, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore interrupts, so that undoing is finished."""
    with _handled(lambda *_: None, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def _handled(handler: Callable[..., None], *signals: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    # What is ignored stays so: nohup(1).
    taken = [each for each in signals if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, handler) for each in taken}
    try:
        yield
    finally:
        for each, was in before.items():
            signal.signal(each, was)
