"""Progress of a build, read from podman's output as events. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

WIDTH = 72
# How many lines of a step that fails are shown.
LAST = 12
# Of a longer line its end, for the reason stands there.
LONGEST = 400

_STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP (\d+)/(\d+): (.*)")
# podman's own picture of an instruction that it does not know.
_INSIDE = re.compile(r" &imagebuilder\.Step\{.*")
_NOISE = re.compile(r"(--> |COMMIT |Successfully tagged |time=\"|[0-9a-f]{64}$|\[Warning\])")


@dataclass(frozen=True, slots=True)
class Begun:
    """A step has begun."""

    name: str


@dataclass(frozen=True, slots=True)
class Cached:
    """The step that has begun was taken from the cache."""


@dataclass(slots=True)
class Progress:
    """Reads lines; keeps the last ones that the step under way wrote."""

    step: str = ""
    lines: list[str] = field(default_factory=list)

    def read(self, line: str) -> Iterator[Begun | Cached]:
        """Yield the events of one line."""
        text = line.rstrip()
        if found := _STEP.match(text):
            self.step = shortened(f"{found[1]}/{found[2]} {' '.join(found[3].split())}")
            self.lines.clear()
            yield Begun(self.step)
        elif text.startswith("--> Using cache"):
            yield Cached()
        elif text and not _NOISE.match(text):
            self.lines = [*self.lines, _INSIDE.sub("", text)[-LONGEST:]][-LAST:]


def shortened(text: str) -> str:
    """A step as it stands in a line."""
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


def reason(lines: list[str]) -> tuple[list[str], str]:
    """A failed build's last lines, and what podman itself said, as short as it can be said."""
    said = [line for line in lines if line.startswith("Error:")]
    others = [line for line in lines if not line.startswith("Error:")]
    last = said[-1].removeprefix("Error: ") if said else (others[-1] if others else "podman said nothing")
    status = re.search(r"exit status (\d+)$", last)
    if status:
        return others, f"exit status {status[1]}"
    return others, re.sub(r'^building at STEP ".*?": ', "", last, flags=re.DOTALL)
