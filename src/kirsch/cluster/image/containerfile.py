"""What kirsch has to know of a Containerfile before podman reads it. Pure. See Containerfile(5)."""

import re
from dataclasses import dataclass, field

NAMES = ("Containerfile", "Dockerfile")
BASE = "BASE"
PACKAGES = "PACKAGES"
# The digest of the wheels that are mounted: declared where a change of them is to be noticed.
WHEELS = "WHEELS"

_VARIABLE = re.compile(r"\$\{?(\w+)\}?")


@dataclass(frozen=True, slots=True)
class Containerfile:
    """Its build arguments with their defaults, and the images that its stages begin with, but for those that
    are stages themselves."""

    arguments: dict[str, str] = field(default_factory=dict)
    bases: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, given: dict[str, str] | None = None) -> "Containerfile":
        """The values of `given` stand in the place of defaults."""
        arguments: dict[str, str] = {}
        bases: list[str] = []
        stages: set[str] = set()
        for word, rest in _instructions(text):
            if word == "ARG":
                for name, value in _pairs(rest):
                    arguments[name] = (given or {}).get(name, value)
            elif word == "FROM":
                words = [each for each in rest.split() if not each.startswith("--")]
                base = _VARIABLE.sub(lambda found: arguments.get(found[1], ""), words[0]) if words else ""
                if base and base not in stages and base != "scratch" and base not in bases:
                    bases.append(base)
                if len(words) == 3 and words[1].upper() == "AS":
                    stages.add(words[2])
        return cls(arguments, tuple(bases))

    @property
    def packages(self) -> tuple[str, ...]:
        """The Debian packages that its base is to have."""
        return tuple(self.arguments.get(PACKAGES, "").split())


def _instructions(text: str) -> list[tuple[str, str]]:
    """Instructions in capitals, each with the rest of its line; continued lines are one."""
    found = []
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\[ \t]*\n", " ", "\n".join(lines)).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word:
            found.append((word.upper(), rest.strip()))
    return found


def _pairs(text: str) -> list[tuple[str, str]]:
    """NAME=VALUE, the value perhaps in quotes; a name alone has none."""
    return [
        (found[1], (found[2] or "").strip("\"'"))
        for found in re.finditer(r"""(\w+)(?:=("[^"]*"|'[^']*'|\S*))?""", text)
    ]
