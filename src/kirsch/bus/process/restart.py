"""Restarts of a process: values in, a decision out. Times are seconds on the caller's clock."""

from dataclasses import dataclass
from signal import SIGHUP, SIGINT, SIGPIPE, SIGTERM
from typing import Literal

from kirsch.bus.process.child import Exit

CLEAN_SIGNALS = (SIGHUP, SIGINT, SIGTERM, SIGPIPE)  # systemd.service(5), SuccessExitStatus=


@dataclass(frozen=True, slots=True)
class Backoff:
    """Growing delays, in seconds: `first`, then `factor` times as long each time, never over `most`."""

    first: float = 0.1
    factor: float = 2.0
    most: float = 30.0

    def __post_init__(self) -> None:
        if self.first < 0 or self.most < self.first or self.factor < 1:
            raise ValueError("a backoff has delays of 0 or more seconds that do not shrink")

    def delay(self, failures: int) -> float:
        """The delay after `failures` quick failures in a row; 0 is the first."""
        try:
            return min(self.most, self.first * self.factor**failures)
        except OverflowError:
            return self.most


@dataclass(frozen=True, slots=True)
class Limit:
    """No more than `starts` starts within `interval` seconds."""

    starts: int = 10
    interval: float = 60.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Terms of a restart. A run of `settled` seconds or more ends the row of quick failures."""

    restart: Literal["always", "on-failure", "no"] = "on-failure"
    backoff: Backoff = Backoff()
    limit: Limit | None = Limit()
    settled: float = 10.0

    def __post_init__(self) -> None:
        if self.restart not in ("always", "on-failure", "no"):
            raise ValueError(f"restart is always, on-failure or no, not {self.restart!r}")


@dataclass(frozen=True, slots=True)
class History:
    """Starts of a process, oldest first, and how many of its last runs in a row were short."""

    starts: tuple[float, ...] = ()
    failures: int = 0

    def started(self, now: float, policy: Policy) -> "History":
        """With a start at `now`; those the limit no longer looks at are forgotten."""
        since = now - policy.limit.interval if policy.limit else now
        return History((*(start for start in self.starts if start > since), now), self.failures)


@dataclass(frozen=True, slots=True)
class Again:
    """Start again after `delay` seconds, with this history."""

    delay: float
    history: History


@dataclass(frozen=True, slots=True)
class Done:
    """Leave it: it ended as it may."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Leave it: it failed, and why."""

    reason: str


def after_exit(policy: Policy, history: History, how: Exit, now: float) -> Again | Done | Failed:
    """Decide about a process that ended at `now`."""
    clean = how.ok or (how.signal in CLEAN_SIGNALS and not how.lost)
    if policy.restart == "no" or (policy.restart == "on-failure" and clean):
        return Done() if clean else Failed(str(how))
    ran = now - history.starts[-1] if history.starts else 0.0
    failures = 0 if ran >= policy.settled else history.failures
    delay = policy.backoff.delay(failures)
    if policy.limit is not None:
        since = now + delay - policy.limit.interval
        recent = sum(start > since for start in history.starts)
        if recent >= policy.limit.starts:
            return Failed(f"started {recent} times within {policy.limit.interval:g} s, last {how}")
    return Again(delay, History(history.starts, failures + 1))
