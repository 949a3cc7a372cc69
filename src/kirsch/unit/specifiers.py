"""Specifiers: %n, %i and the others that systemd.unit(5) gives for a unit's name."""

import re
from collections.abc import Mapping

from kirsch.unit.error import UnitError
from kirsch.unit.escape import unescape
from kirsch.unit.name import UnitName

# Like systemd, a % before anything else than a letter or a digit stands for itself.
_SPECIFIER = re.compile(r"%([A-Za-z0-9%])")


def expand(text: str, name: UnitName, extra: Mapping[str, str] | None = None) -> str:
    """`text` with the specifiers of `name` replaced; `extra` gives further letters, or others for these.

    %n is the full name, %N that without its type, %p the prefix, %i the instance, %j the prefix after its
    last dash; %P %I %J are the same unescaped; %% is a percent sign. Raises UnitError on an unknown one.
    """

    def value(match: re.Match[str]) -> str:
        letter = match.group(1)
        if extra and letter in extra:
            return extra[letter]
        return _specifier(letter, name, extra or {})

    return _SPECIFIER.sub(value, text)


def uses_instance(text: str) -> bool:
    """True if `text` depends on the instance, and so has no meaning yet in a template."""
    return any(letter in "iInN" for letter in _SPECIFIER.findall(text))


def _specifier(letter: str, name: UnitName, extra: Mapping[str, str]) -> str:
    match letter:
        case "%":
            return "%"
        case "n":
            return name.text
        case "N":
            return name.text.removesuffix(f".{name.type}")
        case "p":
            return name.prefix
        case "P":
            return unescape(name.prefix)
        case "i":
            return name.instance or ""
        case "I":
            return unescape(name.instance or "")
        case "j":
            return name.prefix.rpartition("-")[2]
        case "J":
            return unescape(name.prefix.rpartition("-")[2])
    known = " ".join(f"%{each}" for each in ("n", "N", "p", "P", "i", "I", "j", "J", *sorted(extra)))
    raise UnitError(f"unknown specifier %{letter}; there are {known}, and %% for a percent sign")
