"""Files of a build's folder that kirsch reads itself: Containerfile(5) and containerignore(5)."""

import re
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from kirsch.cluster.image.reference import ImageError


def text_of(path: Path) -> str:
    """A file's text. Raises ImageError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ImageError(f"{path} is no text in UTF-8") from None


NAMES = ("Containerfile", "Dockerfile")
BASE = "BASE"
PACKAGES = "PACKAGES"
# The digest of the wheels that are mounted: declared where a change of them is to be noticed.
WHEELS = "WHEELS"

# $NAME, ${NAME}, ${NAME:-otherwise}, ${NAME:+instead}.
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([-+])([^}]*))?\})")
# What is taken from another image: COPY --from=, RUN --mount=type=bind,from=.
_FROM = re.compile(r"--(?:from=|mount=(?:.*,)?from=)([^,]+).*")
# Lines that are a step's input, up to one with that word.
_HERE = re.compile(r"(?<=\s)\d*<<-?([\"']?)([A-Za-z_]\w*)\1(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Containerfile:
    """Build arguments of a Containerfile with their defaults, and the images that its stages begin with or
    take files from; stages themselves are left out."""

    arguments: dict[str, str] = field(default_factory=dict)
    bases: tuple[str, ...] = ()
    remote: bool = False
    """True if files come from elsewhere (`ADD https://…`): they change though the folder does not."""

    @classmethod
    def parse(cls, text: str, given: dict[str, str] | None = None) -> "Containerfile":
        """The values of `given` stand in the place of defaults."""
        arguments: dict[str, str] = {}
        bases: list[str] = []
        remote = False
        stages: set[str] = set()
        for word, rest in _instructions(text):
            if word == "ARG":
                for name, value in _pairs(rest):
                    arguments[name] = (given or {}).get(name, value)
                continue
            words = rest.split()
            remote = remote or (word == "ADD" and any("://" in each or "git@" in each for each in words))
            flags = list(takewhile(lambda each: each.startswith("--"), words))
            if word == "FROM":
                used = words[len(flags) : len(flags) + 1]
            else:
                used = [found[1] for each in flags if (found := _FROM.fullmatch(each))]
            images = [_substituted(each, arguments) for each in used]
            bases += [each for each in images if each and each.lower() not in stages and not each.isdecimal()]
            if word == "FROM" and len(words) == len(flags) + 3 and words[-2].upper() == "AS":
                stages.add(words[-1].lower())
        return cls(arguments, tuple(dict.fromkeys(each for each in bases if each != "scratch")), remote)

    @property
    def packages(self) -> tuple[str, ...]:
        """The Debian packages that its base is to have."""
        return tuple(self.arguments.get(PACKAGES, "").split())


def _substituted(text: str, arguments: dict[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        given = arguments.get(found[1] or found[2], "")
        if found[3] == "+":
            return found[4] if given else ""
        return given or found[4] or ""

    return _VARIABLE.sub(value, text).strip("\"'")


def _instructions(text: str) -> list[tuple[str, str]]:
    """Instructions in capitals, each with the rest of its line; continued lines are one."""
    found = []
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    lines = re.sub(r"\\[ \t]*\n", " ", "\n".join(lines)).splitlines()
    alone = {line.strip() for line in lines}
    ends: list[str] = []
    for line in lines:
        word, *rest = line.split(None, 1)[:2] or [""]
        if ends:
            ends = ends[1:] if line.strip() == ends[0] else ends
        elif word:
            found.append((word.upper(), "".join(rest).strip()))
            if word.upper() in ("RUN", "COPY", "ADD"):
                ends = [here[2] for here in _HERE.finditer(line) if here[2] in alone]
    return found


def _pairs(text: str) -> list[tuple[str, str]]:
    """NAME=VALUE, the value perhaps in quotes; a name alone has none."""
    return [
        (found[1], (found[2] or "").strip("\"'"))
        for found in re.finditer(r"""(\w+)(?:=("[^"]*"|'[^']*'|\S*))?""", text)
    ]


# As podman looks for it: one of the Containerfile's own before one of the folder's.
ENDINGS = (".containerignore", ".dockerignore")
# Secrets lie there, and sockets, where an application was up.
STATE = ".kirsch"


def excluded(context: Path, file: Path) -> str:
    """The patterns of what stays out, for podman. Raises ImageError."""
    names = [file.with_name(file.name + ending) for ending in ENDINGS] + [context / name for name in ENDINGS]
    own = next((path for path in names if path.is_file()), None)
    return patterns(text_of(own) if own else "")


def patterns(text: str) -> str:
    """The same patterns, as every podman understands them, and one that nothing takes back. Pure.

    podman 4 keeps a line's last blanks (of a file from Windows, its CR), and the first slash after a !."""
    lines = [line.strip() for line in text.splitlines()]
    plain = [f"!{line[1:].lstrip(' /')}" if line.startswith("!") else line for line in lines]
    return "\n".join([*plain, f"**/{STATE}", ""])
