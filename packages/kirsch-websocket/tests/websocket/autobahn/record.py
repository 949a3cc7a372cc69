"""What runs of Autobahn came to, kept in a file: an agent's 517 cases may be run a few at a time."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tests.websocket.autobahn.suite import Outcome


@dataclass(frozen=True, slots=True)
class Run:
    """Cases of one agent that were run together.

    Attributes:
        kind: "server" or "client".
        agent: its name.
        date: when, in ISO 8601.
        where: Python, and the versions of what the providers run on.
        beside: what else the machine did.
        seconds: how long it took.
        sections: of "12.1", or "12" where no more is known, how many cases passed and how many were run.
        failures: the verdicts on those that did not pass.
        others: the verdicts on those that passed and are not plainly OK.
        kinds: how many of those there were, where it is not known which.
        load: the machine's load average before and after, if it was looked at.
    """

    kind: str
    agent: str
    date: str
    where: str
    beside: str
    seconds: float
    sections: dict[str, tuple[int, int]]
    failures: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)

    @property
    def counted(self) -> Counter[str]:
        """How many cases passed without being plainly OK, by their verdicts."""
        return Counter(self.others.values()) + Counter(self.kinds)


def of(kind: str, outcome: Outcome, date: str, where: str, beside: str, load: list[float]) -> Run:
    """The record of a run that has just ended."""
    sections: dict[str, tuple[int, int]] = {}
    for case, verdict in outcome.verdicts.items():
        passed, run = sections.get(_section(case), (0, 0))
        sections[_section(case)] = passed + verdict.passed, run + 1
    others = {
        case: verdict.behavior
        for case, verdict in outcome.verdicts.items()
        if verdict.passed and verdict.behavior != "OK"
    }
    return Run(
        kind,
        outcome.agent.name,
        date,
        where,
        beside,
        round(outcome.seconds),
        sections,
        outcome.failures,
        others,
        load=[round(average, 1) for average in load],
    )


def load(path: Path) -> list[Run]:
    """The runs in a file; none if it is not there."""
    if not path.exists():
        return []
    runs = [Run(**run) for run in json.loads(path.read_text())]
    # JSON has no tuples.
    return [
        replace(run, sections={name: (passed, count) for name, (passed, count) in run.sections.items()})
        for run in runs
    ]


def save(path: Path, runs: Iterable[Run]) -> None:
    """A line for each."""
    lines = [json.dumps(asdict(run)) for run in runs]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def merged(runs: Iterable[Run], new: Run) -> list[Run]:
    """All runs with a new one, which replaces what was known of the same cases, unless it has fewer."""
    kept: list[Run] = []
    for run in runs:
        if (run.kind, run.agent) == (new.kind, new.agent):
            for section, (_, count) in run.sections.items():
                again = [name for name in new.sections if _overlap(name, section)]
                if not again:
                    continue
                if sum(new.sections[name][1] for name in again) >= count:
                    run = _without(run, [section])
                else:
                    new = _without(new, again)
        if run.sections:
            kept.append(run)
    return [*kept, new] if new.sections else kept


def _without(run: Run, sections: list[str]) -> Run:
    def stays(case: str) -> bool:
        return not any(_overlap(case, section) for section in sections)

    return replace(
        run,
        sections={name: counts for name, counts in run.sections.items() if name not in sections},
        failures={case: verdict for case, verdict in run.failures.items() if stays(case)},
        others={case: verdict for case, verdict in run.others.items() if stays(case)},
        # Which they were nobody knows.
        kinds={},
    )


def _section(case: str) -> str:
    return ".".join(case.split(".")[:2])


def _overlap(one: str, other: str) -> bool:
    """Whether one is part of the other: 12.1.3 of 12.1, 12.1 of 12."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")
